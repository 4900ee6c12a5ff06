"""Filters: everything that can be said, said right, and everything else refused with its place."""

import math
from typing import Any

import pytest
from hypothesis import given, settings

from stepwell_storage.errors import Invalid
from stepwell_storage.filters import (
    And,
    Comparison,
    Expression,
    Field,
    Group,
    In,
    IsNull,
    Not,
    Or,
    Value,
    parse,
    parse_order,
    predicates,
)
from stepwell_storage.records import RunQuery
from stepwell_storage.tenant import Tenant
from tests.storage.naive_filters import FILTERS, Case
from tests.storage.run_sets import TEXTS, Logged, RunSet, log_into, random_runs


@pytest.fixture(scope="module", params=[1, 2])
def run_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    return RunSet(tmp_path_factory.mktemp("runs"), random_runs(request.param, 60))


# --- meaning -------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(case=FILTERS)
def test_every_filter_finds_what_plain_python_finds(run_set: RunSet, case: Case) -> None:
    runs, reader = run_set
    expected = {run.run_id for run in runs if case.holds(run)}
    page = reader.find(filter=case.text, lifecycle="all", limit=1_000)
    assert {run.run_id for run in page.runs} == expected
    assert page.total == len(expected)


def with_loss(*values: float) -> list[Logged]:
    return [
        Logged(f"{n:032x}", f"run {n}", "", "Default", "running", n, metrics={"loss": [value]})
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("metrics.loss > 0.3", [1, 4]),
        ("metrics.loss < 0.3", [2, 3, 5, 6]),
        ("metrics.loss = 0", [2, 3]),
        ("metrics.loss >= -0.0 and metrics.loss <= +0.0", [2, 3]),
        ("metrics.loss = nan", [0]),
        ("metrics.loss != nan", [1, 2, 3, 4, 5, 6, 7]),
        ("metrics.loss > nan or metrics.loss <= nan", []),
        ("metrics.loss != 0.3", [0, 1, 2, 3, 4, 5, 6]),
        ("metrics.loss = inf", [4]),
        ("metrics.loss = -Infinity", [5]),
        ("metrics.loss in (nan, 0, -inf)", [0, 2, 3, 5]),
        ("metrics.loss not in (nan, 0, -inf)", [1, 4, 6, 7]),
        ("metrics.loss > 1e400", []),
        ("metrics.loss >= 1e400", [4]),
        ("metrics.absent != 1", []),
        ("not metrics.absent = 1", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("not metrics.absent != 1", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("min(metrics.loss) is null", [0]),
        ("metrics.loss is null", []),
        ("count(metrics.loss) = 1", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
async def test_non_finite_values_and_zeros_compare_as_documented(
    tenant: Tenant, filter: str, found: list[int]
) -> None:
    values = (float("nan"), 0.5, 0.0, -0.0, float("inf"), float("-inf"), -1.0, 0.3)
    await log_into(tenant, with_loss(*values))
    page = await tenant.search(RunQuery(filter=filter, order_by=("start_time",)))
    assert [run.start_time for run in page.runs] == found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a%", ["a", "a%", "a\\", "a_", "ab"]),
        ("a_", ["a%", "a\\", "a_", "ab"]),
        (r"a\%", ["a%"]),
        (r"a\_", ["a_"]),
        (r"a\\", ["a\\"]),
        ("a\\", ["a\\"]),
        (r"a\b", []),
        ("%", sorted(TEXTS)),
        ("x_y", ["x\ny"]),
        ("_", ["9", "A", "a", "É", "é"]),
        ("XGB%", ["XGBoost"]),
        ("%日本%", ["日本語"]),
        ("", [""]),
    ],
)
async def test_like_knows_case_wildcards_and_escapes(
    tenant: Tenant, pattern: str, found: list[str]
) -> None:
    await log_into(tenant, named(TEXTS))
    quoted = "'" + pattern.replace("\\", "\\\\").replace("'", "''") + "'"
    page = await tenant.search(RunQuery(filter=f"name like {quoted}", order_by=("name",)))
    assert [run.name for run in page.runs] == found
    page = await tenant.search(RunQuery(filter=f"name not like {quoted}", order_by=("name",)))
    assert [run.name for run in page.runs] == sorted(set(TEXTS) - set(found))


async def test_ilike_folds_the_letters_a_to_z_and_no_others(tenant: Tenant) -> None:
    await log_into(tenant, named(TEXTS))

    async def found(pattern: str) -> list[str]:
        page = await tenant.search(RunQuery(filter=f"name ilike '{pattern}'", order_by=("name",)))
        return [run.name for run in page.runs]

    assert await found("xgBOOST") == ["XGBoost", "xgboost"]
    assert await found("É") == ["É"]
    assert await found("A") == ["A", "a"]


def named(names: list[str]) -> list[Logged]:
    return [Logged(f"{n:032x}", name, "", "Default", "running", n) for n, name in enumerate(names)]


async def test_a_number_that_was_logged_is_found_by_itself(tenant: Tenant) -> None:
    """Also where no double holds it: it is rounded when it is logged, and when it is asked for."""
    seed = 14695981039346656037
    runs = with_loss(float(2**53 + 1), float(seed), math.inf)
    for run, value in zip(runs, (2**53 + 1, seed, 10**390), strict=True):
        run.params = {"seed": str(value)}
    await log_into(tenant, runs)

    async def found(filter: str) -> list[int]:
        page = await tenant.search(RunQuery(filter=filter, order_by=("start_time",)))
        return [run.start_time for run in page.runs]

    for key in ("metrics.loss", "params.seed"):
        assert await found(f"{key} = {2**53 + 1}") == [0]
        assert await found(f"{key} in ({seed}, {seed + 4096})") == [1]
        assert await found(f"{key} != {seed}") == ([0, 2] if key == "metrics.loss" else [0])
        assert await found(f"{key} < {seed}") == [0]
        assert await found(f"{key} = {10**390}") == []  # which is no infinity
    assert await found(f"metrics.loss > {10**390}") == [2]
    assert await found(f"params.seed = '{10**390}'") == [2]
    assert await found("params.seed = '9007199254740993'") == [0]


async def test_times_and_counts_are_compared_exactly(tenant: Tenant) -> None:
    runs = named(["early", "late"])
    for run, start in zip(runs, (2**53, 2**53 + 1), strict=True):
        run.start_time = start
    await log_into(tenant, runs)
    page = await tenant.search(RunQuery(filter=f"start_time = {2**53 + 1}"))
    assert [run.name for run in page.runs] == ["late"]


async def test_what_looks_like_sql_is_data(tenant: Tenant) -> None:
    attacks = [
        "'; drop table run; --", "' or 1=1 --", '" or ""="', "\\' or 1=1 --", "%' or '%'='",
        "1); delete from param where (1=1", "? ? ?", ":name @name $1", "/*", "*/ or true",
    ]  # fmt: skip
    runs = named(attacks)
    for run, attack in zip(runs, attacks, strict=True):
        run.params = {attack: attack}
        run.tags = {attack: attack}
    await log_into(tenant, runs)
    for number, attack in enumerate(attacks):
        text = "'" + attack.replace("\\", "\\\\").replace("'", "''") + "'"
        key = '"' + attack.replace("\\", "\\\\").replace('"', '""') + '"'
        for filter in (
            f"name = {text}",
            f"params.{key} = {text}",
            f"tags.{key} in ({text})",
            f"not params.{key} is null",
        ):
            page = await tenant.search(RunQuery(filter=filter))
            assert [run.start_time for run in page.runs] == [number], filter
        page = await tenant.search(RunQuery(order_by=(f"params.{key}", f"tags.{key} desc")))
        assert page.runs[0].start_time == number
        assert page.total == len(attacks)


# --- the tree ------------------------------------------------------------------------------------


def tree(text: str) -> Expression:
    expression = parse(text)
    assert expression is not None
    return expression


def field(entity: Any, key: str, position: int, aggregate: Any = None) -> Field:
    return Field(entity, key, aggregate, position)


def test_the_tree_holds_what_was_written_and_where() -> None:
    text = "metric.loss<+.5 AND (tags.`a b` not like 'x''%' Or NOT max(metrics.m) IN (1, 'b'))"
    loss = Comparison(field("metrics", "loss", 0), "<", Value(0.5, "+.5", 12), 11)
    tag = Comparison(field("tags", "a b", 21), "not like", Value("x'%", "'x''%'", 41), 32)
    values = (Value(1, "1", 74), Value("b", "'b'", 77))
    largest = In(field("metrics", "m", 59, "max"), values, False, 70)
    assert tree(text) == And((loss, Group(Or((tag, Not(largest, 51)), 21), 20)), 0)
    assert [predicate.field.key for predicate in predicates(tree(text))] == ["loss", "a b", "m"]


def test_not_binds_tighter_than_and_and_and_tighter_than_or() -> None:
    expression = tree("not a = 1 and b = 2 or c = 3")
    match expression:
        case Or(parts=(And(parts=(Not(inner=Comparison()), Comparison())), Comparison())):
            pass
        case _:
            pytest.fail(f"parsed as {expression}")


def test_everything_after_the_first_dot_is_the_key() -> None:
    for text, key in [
        ("tags.mlflow.parentRunId", "mlflow.parentRunId"),
        ("metrics.val/acc:top-1", "val/acc:top-1"),
        ("params.0.lr", "0.lr"),
        ("metrics.größe_日本", "größe_日本"),
        ('params."a.b = c"', "a.b = c"),
        ("params.`a``b\\`c`", "a`b`c"),
        ('params."a\\\\b\\c"', "a\\b\\c"),
        ("metrics.and", "and"),
        ("tags.null", "null"),
    ]:
        assert tree(f"{text} is null") == IsNull(
            field(text.split(".")[0], key, 0), False, len(text) + 1
        )


def test_nothing_is_a_filter_that_finds_everything() -> None:
    assert parse("") is None
    assert parse(" \n\t ") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metrics.loss <", "at character 15: expected a number or a text in quotes, found the end"),
        ("metrics.loss < 0.3 and", "at character 23: expected a field"),
        ("params.model = xgboost", "at character 16: expected a number or a text in quotes (text"),
        ("params.model == 'a'", "at character 14: write = instead of =="),
        ("params.model <> 'a'", "at character 14: write != instead of <>"),
        ("name = 'a' && name = 'b'", "at character 12: write and instead of &&"),
        ("loss < 0.3", "at character 1: unknown attribute loss: the attributes are run_id, name"),
        ("metric_loss.x < 1", "at character 1: unknown entity metric_loss"),
        ("metrics. < 1", 'at character 9: expected a key after "metrics."'),
        ('metrics."" < 1', "at character 9: an empty key"),
        ('metrics."a".b < 1', "at character 12: unexpected '.'"),
        ('metrics.a"b" < 1', "at character 10: quote the whole key"),
        ("metrics.'a' < 1", "at character 9: quote the whole key"),
        ("name = 'a", "at character 8: this ' is never closed"),
        ('name = "a\\"', 'at character 8: this " is never closed'),
        ("metrics.loss < 1.2.3", "at character 16: 1.2.3 is no number"),
        ("metrics.loss < 5and name = 'a'", "at character 16: 5and is no number"),
        ("metrics.loss < 1e", "at character 16: 1e is no number"),
        ("metrics.loss < '1'", "at character 16: a metric is a number"),
        ("metrics.loss like '1'", "at character 19: a metric is a number"),
        ("start_time > '2024'", "at character 14: start_time is a number"),
        ("tags.team = 5", "at character 13: a tag is text and is compared with text: write '5'"),
        ("status = nan", "at character 10: status is text"),
        ("metrics.loss in ()", "at character 18: expected a number"),
        ("metrics.loss in (1, )", "at character 21: expected a number"),
        ("metrics.loss in 1", "at character 17: expected ( and a list of values"),
        ("metrics.loss in (1 2)", "at character 20: expected , or )"),
        ("metrics.loss is 5", "at character 17: expected NULL or NOT NULL, found 5"),
        ("metrics.loss not 5", "at character 18: expected IN, LIKE or ILIKE"),
        ("tags.a like `b`", "at character 13: expected a pattern in quotes"),
        ("(name = 'a'", "at character 12: expected AND, OR or ), found the end"),
        ("name = 'a')", "at character 11: expected AND, OR or the end, found )"),
        ("name = 'a' name = 'b'", "at character 12: expected AND, OR or the end, found name"),
        ("mean(metrics.loss) < 1", "at character 1: unknown function mean"),
        ("min(params.lr) < 1", "at character 5: min() is of metrics only"),
        ("min(metrics.loss < 1", "at character 18: expected )"),
        ("'name' = 'a'", "at character 1: expected a field"),
        ("5 < metrics.loss", "at character 1: expected a field"),
        ("and", "at character 1: expected a field"),
        ("name = 'a\0b'", "at character 10: the character U+0000 cannot stand here"),
        ("name = 'a\ud800b'", "at character 10: the character U+D800 cannot stand here"),
        ("name = 'a'; drop table run", "at character 11: unexpected ';'"),
        (f"start_time < {'9' * 401}", "at character 14: a number of more than 400 digits"),
    ],
)
def test_refused_with_the_character_and_what_was_expected(
    run_set: RunSet, text: str, message: str
) -> None:
    with pytest.raises(Invalid) as caught:
        run_set.reader.find(filter=text)
    assert str(caught.value).startswith(message)
    assert caught.value.path == "filter"


# --- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "metrics.loss sideways", "metrics.loss asc desc", "loss", "5"]
)
def test_an_order_names_what_is_wrong(run_set: RunSet, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        run_set.reader.find(order_by=(text,))
    assert caught.value.path == "order_by"
    assert "at character" in str(caught.value)


def test_an_order_is_ascending_unless_it_says_desc() -> None:
    assert not parse_order("metrics.loss").descending
    assert not parse_order("metrics.loss ASC").descending
    assert parse_order("max(metrics.loss) Desc").descending
