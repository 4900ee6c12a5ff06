"""What runs log through MLflow's API: identity, order, NaN, limits, and batches that fail whole."""

from typing import Any

import pytest

from tests.tracker.checked import RUNS, CheckedClient
from tests.tracker.mlflow_client import Mlflow, metrics, pairs

INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"


def point(key: str = "x", value: Any = 1, timestamp: Any = 1, step: Any = 0) -> dict[str, Any]:
    return {"key": key, "value": value, "timestamp": timestamp, "step": step}


@pytest.fixture
async def run_id(mlflow: Mlflow) -> str:
    return await mlflow.run(run_name="r")


async def history(mlflow: Mlflow, run_id: str, key: str = "x", **query: Any) -> list[Any]:
    found = await mlflow.get_json("metrics/get-history", run_id=run_id, metric_key=key, **query)
    return [(m["timestamp"], m["step"], m["value"]) for m in found.get("metrics", [])]


async def test_the_latest_is_the_greatest_and_not_the_last_written(mlflow: Mlflow, run_id: str):
    for sent in (point(value=5, step=2), point(value=1, step=1), point(value=4, step=2)):
        await mlflow.call("runs/log-metric", run_id=run_id, **sent)
    assert metrics(await mlflow.read(run_id)) == {"x": (5.0, 2, 1)}
    await mlflow.call("runs/log-metric", run_id=run_id, **point(value=0, step=2, timestamp=2))
    assert metrics(await mlflow.read(run_id)) == {"x": (0.0, 2, 2)}


@pytest.mark.parametrize(("rival", "latest"), [(1.0, 1.0), (-1.0, "NaN")])
async def test_nan_counts_as_zero_among_points_of_one_moment(mlflow, run_id, rival, latest):
    sent = [point(value=rival, step=3), point(value="NaN", step=3), point(value=9, step=1)]
    await mlflow.call("runs/log-batch", run_id=run_id, metrics=sent)
    assert metrics(await mlflow.read(run_id)) == {"x": (latest, 3, 1)}
    page = await mlflow.call("runs/search", experiment_ids=["0"])
    assert metrics(page["runs"][0]) == {"x": (latest, 3, 1)}


async def test_a_history_is_ordered_by_time_then_step_then_value(mlflow: Mlflow, run_id: str):
    sent = [
        point(value=1, timestamp=9, step=0), point(value=2, timestamp=1, step=5),
        point(value="NaN", timestamp=1, step=5), point(value=-2, timestamp=1, step=5),
        point(value="Infinity", timestamp=1, step=4), point(value="-Infinity", timestamp=9, step=0),
    ]  # fmt: skip
    await mlflow.call("runs/log-batch", run_id=run_id, metrics=sent)
    expected = [
        (1, 4, "Infinity"), (1, 5, -2.0), (1, 5, "NaN"), (1, 5, 2.0),
        (9, 0, "-Infinity"), (9, 0, 1.0),
    ]  # fmt: skip
    assert await history(mlflow, run_id) == expected
    for size in (1, 2, 5, 6, 7):
        paged: list[Any] = []
        token: dict[str, str] = {}
        while True:
            page = await mlflow.get_json(
                "metrics/get-history", run_id=run_id, metric_key="x", max_results=size, **token
            )
            paged += [(m["timestamp"], m["step"], m["value"]) for m in page["metrics"]]
            assert len(page["metrics"]) <= size
            if "next_page_token" not in page:
                break
            token = {"page_token": page["next_page_token"]}
        assert paged == expected


