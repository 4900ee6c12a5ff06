"""What the server refuses for good: only the offenders are set aside, with the reason, once."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepwell import ExperimentTracker
from stepwell.config import Config
from stepwell.delivery import Delivery, Trouble
from stepwell.errors import Unreachable
from stepwell.folders import folders
from stepwell.run import ActiveRun
from stepwell.spool import Spool
from stepwell.transport import HttpTransport, Request, Response
from tests.sdk.fault_server import FaultServer


def refused(spool_dir: Path, run: ActiveRun) -> list[dict[str, Any]]:
    path = spool_dir / "refused" / f"{run.run_id}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_one_bad_point_in_thousands_is_the_only_one_missing(
    status: int, server: FaultServer, tracker: ExperimentTracker, spool_dir: Path,
    warned: Callable[[], list[str]],
):  # fmt: skip
    server.refuse = lambda kind, key, value: (
        (status, f"{key} is 13") if kind == "point" and value == 13 else None
    )
    with tracker.start_run() as run:
        for step in range(1_000):
            run.log_metrics({"a": step, "b": -step, "c": 0.5}, step=step)
    stored = server.only_run()
    assert stored.values("a") == [(step, float(step)) for step in range(1_000) if step != 13]
    assert stored.values("b") == [(step, float(-step)) for step in range(1_000)]
    assert stored.values("c") == [(step, 0.5) for step in range(1_000)]
    assert stored.status == "finished"
    [line] = refused(spool_dir, run)
    assert f"{status}" in line["reason"]
    assert "a is 13" in line["reason"]
    assert line["what"]["series"][0][0] == "a"
    assert len(warned()) == 1
    assert "1 points of 'a'" in warned()[0]
    assert folders(spool_dir) == []


def test_a_413_splits_until_it_fits(server: FaultServer, tracker: ExperimentTracker):
    run = tracker.start_run()
    real = server.refuse

    def too_large(kind: str, key: str, value: Any) -> tuple[int, str] | None:
        return (413, "more than 8,000 bytes") if sizes[-1] > 8_000 else real(kind, key, value)

    sizes = [0]
    fault_for = server.fault_for

    def note(path: str) -> Any:
        sizes.append(int(server.seen[-1].headers.get("Content-Length", 0)))
        return fault_for(path)

    server.fault_for = note  # type: ignore[method-assign]
    server.refuse = too_large
    for step in range(2_000):
        run.log_metric("loss", step, step=step)
    assert run.end()
    assert server.only_run().values("loss") == [(step, float(step)) for step in range(2_000)]
    assert max(sizes) > 8_000


def test_bad_parameters_and_tags_do_not_take_the_good_ones_along(
    server: FaultServer, tracker: ExperimentTracker, spool_dir: Path
):
    server.refuse = lambda kind, key, _: (422, "no") if key in ("p3", "t7") else None
    with tracker.start_run() as run:
        run.log_params({f"p{number}": number for number in range(10)})
        run.set_tags({f"t{number}": number for number in range(10)})
    stored = server.only_run()
    assert set(stored.params) == {f"p{number}" for number in range(10)} - {"p3"}
    assert set(stored.tags) == {f"t{number}" for number in range(10)} - {"t7"}
    items = [line["what"]["items"] for line in refused(spool_dir, run)]
    assert sorted(items) == [[[False, "p3", "3"]], [[True, "t7", "7"]]]


def test_a_parameter_that_changes_is_reported_and_the_first_value_stays(
    server: FaultServer, tracker: ExperimentTracker, warned: Callable[[], list[str]]
):
    with tracker.start_run() as run:
        run.log_param("lr", 0.1)
        run.log_param("lr", 0.2)
        run.log_param("batch", 32)
    assert server.only_run().params == {"lr": "0.1", "batch": "32"}
    assert len(warned()) == 1
    assert "lr" in warned()[0]


def test_a_deleted_run_is_not_asked_about_every_single_point(
    server: FaultServer, tracker: ExperimentTracker, spool_dir: Path
):
    run = tracker.start_run()
    assert run.flush()
    server.only_run().deleted = True
    for step in range(1_000):
        run.log_metric("loss", step, step=step)
    assert run.end()
    assert len(server.requests("log-batch")) < 10
    series = refused(spool_dir, run)[0]["what"]["series"]
    assert series[0][0] == "loss"


def test_a_key_that_is_refused_again_and_again_is_set_aside_as_a_whole(
    server: FaultServer, tracker: ExperimentTracker
):
    server.refuse = lambda kind, key, _: (422, "too many series") if key == "bad" else None
    with tracker.start_run() as run:
        for step in range(5_000):
            run.log_metrics({"good": step, "bad": step}, step=step)
    assert len(server.only_run().values("good")) == 5_000
    assert len(server.requests("log-batch")) < 500


def test_a_run_that_cannot_be_created_waits_for_better_times(
    server: FaultServer, tracker: ExperimentTracker
):
    server.refuse = lambda kind, *_: (409, "experiment is deleted") if kind == "run" else None
    run = tracker.start_run("exp")
    run.log_metric("loss", 1.0)
    assert not run.flush(timeout_s=1.0)
    server.refuse = lambda *_: None
    assert run.end(timeout_s=10)
    assert server.only_run().values("loss") == [(0, 1.0)]


def test_a_name_that_is_refused_does_not_cost_the_run(
    server: FaultServer, tracker: ExperimentTracker
):
    server.refuse = lambda kind, name, _: (422, "no such name") if name == "bad" else None
    with tracker.start_run("exp", run_name="bad") as run:
        run.log_metric("loss", 1.0)
    assert server.only_run().created.name is None
    assert server.only_run().values("loss") == [(0, 1.0)]


def change(path: Path) -> None:
    path.write_bytes(b"y" * 2_000)


def shorten(path: Path) -> None:
    os.truncate(path, 10)


@pytest.mark.parametrize("harm", [change, shorten, Path.unlink], ids=["changed", "cut", "gone"])
def test_a_large_file_that_is_not_what_it_was_is_reported_and_not_sent(
    harm: Callable[[Path], None], server: FaultServer, settings: Callable[..., None],
    spool_dir: Path, tmp_path: Path, warned: Callable[[], list[str]],
):  # fmt: skip
    settings(artifact_copy_bytes=100, mode="offline")
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * 2_000)
    with ExperimentTracker(server.url).start_run("exp") as run:
        run.log_artifact(path)
        run.log_metric("loss", 1.0)
    harm(path)
    settings(mode="online")
    with ExperimentTracker(server.url).start_run(run_id=run.run_id):
        pass
    assert server.only_run().artifacts == {}
    assert server.only_run().values("loss") == [(0, 1.0)]
    assert any("model.bin" in text for text in warned())
    assert "model.bin" in refused(spool_dir, run)[0]["reason"]


def test_a_file_that_arrives_as_another_is_sent_again(
    server: FaultServer, tracker: ExperimentTracker, tmp_path: Path
):
    """A checksum that differs is trouble on the way, and no reason to set anything aside."""
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(1_000))
    answers = iter([True])

    def corrupt(kind: str, name: str, body: Any) -> None:
        if kind == "artifact" and next(answers, False):
            raise ConnectionError

    server.refuse = corrupt
    with tracker.start_run() as run:
        run.log_artifact(path)
    assert server.only_run().artifacts == {"a.bin": bytes(1_000)}
    assert len(server.requests("artifacts/a.bin")) == 2
    assert run.pending == 0


def test_an_artifact_in_the_way_of_another_is_reported(
    server: FaultServer, tracker: ExperimentTracker, tmp_path: Path, spool_dir: Path
):
    server.refuse = lambda kind, *_: (409, "a folder") if kind == "artifact" else None
    (tmp_path / "a").write_bytes(b"a")
    with tracker.start_run() as run:
        run.log_artifact(tmp_path / "a")
        run.log_metric("loss", 1.0)
    assert server.only_run().values("loss") == [(0, 1.0)]
    assert refused(spool_dir, run)[0]["what"] == "a"


class Narrow:
    """A network that is too slow for large requests: they fail when their time is over."""

    def __init__(self, config: Config, most_bytes: int) -> None:
        self._real = HttpTransport(config)
        self._most_bytes = most_bytes
        self.sizes: list[int] = []

    def send(self, request: Request) -> Response:
        assert isinstance(request.body, bytes)
        self.sizes.append(len(request.body))
        if len(request.body) > self._most_bytes:
            raise Unreachable("timed out")
        return self._real.send(request)

    def close(self) -> None:
        self._real.close()


def test_a_slow_network_gets_smaller_requests_until_they_arrive_in_time(
    server: FaultServer, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    with ExperimentTracker(server.url, mode="offline").start_run("exp") as run:
        for step in range(30_000):
            run.log_metrics({"a": step, "b": 0.5}, step=step)
    monkeypatch.setattr("stepwell.delivery.SLOW_S", 0.0)
    monkeypatch.setattr("stepwell.delivery.QUICK_S", 0.0)
    config = Config(url=server.url, spool_dir=spool_dir)
    spool = Spool.adopt(folders(spool_dir)[0], config)
    assert spool is not None
    narrow = Narrow(config, 100_000)
    delivery = Delivery(spool, narrow, pytest.fail)
    failed = 0
    while True:
        try:
            if not delivery.step(haste=True):
                break
        except Trouble:
            failed += 1
    spool.close()
    assert server.runs[run.run_id].values("a") == [(step, float(step)) for step in range(30_000)]
    assert server.runs[run.run_id].received == 60_000
    assert max(narrow.sizes) > 500_000
    assert failed <= 5  # what it learned is not forgotten with the next request


def test_a_run_lives_while_its_large_file_is_sent(
    server: FaultServer, settings: Callable[..., None], tmp_path: Path
):
    settings(artifact_copy_bytes=10, heartbeat_s=0)
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(640 * 1024))
    with ExperimentTracker(server.url, mode="offline").start_run("exp") as dead:
        dead.log_artifact(path)
    with ExperimentTracker(server.url).start_run("exp") as run:
        run.log_artifact(path)
        assert run.flush()
        seen = [(entry.method, entry.path.split("/")[-2:]) for entry in server.seen]
        upload = seen.index(("PUT", ["artifacts", "model.bin"]))
        ours = [run.run_id, "log-batch"]
        assert [path for _, path in seen[upload + 1 :]].count(ours) >= 10
    assert server.runs[run.run_id].artifacts == {"model.bin": path.read_bytes()}
    wait_for(lambda: dead.run_id in server.runs and server.runs[dead.run_id].artifacts)
    assert server.runs[dead.run_id].heartbeats == 0
