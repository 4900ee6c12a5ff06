"""The client's page, and the client's whole interface, against a real server process."""

import math
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from stepwell import (
    Denied,
    ExperimentTracker,
    NotFound,
    Refused,
    RunConfig,
    ServerError,
    StepwellError,
    Unavailable,
    Unreachable,
    WrongUse,
)
from stepwell.folders import folders
from stepwell.ids import new_run_id
from tests.end_to_end.conftest import Http
from tests.serving import Served, serving

PAGE = Path(__file__).parents[2] / "docs" / "sdk.md"


def test_the_example_of_the_page_runs_as_it_stands(server: Served, tmp_path: Path):
    [example] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    script = example + "\nprint(run.run_id)\nprint(len(history), history[0])\n"
    environment = os.environ | {"STEPWELL_URL": server.url}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    run_id, shown = done.stdout.splitlines()
    assert shown.startswith("100 {'key': 'val_loss', 'value': 2.0, 'timestamp': ")
    assert shown.endswith("'step': 0}")
    run = ExperimentTracker(server.url).get_run(run_id)
    assert run.params == {"learning_rate": "0.01", "max_depth": "6"}
    assert (run.status, run.name, run.user_id) == ("finished", "xgboost-baseline", "alice@acme.com")
    assert run.metrics == {"train_loss": 0.01, "val_loss": 0.02}


@pytest.fixture
def tracker(server: Served, tmp_path: Path) -> ExperimentTracker:
    return ExperimentTracker(server.url, tenant=f"t{tmp_path.stat().st_ino}")


def test_every_number_comes_back_as_it_was(tracker: ExperimentTracker):
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e16 + 2]
    with tracker.start_run("numbers") as run:
        for step, value in enumerate(values):
            run.log_metrics({"x": value}, step=step)
        run.log_metric("far", 1.0, step=2**63 - 1, timestamp=-(2**63))
        run.log_metric("far", 2.0, step=-(2**63), timestamp=2**63 - 1)
    found = tracker.get_metric_arrays(run.run_id, "x")
    assert found.values.tobytes() == np.array(values).tobytes()
    assert list(found.steps) == list(range(len(values)))
    far = tracker.get_metric_history(run.run_id, "far")
    assert [(point["step"], point["timestamp"]) for point in far] == [
        (-(2**63), 2**63 - 1),
        (2**63 - 1, -(2**63)),
    ]
    wrapped = np.asarray(found.values)
    assert wrapped.base is not None
    last = tracker.get_run(run.run_id).metrics
    assert (last["x"], last["far"]) == (1e16 + 2, 1.0)


def test_a_history_of_several_pages_is_whole(
    tracker: ExperimentTracker, monkeypatch: pytest.MonkeyPatch
):
    with tracker.start_run("pages") as run:
        for step in range(10_000):
            run.log_metric("x", step, step=step)
    monkeypatch.setattr("stepwell.reader.POINTS_PER_PAGE", 999)
    assert list(tracker.get_metric_arrays(run.run_id, "x").steps) == list(range(10_000))
    part = tracker.get_metric_arrays(run.run_id, "x", start_step=100, end_step=5_000)
    assert list(part.steps) == list(range(100, 5_001))
    assert tracker.get_metric_history(run.run_id, "unknown") == []


@pytest.mark.parametrize("key", ["a/b c", "ü%20?&#", "..", "a//b", "+"])
def test_keys_survive_the_way_through_an_address(tracker: ExperimentTracker, key: str):
    with tracker.start_run("keys") as run:
        run.log_metric(key, 1.0)
    assert [point["value"] for point in tracker.get_metric_history(run.run_id, key)] == [1.0]


def test_searching_finds_what_was_logged(tracker: ExperimentTracker):
    for number in range(5):
        with tracker.start_run("search", run_name=f"r{number}", params={"lr": number / 10}) as run:
            run.log_metric("loss", 1 / (number + 1))
    with tracker.start_run("other"):
        pass
    found = tracker.search_runs("search", "metrics.loss < 0.4", "metrics.loss ASC")
    assert [run.name for run in found] == ["r4", "r3", "r2"]
    assert [run.name for run in tracker.search_runs("search", order_by=["params.lr"], limit=2)] == [
        "r0",
        "r1",
    ]
    assert len(tracker.search_runs()) == 6
    assert tracker.search_runs(limit=0) == []
    with pytest.raises(NotFound, match="no experiment 'unknown'"):
        tracker.search_runs("unknown")
    with pytest.raises(Refused, match="filter"):
        tracker.search_runs(filter="nonsense !!")