async def test_unknown_histories_are_empty_and_bad_ones_refused(mlflow: Mlflow, run_id: str):
    assert await mlflow.get_json("metrics/get-history", run_id=run_id, metric_key="no") == {}
    assert await mlflow.get_json("metrics/get-history", run_id="0" * 32, metric_key="x") == {}
    get: dict[str, Any] = {"method": "GET", "run_id": run_id, "metric_key": "x"}
    await mlflow.refused("metrics/get-history", INVALID, "'max_results'", max_results=0, **get)
    await mlflow.call("runs/log-metric", run_id=run_id, **point())
    await mlflow.refused("metrics/get-history", INVALID, "", page_token="garbage", **get)
    await mlflow.refused(
        "metrics/get-history", INVALID, "'metric_key'", method="GET", run_id=run_id
    )


async def test_replaying_any_call_changes_nothing(mlflow: Mlflow, run_id: str):
    body: dict[str, Any] = {
        "metrics": [point(), point(), point(step=-4)],
        "params": [{"key": "p", "value": "1"}],
        "tags": [{"key": "t", "value": "1"}],
    }
    for _ in range(3):
        await mlflow.call("runs/log-batch", run_id=run_id, **body)
        await mlflow.call("runs/log-metric", run_id=run_id, **point())
        await mlflow.call("runs/log-parameter", run_id=run_id, key="p", value="1")
        await mlflow.call("runs/set-tag", run_id=run_id, key="t", value="1")
    assert await history(mlflow, run_id) == [(1, -4, 1.0), (1, 0, 1.0)]


async def test_forms_of_numbers_that_the_protocol_allows(mlflow: Mlflow, run_id: str):
    sent = [
        point("a", "1.5", "7", "3"), point("b", "-Infinity"), point("c", 2, 1, None),
        point("d", "1e3"), point("e", 10**18), {"key": "f", "value": 0, "timestamp": 0},
    ]  # fmt: skip
    await mlflow.call("runs/log-batch", run_id=run_id, metrics=sent)
    assert metrics(await mlflow.read(run_id)) == {
        "a": (1.5, 3, 7), "b": ("-Infinity", 0, 1), "c": (2.0, 0, 1), "d": (1000.0, 0, 1),
        "e": (1e18, 0, 1), "f": (0.0, 0, 0),
    }  # fmt: skip
    await mlflow.call("runs/log-metric", run_uuid=run_id, key="g", value="NaN", timestamp="3")
    assert metrics(await mlflow.read(run_id))["g"] == ("NaN", 0, 3)


