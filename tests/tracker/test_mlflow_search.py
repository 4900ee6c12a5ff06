"""Searches of runs by MLflow's grammar: what each clause finds, refusals, orders and pages."""

from typing import Any

import pytest

from tests.tracker.mlflow_client import Mlflow

INVALID = "INVALID_PARAMETER_VALUE"


@pytest.fixture
async def runs(mlflow: Mlflow) -> dict[str, str]:
    """Three runs: a 1, b 2 and c 3 in almost everything; only a has the parameter ``only``."""
    ids = {}
    for number, name in enumerate("abc", 1):
        tags = [{"key": "team", "value": f"T{number}"}]
        run_id = await mlflow.run(run_name=name, start_time=number, user_id="me", tags=tags)
        ids[name] = run_id
        metrics: list[dict[str, Any]] = [
            {"key": "loss", "value": 99, "timestamp": 1, "step": 0},
            {"key": "loss", "value": number, "timestamp": 1, "step": 1},
        ]
        params = [{"key": "n", "value": ["10", "9", "x"][number - 1]}]
        if name == "a":
            params.append({"key": "only", "value": ""})
        else:
            rank = "NaN" if name == "b" else -5
            metrics.append({"key": "rank", "value": rank, "timestamp": 1})
        await mlflow.call("runs/log-batch", run_id=run_id, metrics=metrics, params=params)
    for name in "ac":
        await mlflow.call("runs/update", run_id=ids[name], status="FINISHED", end_time=50)
    return ids


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", "abc"),
        ("metrics.loss > 1", "bc"),
        ("metric.loss >= 1 AND metrics.loss != 2", "ac"),
        ("metrics.loss <= 1.0e0", "a"),
        ("metrics.`loss` = 3", "c"),
        ('metrics."loss" < -1', ""),
        ("metrics.rank != 7", "bc"),
        ("metrics.nobody != 1", ""),
        ("params.n = '10'", "a"),
        ("param.n != '10'", "bc"),
        ("parameters.n LIKE '1%'", "a"),
        ("parameter.n ILIKE 'X'", "c"),
        ("params.n LIKE 'X'", ""),
        ("params.only = ''", "a"),
        ("params.only IS NULL", "bc"),
        ("params.only IS NOT NULL", "a"),
        ("tags.team = \"T1\"", "a"),
        ("tag.team != 'T1'", "bc"),
        ("tags.nobody != 'x'", ""),
        ("tags.team ILIKE 't_'", "abc"),
        ("tags.team LIKE 't_'", ""),
        (r"tags.team LIKE 'T\_'", ""),
        ("tags.nobody IS NULL", "abc"),
        ("run_name = 'a'", "a"),
        ("attributes.run_name LIKE '%'", "abc"),
        ("attribute.`Run name` ILIKE 'B'", "b"),
        ("run.run_name != 'a'", "bc"),
        ("status = 'RUNNING'", "b"),
        ("attr.status != 'RUNNING'", "ac"),
        ("status LIKE 'FIN%'", "ac"),
        ("status LIKE 'fin%'", ""),
        ("status = 'finished'", ""),
        ("start_time > 1 and created < 3", "b"),
        ("end_time = 50", "ac"),
        ("user_id ILIKE 'ME'", "abc"),
        ("artifact_uri LIKE 'mlflow-artifacts:/0/%'", "abc"),
        ("metrics.loss > 0 AND ", "abc"),
        ("and metrics.loss > 1 AND and tags.team != 'T2'", "c"),
        ("metrics.loss > 2 and AND and", "c"),
        ("AND", "abc"),
        ("and and", "abc"),
        ("metrics.'loss' = 3", "c"),
        ("tags.'team'='T1' and params.'n' = '10'", "a"),
        ("tags.'a`b\\\"c' = 'T1'", ""),
        ("metrics. = 1", ""),
        ("metrics.`` != 1", ""),
        ("params.\"\" IS NULL", "abc"),
        ("tags.'' = ''", ""),
        ("Created > 2", "c"),
    ],
)  # fmt: skip
async def test_what_a_filter_finds(mlflow: Mlflow, runs: dict[str, str], filter, expected):
    assert "".join(await mlflow.found(filter, "run_name")) == expected


async def test_a_backslash_is_itself_and_a_doubled_quote_is_one(mlflow: Mlflow):
    values = ["it's", "a''b", r"it\'s", r"C:\data", r"\\host\share", 'a"b', r"100%_\_", "'\""]
    for number, value in enumerate(values):
        tags = [{"key": "t", "value": value}]
        await mlflow.run(run_name=str(number), start_time=number, tags=tags)
    for number, value in enumerate(values):
        for quote in {"'", '"'} - ({"'"} if "\\'" in value else set()):
            text = quote + value.replace(quote, quote * 2) + quote
            assert await mlflow.found(f"tags.t = {text}", "run_name") == [str(number)], text
            assert str(number) in await mlflow.found(f"tags.t LIKE {text}", "run_name"), text


