"""Filters that somebody means no good by, and filters that nobody meant: refused, and quickly."""

import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from stepwell_storage.errors import Invalid, LimitExceeded
from stepwell_storage.records import RunQuery
from stepwell_storage.tenant import Tenant
from tests.storage.run_sets import FileReader, Logged, RunSet, log_into, random_runs


@pytest.fixture(scope="module")
def run_set(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    return RunSet(tmp_path_factory.mktemp("runs"), random_runs(1, 60))


# --- bounds --------------------------------------------------------------------------------------


def nested(levels: int, predicate: str = "name = 'a'") -> str:
    """AND within OR within AND ..."""
    text = predicate
    for level in range(levels):
        text = f"({predicate} {('and', 'or')[level % 2]} {text})"
    return text


@pytest.mark.parametrize(
    "text",
    [
        "not " * 101 + "name = 'a'",
        "(" * 101 + "name = 'a'" + ")" * 101,
        "(" * 9_999,
        "not(" * 2_499,
        "name = 'a' and " * 700,
        nested(60),
    ],
    ids=["nots", "parentheses", "open", "mixed", "length", "and in or"],
)
def test_beyond_a_bound_is_refused_quickly(run_set: RunSet, text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(Invalid):
        run_set.reader.find(filter=text)
    assert time.perf_counter() - began < 1


async def test_more_keys_than_sqlite_joins_are_refused(tenant: Tenant) -> None:
    params = {f"p{n}": "x" for n in range(60)}
    run = Logged(f"{1:032x}", "many", "", "Default", "running", 1, params=params)
    await log_into(tenant, [run])
    many = " or ".join(f"params.p{n} = 'x'" for n in range(50))
    assert (await tenant.search(RunQuery(filter=many))).total == 1
    with pytest.raises(LimitExceeded, match="more than 50 different keys"):
        await tenant.search(RunQuery(filter=f"{many} or params.p55 = 'x'"))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("(" * 50 + "not " * 50 + "name = '\x01'" + ")" * 50, 0),
        (nested(40, "not experiment ilike '%'"), 0),
        (nested(40, "not count(metrics.loss) not in (1, 2, 3)") + " and name = '\x01'", 0),
        (" or ".join(["tag.a=''"] * 800), 0),
        ("not(" + " and ".join(["name!='\x01'"] * 600) + ")", 0),
        ("name in (" + ",".join(["'\x01'"] * 2_400) + ")", 0),
        ("metrics.loss not in (" + ",".join(str(n) for n in range(100, 2_200)) + ")", None),
        ("name like '" + "%a" * 4_900 + "'", 0),
    ],
    ids=["deep", "nested", "nested lists", "or", "and", "in", "not in", "like"],
)
def test_the_largest_filters_are_answered(run_set: RunSet, text: str, count: int | None) -> None:
    runs, reader = run_set
    if count is None:
        count = sum(1 for run in runs if "loss" in run.metrics)
    assert reader.find(filter=text, lifecycle="all").total == count


# --- fuzz ----------------------------------------------------------------------------------------

WORDS = [
    "metrics.loss", "params.lr", "tags.team", "status", "start_time", "`run name`", "metrics.", ".",
    "and", "or", "NOT", "in", "like", "ILIKE", "is", "null", "(", ")", ",", "=", "!=", "<", "<=",
    ">", ">=", "'a%'", '"x"', "`k`", "1", "-2.5", "+1e3", "nan", "-inf", "1e999", "min(", "count",
    "''", "'", '"', "\\", "%", ";", "--", "\0", "\ud800", "é", "日本", " ", "\n", "?", "0x1",
    "desc",
]  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text() | st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join))
def test_any_text_is_a_filter_or_invalid(run_set: RunSet, text: str) -> None:
    found_or_refused(run_set.reader, filter=text)


@settings(max_examples=100, deadline=None)
@given(text=st.text() | st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join))
def test_any_text_is_an_order_or_invalid(run_set: RunSet, text: str) -> None:
    found_or_refused(run_set.reader, order_by=(text,))


def test_filters_damaged_at_random_are_filters_or_invalid(run_set: RunSet) -> None:
    rng = random.Random(4)
    good = (
        "metrics.loss < 0.3 and params.model = 'xgboost' and (tags.\"my tag\" LIKE 'a%' or not "
        "attributes.status = 'failed') and min(metrics.`val/acc`) not in (1, -2e3, nan)"
    )
    for _ in range(2_000):
        text = good
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice(["", *WORDS, text]) + text[place + rng.randrange(3) :]
        found_or_refused(run_set.reader, filter=text)


def found_or_refused(reader: FileReader, **query: Any) -> None:
    """Any other exception fails the test."""
    refusal = None
    try:
        assert len(reader.find(**query, limit=1).runs) <= 1
    except Invalid as error:
        refusal = error
    assert refusal is None or (refusal.path in query and str(refusal))