async def test_a_native_client_reads_what_mlflow_logged(
    mlflow: Mlflow, client: CheckedClient, run_id: str
):
    sent = [point("loss", i / 4, 1_000 + i, i) for i in range(4)]
    await mlflow.call("runs/log-batch", run_id=run_id, metrics=sent)
    found = await client.ok("GET", f"{RUNS}/{run_id}/metrics/loss")
    assert [(p["step"], p["timestamp"], p["value"]) for p in found["points"]] == [
        (i, 1_000 + i, i / 4) for i in range(4)
    ]


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ({"metrics": [point(), {"key": "x", "value": 1}]},
         "Missing value for required parameter 'metrics[1].timestamp'"),
        ({"metrics": [point(), {"value": 1, "timestamp": 1}]},
         "Missing value for required parameter 'metrics[1].key'"),
        ({"metrics": [point(), point(key="")]},
         "Missing value for required parameter 'metrics[1].key'"),
        ({"metrics": [point(value=None)]},
         "Missing value for required parameter 'metrics[0].value'"),
        ({"metrics": [point(value="abc")]},
         "Invalid value \"abc\" for parameter 'metrics[0].value' supplied"),
        ({"metrics": [point(step="foo")]},
         "Invalid value \"foo\" for parameter 'metrics[0].step' supplied"),
        ({"metrics": [point(step=2**63)]}, "for parameter 'metrics[0].step' supplied"),
        ({"metrics": [point(), point(timestamp=-1)]}, "'metrics[1].timestamp'"),
        ({"metrics": [point("a!b")]}, "Names may only contain"),
        ({"metrics": [point("../x")]}, "relative paths"),
        ({"metrics": [point("x" * 251)]}, "250"),
        ({"metrics": [7]}, "Invalid value 7 for parameter 'metrics[0]' supplied"),
        ({"metrics": {}}, "Invalid value {} for parameter 'metrics' supplied"),
        ({"params": [{"key": "p", "value": "1"}, {"key": "p", "value": "1"}]},
         "Duplicate parameter keys have been submitted"),
        ({"params": [{"key": "p", "value": 1}]},
         "Invalid value 1 for parameter 'params[0].value' supplied"),
        ({"params": [{"value": "1"}]}, "Missing value for required parameter 'params[0].key'"),
        ({"params": [{"key": "/abs", "value": "1"}]}, "relative paths"),
        ({"tags": [{"key": "a//b", "value": "1"}]}, "relative paths"),
        ({"tags": [{"key": "a", "value": "\0"}]}, "'tags[0].value'"),
        ({"metrics": [point(step=i) for i in range(1_001)]},
         "A batch logging request can contain at most 1000 metrics. Got 1001 metrics."),
        ({"params": [{"key": f"p{i}", "value": ""} for i in range(101)]},
         "at most 100 params. Got 101 params."),
        ({"tags": [{"key": f"p{i}", "value": ""} for i in range(101)]},
         "at most 100 tags. Got 101 tags."),
        ({"metrics": [point(step=i) for i in range(1_000)], "tags": []},
         "at most 1000 metrics, params, and tags. Got 1002"),
        ({"params": [{"key": "old", "value": "other"}]}, "Changing param values is not allowed."),
    ],
)  # fmt: skip
async def test_one_bad_entry_refuses_the_batch_and_nothing_of_it_is_written(
    mlflow: Mlflow, run_id: str, batch: dict[str, Any], text: str
):
    await mlflow.call("runs/log-parameter", run_id=run_id, key="old", value="1")
    body: dict[str, Any] = {
        "metrics": [point("fine")],
        "params": [{"key": "fine", "value": "1"}],
        "tags": [{"key": "fine", "value": "1"}],
    }
    for name, given in batch.items():
        body[name] = [*given, *body[name]] if isinstance(given, list) and len(given) < 3 else given
    before = await mlflow.read(run_id)
    await mlflow.refused("runs/log-batch", INVALID, text, run_id=run_id, **body)
    assert await mlflow.read(run_id) == before


async def test_a_parameter_is_written_once(mlflow: Mlflow, run_id: str):
    for _ in range(2):
        await mlflow.call("runs/log-parameter", run_id=run_id, key="p", value="")
    assert pairs((await mlflow.read(run_id))["data"]["params"]) == {"p": ""}
    await mlflow.refused(
        "runs/log-parameter", INVALID, "Changing param values is not allowed.",
        run_id=run_id, key="p", value="x",
    )  # fmt: skip


async def test_long_values_are_cut(mlflow: Mlflow, run_id: str):
    await mlflow.call("runs/log-parameter", run_id=run_id, key="p", value="x" * 7_000)
    await mlflow.call("runs/set-tag", run_id=run_id, key="t", value="y" * 9_000)
    await mlflow.call("runs/log-parameter", run_id=run_id, key="p", value="x" * 7_000)
    data = (await mlflow.read(run_id))["data"]
    assert pairs(data["params"]) == {"p": "x" * 6_000}
    assert pairs(data["tags"])["t"] == "y" * 8_000


async def test_tags_overwrite_the_last_of_a_batch_wins_and_deleting_twice_is_refused(
    mlflow: Mlflow, run_id: str
):
    tags = [{"key": "t", "value": value} for value in "123"]
    await mlflow.call("runs/log-batch", run_id=run_id, tags=tags)
    assert pairs((await mlflow.read(run_id))["data"]["tags"])["t"] == "3"
    await mlflow.call("runs/delete-tag", run_id=run_id, key="t")
    await mlflow.refused(
        "runs/delete-tag", MISSING, f"No tag with name: t in run with id {run_id}",
        run_id=run_id, key="t", http=404,
    )  # fmt: skip