async def test_lists_of_ids(mlflow: Mlflow, runs: dict[str, str]):
    some = f"('{runs['a']}', '{runs['c']}')"
    assert await mlflow.found(f"run_id IN {some}", "run_name") == ["a", "c"]
    assert await mlflow.found(f"attributes.run_id NOT IN {some}") == ["b"]
    assert await mlflow.found(f"run_id IN ('{runs['a']}', )", "run_name") == ["a"]
    assert await mlflow.found(f"run_id = '{runs['b']}'") == ["b"]


@pytest.mark.parametrize(
    "filter",
    [
        "params.n = x", "params.n = 10", "metrics.loss > '1'", "metrics.loss > +1",
        "metrics.loss > nan", "nonsense.x = '1'", "attributes.nonsense = '1'", "nonsense = '1'",
        "params.n = '1' OR params.n = '2'", "NOT params.n = '1'", "(params.n = '1')",
        "status IN ('RUNNING')", "params.n IN ('1')", "metrics.loss IN (1)", "metrics.loss IS NULL",
        "status IS NULL", "params.n = '1' junk", "metrics.loss LIKE 'x'", "params.n > '1'",
        "params.n", "run_name NOT LIKE 'a'", "start_time = '1'", "max(metrics.loss) > 1",
        "duration > 1", "description = ''", "datasets.nonsense = 'x'", "tags.a = 'x", "= 'x'",
        "attributes. = 'x'", ".a = 'x'", "run_id IN (,)", "run_id IN ()", "run_id IN ('a',,'b')",
        "run_id IN (, 'a')", "status = 'RUNNING',", "params.n = '1' params.n = '1'", "'n' = 'x'",
    ],
)  # fmt: skip
async def test_filters_that_mlflow_refuses(mlflow: Mlflow, filter: str):
    body: dict[str, Any] = {"experiment_ids": ["0"], "filter": filter}
    await mlflow.refused("runs/search", INVALID, "Invalid clause(s) in filter string", **body)


@pytest.mark.parametrize("filter", [" ", "\n\t"])
@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("runs/search", {"experiment_ids": ["0"]}),
        ("experiments/search", {"max_results": 5}),
        ("logged-models/search", {"experiment_ids": ["0"]}),
    ],
)
async def test_a_blank_filter_is_refused(mlflow: Mlflow, call, body, filter):
    await mlflow.refused(call, INVALID, f"Invalid filter '{filter}'", filter=filter, **body)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ([], "cba"),
        (["metrics.loss DESC"], "cba"),
        (["metrics.loss"], "abc"),
        (["metrics.rank ASC"], "cba"),
        (["metrics.rank DESC"], "cba"),
        (["params.n"], "abc"),  # as text: '10' before '9'
        (["params.only DESC", "start_time ASC"], "abc"),
        (["tags.team desc"], "cba"),
        (["attributes.status", "run_name DESC"], "cab"),
        (["status DESC"], "bca"),
        (["end_time"], "cab"),
        (["artifact_uri"], "abc"),
        (["Created"], "abc"),
        (["metrics.'loss' DESC"], "cba"),
        (["metrics.", "run_name"], "abc"),
    ],
)
async def test_orders_and_their_pages(mlflow: Mlflow, runs: dict[str, str], order, expected):
    if order == ["artifact_uri"]:
        expected = "".join(sorted(runs, key=lambda name: runs[name]))
    for size in (1, 2, 3):
        names = ""
        more: dict[str, str] = {}
        while True:
            page = await mlflow.call(
                "runs/search", experiment_ids=["0"], order_by=order, max_results=size, **more
            )
            names += "".join(run["info"]["run_name"] for run in page["runs"])
            if "next_page_token" not in page:
                break
            more = {"page_token": page["next_page_token"]}
        assert names == expected, size


@pytest.mark.parametrize(
    "order",
    [["nonsense"], ["metrics.x SIDEWAYS"], ["datasets.name"], ["metrics.x", "metrics.x DESC"],
     ["duration"], ["start_time", "created"], ["min(metrics.x)"]],
)  # fmt: skip
async def test_orders_that_mlflow_refuses(mlflow: Mlflow, order: list[str]):
    await mlflow.refused("runs/search", INVALID, "order", experiment_ids=["0"], order_by=order)


async def test_experiments_limits_and_tokens(mlflow: Mlflow, runs: dict[str, str]):
    assert await mlflow.found(experiment_ids=[]) == []
    assert await mlflow.found(experiment_ids=["77"]) == []
    assert len(await mlflow.found(experiment_ids=["0", "77"])) == 3
    for wrong in (0, -1, 50_001):
        await mlflow.refused(
            "runs/search", INVALID, f"Invalid value {wrong} for parameter 'max_results' supplied",
            experiment_ids=["0"], max_results=wrong,
        )  # fmt: skip
    await mlflow.refused("runs/search", INVALID, "", experiment_ids=["0"], page_token="x")
    await mlflow.refused("runs/search", INVALID, "valid integer", experiment_ids=["x"])