def test_a_search_of_several_pages_is_whole(
    tracker: ExperimentTracker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("stepwell.wire.MAX_RUNS_PER_PAGE", 3)
    ids = []
    for _ in range(8):
        with tracker.start_run("pages") as run:
            ids.append(run.run_id)
    assert sorted(run.run_id for run in tracker.search_runs("pages")) == sorted(ids)
    assert len(tracker.search_runs("pages", limit=5)) == 5


def test_reading_a_run_that_is_being_written_flushes_first(tracker: ExperimentTracker):
    with tracker.start_run("live") as run:
        run.log_metric("loss", 0.5)
        assert len(tracker.get_metric_history(run.run_id, "loss")) == 1
        run.set_tag("a", "b")
        assert tracker.get_run(run.run_id).tags == {"a": "b"}


def test_artifacts_up_and_down(tracker: ExperimentTracker, tmp_path: Path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "small ü.txt").write_text("small")
    (source / "sub" / "large.bin").write_bytes(os.urandom(9 * 1024 * 1024))
    with tracker.start_run("files") as run:
        run.log_artifact(source, "out")
        assert run.flush()
        listed = tracker.list_artifacts(run.run_id, "out")
        assert [(one.path, one.is_dir) for one in listed] == [
            ("out/small ü.txt", False),
            ("out/sub", True),
        ]
        target = tmp_path / "down"
        target.mkdir()
        for path in ("out/small ü.txt", "out/sub/large.bin"):
            found = tracker.download_artifact(run.run_id, path, target)
            assert found is not None
            assert found.read_bytes() == (source / path.removeprefix("out/")).read_bytes()
        with (tmp_path / "stream").open("wb") as stream:
            tracker.download_artifact(run.run_id, "out/small ü.txt", stream)
        assert (tmp_path / "stream").read_bytes() == b"small"
        with pytest.raises(NotFound):
            tracker.download_artifact(run.run_id, "out/none", target)
        with pytest.raises(WrongUse):
            tracker.download_artifact(run.run_id, "../secret", target)
    assert sorted(path.name for path in target.iterdir()) == ["large.bin", "small ü.txt"]


def test_stop_reaches_the_training_through_a_real_server(tracker: ExperimentTracker, http: Http):
    with tracker.start_run("stop") as run:
        assert run.flush()
        http.ok("POST", f"/api/v1/experiments/runs/{run.run_id}/stop")
        run.log_metric("loss", 1.0)
        assert run.flush()
        assert run.stop_requested


def test_ranks_are_told_apart_by_a_real_server(server: Served, monkeypatch: pytest.MonkeyPatch):
    run_id = new_run_id("default")
    monkeypatch.setenv("STEPWELL_RUN_ID", run_id)
    for rank in (1, 2, 0):
        monkeypatch.setenv("STEPWELL_RANK", str(rank))
        with ExperimentTracker(server.url).start_run("ranks") as run:
            run.log_metric(f"loss/{rank}", rank)
        status = ExperimentTracker(server.url).get_run(run_id).status
        assert status == ("finished" if rank == 0 else "running")
    found = ExperimentTracker(server.url).get_run(run_id)
    assert set(found.writers) == {"0", "1", "2"}


def test_a_run_resumed_after_its_end_is_running_again(tracker: ExperimentTracker):
    with tracker.start_run("resume") as first:
        first.log_metric("loss", 1.0, step=0)
    with tracker.start_run(run_id=first.run_id) as second:
        second.log_metric("loss", 2.0, step=1)
        assert tracker.get_run(first.run_id).status == "running"
    found = tracker.get_run(first.run_id)
    assert (found.status, found.metrics) == ("finished", {"loss": 2.0})


def test_offline_then_sync_into_a_real_server(server: Served, tmp_path: Path):
    offline = ExperimentTracker("http://nowhere.invalid", mode="offline", tenant="acme-corp")
    with offline.start_run("offline", RunConfig("night")) as run:
        run.log_params({"lr": 0.1})
        for step in range(5_000):
            run.log_metrics({"loss": 1 / (step + 1), "acc": step}, step=step)
    spool = offline.config.spool_dir
    arguments = [sys.executable, "-m", "stepwell", "sync", str(spool), "--url", server.url]
    assert subprocess.run(arguments, capture_output=True, timeout=60).returncode == 0
    tracker = ExperimentTracker(server.url)
    assert len(tracker.get_metric_arrays(run.run_id, "loss").steps) == 5_000
    assert tracker.get_run(run.run_id).status == "finished"
    assert folders(spool) == []
    assert subprocess.run(arguments, capture_output=True, timeout=60).returncode == 0


def test_what_is_refused_by_a_real_server_costs_only_itself(
    tracker: ExperimentTracker, caplog: pytest.LogCaptureFixture
):
    with tracker.start_run("refused") as run:
        run.log_params({"lr": 0.1, "seed": 1})
        assert run.flush()
        run.log_params({"lr": 0.2, "batch": 32})
        run.log_metric("loss", 1.0)
    found = tracker.get_run(run.run_id)
    assert found.params == {"lr": "0.1", "seed": "1", "batch": "32"}
    assert found.metrics == {"loss": 1.0}
    assert len([r for r in caplog.records if r.name == "stepwell"]) == 1


def test_a_deleted_run_refuses_and_the_training_goes_on(tracker: ExperimentTracker, http: Http):
    with tracker.start_run("deleted") as run:
        assert run.flush()
        http.ok("DELETE", f"/api/v1/experiments/runs/{run.run_id}")
        for step in range(100):
            run.log_metric("loss", 1.0, step=step)
    assert run.pending == 0


def test_errors_of_reading_say_what_is_wrong(tracker: ExperimentTracker):
    with pytest.raises(NotFound):
        tracker.get_run(new_run_id(tracker.config.tenant))
    for run_id in ("nonsense", None, 5):
        with pytest.raises(WrongUse):
            tracker.get_run(run_id)  # type: ignore[arg-type]
    for key in (None, 5, "", "k" * 251):
        with pytest.raises(WrongUse):
            tracker.get_metric_history(new_run_id("default"), key)  # type: ignore[arg-type]
    with pytest.raises(Unreachable):
        ExperimentTracker("http://127.0.0.1:9").get_run("0" * 32)
    for kind in (Denied, Unavailable, Refused, NotFound, ServerError, Unreachable):
        assert issubclass(kind, StepwellError)


def test_a_server_killed_and_restarted_in_the_middle_of_a_run_gets_everything_once(
    tmp_path: Path,
):
    logged = 0
    with serving(tmp_path / "data") as first:
        port = first.port
        run = ExperimentTracker(first.url).start_run("restart")
        for step in range(2_000):
            run.log_metrics({"loss": step}, step=step)
            logged += 1
            if step == 1_000:
                threading.Timer(0.05, first.kill).start()
            time.sleep(0.0001)
    for step in range(2_000, 3_000):
        run.log_metrics({"loss": step}, step=step)
    with serving(tmp_path / "data", port=port) as second:
        assert run.end(timeout_s=30)
        found = ExperimentTracker(second.url).get_metric_arrays(run.run_id, "loss")
        assert list(found.steps) == list(range(3_000))
        assert ExperimentTracker(second.url).get_run(run.run_id).status == "finished"


def test_wide_steps_arrive(tracker: ExperimentTracker):
    with tracker.start_run("wide") as run:
        for step in range(30):
            run.log_metrics(
                {f"layer/{number}": number + step for number in range(1_000)}, step=step
            )
    assert run.pending == 0
    found = tracker.get_metric_arrays(run.run_id, "layer/999")
    assert list(found.values) == [999.0 + step for step in range(30)]


def test_a_call_of_more_than_a_request_can_carry_arrives(tracker: ExperimentTracker):
    """60,000 long keys in one call are more than the server takes in one body: it is split."""
    keys = [f"{number:06d}" + "k" * 240 for number in range(60_000)]
    run = tracker.start_run("huge")
    run.log_metrics(dict.fromkeys(keys, 1.0), step=0)
    run.log_metrics(dict.fromkeys(keys, 2.0), step=1)
    assert run.end(timeout_s=60)
    assert list(tracker.get_metric_arrays(run.run_id, keys[-1]).values) == [1.0, 2.0]


@pytest.mark.parametrize("sizes", [(0,), (0, 3), (3, 0), (3, 0, 3), (0, 0)], ids=str)
def test_a_series_without_a_point_is_no_series(
    sizes: tuple[int, ...], tracker: ExperimentTracker, http: Http
):
    """A client may send one in columns; storage must never see it."""
    import struct
    import urllib.request

    import msgspec

    from stepwell import wire

    with tracker.start_run("empty series") as run:
        assert run.flush()
    columns = [struct.pack(f"<{size}q", *range(size)) for size in sizes]
    series = [
        wire.ColumnarSeries(f"k{number}", column, column, bytes(len(column)))
        for number, column in enumerate(columns)
    ]
    request = urllib.request.Request(
        f"{tracker.config.url}/api/v1/experiments/runs/{run.run_id}/log-batch",
        msgspec.msgpack.encode(wire.ColumnarBatch(wire.COLUMNS_FORMAT, series)),
        {"Content-Type": wire.COLUMNS},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
    for number, size in enumerate(sizes):
        found = tracker.get_metric_arrays(run.run_id, f"k{number}")
        assert list(found.steps) == list(range(size))
    assert tracker.get_run(run.run_id).metrics.keys() == {
        f"k{number}" for number, size in enumerate(sizes) if size
    }