async def test_a_full_batch_of_a_thousand(mlflow: Mlflow, run_id: str):
    sent = [point(value=i, timestamp=i, step=i) for i in range(1_000)]
    await mlflow.call("runs/log-batch", run_id=run_id, metrics=sent)
    assert len(await history(mlflow, run_id)) == 1_000


async def test_keys_of_any_script_with_spaces_and_slashes(mlflow: Mlflow, run_id: str):
    for key in ("val/loss", "a b:c-d.e", "größe", "损失", "..a", "a/.b"):
        await mlflow.call("runs/log-metric", run_id=run_id, **point(key))
        assert await history(mlflow, run_id, key) == [(1, 0, 1.0)], key


async def test_bodies_that_are_no_objects(mlflow: Mlflow, run_id: str):
    for body in (b"[]", b"{", b"\xff", b'"x"'):
        for path in ("runs/log-batch", "runs/log-metric", "runs/create"):
            response = await mlflow.post(mlflow.prefix + path, content=body)
            assert response.status_code == 400
            assert response.json()["error_code"] == "BAD_REQUEST"


async def test_bulk_histories(mlflow: Mlflow):
    runs = sorted([await mlflow.run() for _ in range(3)])
    for number, run_id in enumerate(runs[:2]):
        sent = [point(value=number, timestamp=10 - step, step=step) for step in range(3)]
        await mlflow.call("runs/log-batch", run_id=run_id, metrics=sent)
    path = "metrics/get-history-bulk"
    found = await mlflow.get_json(path, run_id=runs, metric_key="x")
    assert [(m["run_id"], m["timestamp"]) for m in found["metrics"]] == [
        (run_id, timestamp) for run_id in runs[:2] for timestamp in (8, 9, 10)
    ]
    cut = await mlflow.get_json(path, run_id=runs, metric_key="x", max_results=4)
    assert [m["run_id"] for m in cut["metrics"]] == [runs[0]] * 3 + [runs[1]]
    what = "GetMetricHistoryBulk request"
    get: dict[str, Any] = {"method": "GET"}
    await mlflow.refused(path, INVALID, f"{what} must specify at least one run_id", **get)
    await mlflow.refused(path, INVALID, f"{what} must specify a metric_key", run_id=runs, **get)
    many: dict[str, Any] = {"run_id": [f"{i:032x}" for i in range(101)], "metric_key": "x"}
    await mlflow.refused(path, INVALID, f"{what} cannot specify more than 100", **many, **get)


async def test_sampled_histories_keep_both_ends(mlflow: Mlflow, run_id: str):
    path = "metrics/get-history-bulk-interval"
    sent = [point(value=i, timestamp=i, step=i) for i in range(1_000)]
    await mlflow.call("runs/log-batch", run_id=run_id, metrics=sent)
    found = await mlflow.get_json(path, run_ids=[run_id], metric_key="x", max_results=10)
    steps = [m["step"] for m in found["metrics"]]
    assert (len(steps), steps[0], steps[-1]) == (10, 0, 999)
    assert steps == sorted(steps)
    part = await mlflow.get_json(
        path, run_ids=run_id, metric_key="x", start_step=10, end_step=12, max_results=2500
    )
    assert [m["step"] for m in part["metrics"]] == [10, 11, 12]
    get: dict[str, Any] = {"method": "GET", "run_ids": run_id, "metric_key": "x"}
    await mlflow.refused(path, INVALID, "both must be", start_step=1, **get)
    await mlflow.refused(
        path, INVALID, "end_step must be greater than start_step", start_step=2, end_step=2, **get
    )
    await mlflow.refused(path, INVALID, "'max_results'", max_results=2_501, **get)
    get["run_ids"] = [f"{i:032x}" for i in range(101)]
    await mlflow.refused(path, INVALID, "must specify at most 100 run_ids.", **get)
