"""Every trouble that a server or a network can make: the training sees nothing, all arrives."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path

import pytest

from stepwell import ExperimentTracker
from stepwell.config import Config
from stepwell.folders import folders
from stepwell.records import MAGIC, Create, Head, Points, Tags, frame, parse
from stepwell.sender import Backoff
from stepwell.spool import Spool
from stepwell.wire import CreateRun
from tests.sdk.fault_server import Fault, FaultServer

STEPS = 300
LOGGED = [(step, step / 7) for step in range(STEPS)]

FAULTS = {
    "500": Fault("status", status=500),
    "502": Fault("status", status=502),
    "503 with Retry-After": Fault("status", status=503, headers={"Retry-After": "1"}),
    "429 with Retry-After": Fault("status", status=429, headers={"Retry-After": "1"}),
    "disk full there": Fault("status", status=507),
    "wrong token": Fault("status", status=401),
    "role too low": Fault("status", status=403),
    "not found": Fault("status", status=404),
    "request timeout": Fault("status", status=408),
    "redirect": Fault("status", status=301, headers={"Location": "/"}),
    "reset": Fault("reset"),
    "reset in mid-body": Fault("reset mid-body"),
    "reply lost after commit": Fault("reply lost"),
    "half a reply": Fault("half a reply"),
    "a proxy's login page": Fault("html"),
    "hang": Fault("hang", seconds=1.0),
    "slow": Fault("slow", seconds=0.3),
}
PLACES = [(name, "") for name in FAULTS] + [
    # Committed, and not told: what the client repeats must change nothing.
    (name, path)
    for name in ("reply lost after commit", "half a reply")
    for path in ("log-batch", "end")
]


@pytest.mark.parametrize(("name", "path"), PLACES)
def test_all_arrives_in_spite_of(
    name: str, path: str, server: FaultServer, settings: Callable[..., None], spool_dir: Path
):
    fault = copy(FAULTS[name])
    fault.left, fault.path = 2, path
    server.faults = [fault]
    settings(read_timeout_s=0.5)
    run = ExperimentTracker(server.url).start_run("exp", params={"a": 1})
    slowest = log_some(run.log_metrics)
    assert run.end(timeout_s=20)
    assert fault.met == 2
    stored = server.only_run()
    assert stored.values("loss") == LOGGED
    assert (stored.params, stored.status) == ({"a": "1"}, "finished")
    assert slowest < 0.5
    assert folders(spool_dir) == []


def log_some(log_metrics: Callable[..., None]) -> float:
    """Log STEPS points; returns the longest call in seconds."""
    slowest = 0.0
    for step, value in LOGGED:
        begun = time.perf_counter()
        log_metrics({"loss": value}, step=step)
        slowest = max(slowest, time.perf_counter() - begun)
    return slowest


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def tls_to_a_plain_server(server: FaultServer) -> str:
    return server.url.replace("http:", "https:")


@pytest.mark.parametrize(
    "place", ["black_hole", "closed_port", "tls_to_a_plain_server", "no such name"]
)
def test_without_a_server_the_run_goes_on_and_ends_in_time(
    place: str, request: pytest.FixtureRequest, warned: Callable[[], list[str]], spool_dir: Path
):
    name = "http://no-such-host.invalid:7837"
    url = name if place == "no such name" else request.getfixturevalue(place)
    tracker = ExperimentTracker(url, exit_timeout_s=1.0)
    begun = time.monotonic()
    with tracker.start_run("exp") as run:
        assert log_some(run.log_metrics) < 0.5
        assert run.pending >= STEPS
    assert time.monotonic() - begun < 3.0
    assert points_in(spool_dir) == STEPS
    # A hanging request is no outage yet; at the end one line says what waits, and where.
    assert len(warned()) == (1 if place == "black_hole" else 2)
    assert f"{STEPS + 2} items wait in {spool_dir}" in warned()[-1]


def points_in(spool_dir: Path) -> int:
    """How many points lie in a spool folder, read without its lock."""
    total = 0
    for folder in folders(spool_dir):
        for path in folder.glob("*.spool"):
            records = parse(path.read_bytes()[len(MAGIC) :]).records
            total += sum(record.count for record in records if isinstance(record, Points))
    return total


def test_an_outage_is_one_line_and_ends_by_itself(
    server: FaultServer, warned: Callable[[], list[str]]
):
    fault = Fault("status", status=503)
    server.faults = [fault]
    run = ExperimentTracker(server.url).start_run()
    run.log_metric("loss", 1.0)
    assert not run.flush(timeout_s=1.0)
    assert fault.met >= 2
    server.faults = []
    assert run.flush(timeout_s=5.0)
    assert run.end()
    assert len(warned()) == 1
    assert "503" in warned()[0]


def test_a_server_that_comes_back_gets_everything(settings: Callable[..., None]):
    with FaultServer() as first:
        port, run = first.port, ExperimentTracker(first.url).start_run("exp")
        run.log_metric("loss", 0.0, step=0)
        assert run.flush()
    for step in range(1, 100):
        run.log_metric("loss", float(step), step=step)
    assert not run.flush(timeout_s=0.3)
    with FaultServer(port) as second:
        second.runs = first.runs
        assert run.end(timeout_s=10)
        assert second.only_run().values("loss") == [(step, float(step)) for step in range(100)]
        assert second.only_run().status == "finished"


def test_retry_after_is_obeyed_even_while_somebody_waits(server: FaultServer):
    server.faults = [Fault("status", status=429, times=1, headers={"Retry-After": "2"})]
    run = ExperimentTracker(server.url).start_run()
    run.log_metric("loss", 1.0)
    assert not run.flush(timeout_s=1.0)
    assert len(server.seen) == 1
    assert run.end(timeout_s=10)
    assert server.seen[1].at - server.seen[0].at >= 2.0


def test_the_pauses_grow_and_differ():
    pauses = [[backoff.next_s() for _ in range(9)] for backoff in (Backoff(), Backoff())]
    for attempt, ceiling in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30, 30]):
        assert ceiling / 2 <= pauses[0][attempt] <= ceiling
    assert pauses[0] != pauses[1]


def test_a_new_run_sends_what_a_dead_process_left_for_the_same_server(
    server: FaultServer, spool_dir: Path
):
    with ExperimentTracker(server.url, mode="offline").start_run("exp") as old:
        old.log_metric("loss", 1.0)
        old.log_param("a", 1)
    other = ExperimentTracker("http://127.0.0.1:9", mode="offline")
    with other.start_run("exp") as foreign:
        foreign.log_metric("loss", 1.0)
    assert server.runs == {}
    with ExperimentTracker(server.url).start_run("exp") as new:
        wait_for(lambda: old.run_id in server.runs and server.runs[old.run_id].end_time)
    assert server.runs[old.run_id].values("loss") == [(0, 1.0)]
    assert server.runs[old.run_id].status == "finished"
    assert set(server.runs) == {old.run_id, new.run_id}
    assert [folder.name[:32] for folder in folders(spool_dir)] == [foreign.run_id]


def test_what_a_run_left_comes_before_what_resumes_it(server: FaultServer):
    with ExperimentTracker(server.url, mode="offline").start_run("exp") as old:
        old.log_metric("loss", 1.0, step=0)
        old.set_tag("attempt", "1")
    run = ExperimentTracker(server.url).start_run(run_id=old.run_id)
    run.set_tag("attempt", "2")
    assert run.flush()
    assert server.only_run().status == "running"
    assert server.only_run().tags == {"attempt": "2"}
    assert run.end()


def test_a_leftover_that_the_server_refuses_to_know_does_not_hold_up_the_run(
    server: FaultServer, spool_dir: Path
):
    with ExperimentTracker(server.url, mode="offline").start_run("gone") as old:
        old.log_metric("loss", 1.0)
    server.refuse = lambda kind, _, it: (
        (409, "deleted") if kind == "run" and it.experiment_name == "gone" else None
    )
    run = ExperimentTracker(server.url).start_run("exp")
    for step in range(5):
        run.log_metric("loss", 1.0, step=step)
        assert run.flush(timeout_s=2.0)
    assert run.end()
    assert [folder.name[:32] for folder in folders(spool_dir)] == [old.run_id]


def test_a_leftover_that_gets_no_answer_holds_up_the_run_for_a_moment_only(
    server: FaultServer, spool_dir: Path
):
    with ExperimentTracker(server.url, mode="offline").start_run("exp") as old:
        old.log_metric("loss", 1.0)
    server.faults = [Fault("hang", path=f"{old.run_id}/log-batch", seconds=20.0)]
    run = ExperimentTracker(server.url).start_run("exp")
    wait_for(lambda: server.faults[0].met == 1)
    run.log_metric("loss", 1.0, step=0)
    assert run.flush(timeout_s=4.0)
    begun = time.monotonic()
    for step in range(1, 50):
        run.log_metric("loss", 1.0, step=step)
        assert run.flush(timeout_s=2.0)
    assert run.end()
    assert time.monotonic() - begun < 4.0
    assert server.faults[0].met == 1
    assert [folder.name[:32] for folder in folders(spool_dir)] == [old.run_id]


def test_an_end_does_not_wait_for_those_who_go_on_logging(
    server: FaultServer, settings: Callable[..., None]
):
    settings(exit_timeout_s=20)
    server.faults = [Fault("slow", seconds=0.05)]  # there is always something on its way
    run = ExperimentTracker(server.url).start_run("exp")
    over = threading.Event()

    def log() -> None:
        while not over.wait(0.001):
            run.log_metric("loss", 1.0)

    thread = threading.Thread(target=log)
    thread.start()
    time.sleep(0.5)
    begun = time.monotonic()
    try:
        assert run.end()
        assert time.monotonic() - begun < 5.0
        assert server.only_run().status == "finished"
    finally:
        over.set()
        thread.join()
    assert run.flush()
    values = server.only_run().values("loss")
    assert [step for step, _ in values] == list(range(len(values)))


def test_what_a_child_left_meanwhile_is_sent_at_the_end_and_at_once(
    server: FaultServer, spool_dir: Path
):
    run = ExperimentTracker(server.url).start_run("exp")
    run.log_metric("loss", 1.0, step=0)
    assert run.flush()
    config = Config(spool_dir=spool_dir, url=server.url)
    child = Spool.create(config, Head(server.url, "default", run.run_id))
    child.append([frame(Tags({"child": "was here"}))], 1, True)
    child.forget()
    begun = time.monotonic()
    assert run.end()
    assert time.monotonic() - begun < 2
    assert server.only_run().tags == {"child": "was here"}
    assert folders(spool_dir) == []


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_many_leftovers_do_not_cost_as_many_open_files(server: FaultServer, spool_dir: Path):
    config = Config(spool_dir=spool_dir, url=server.url)
    for number in range(100):
        spool = Spool.create(config, Head(server.url, "default", f"{number:032x}"))
        spool.append([frame(Create(CreateRun(run_id=f"{number:032x}")))], 1, True)
        spool.forget()
    before = open_files()
    run = ExperimentTracker(server.url).start_run()
    most = 0
    while len(server.runs) < 101:
        most = max(most, open_files())
    assert run.end()
    assert most - before < 30
    wait_for(lambda: folders(spool_dir) == [])


def test_an_idle_run_says_that_it_lives(server: FaultServer, settings: Callable[..., None]):
    settings(heartbeat_s=0.2)
    run = ExperimentTracker(server.url).start_run()
    wait_for(lambda: bool(server.runs) and server.only_run().heartbeats >= 3)
    assert run.end()


def test_a_heartbeat_hears_of_a_stop(server: FaultServer, settings: Callable[..., None]):
    settings(heartbeat_s=0.2)
    run = ExperimentTracker(server.url).start_run()
    assert run.flush()
    server.only_run().stop_requested = True
    wait_for(lambda: run.stop_requested)
    assert run.end()


def test_a_server_that_hangs_does_not_keep_points_in_memory(
    black_hole: str, spool_dir: Path, settings: Callable[..., None]
):
    """The sender sits in a dead connection; what is logged then must reach the disk."""
    run = ExperimentTracker(black_hole).start_run()
    time.sleep(0.6)
    run.log_metric("loss", 1.0)
    logged = time.monotonic()
    wait_for(lambda: points_in(spool_dir) == 1)
    assert time.monotonic() - logged < 0.5
    run.end(timeout_s=0)


def test_a_full_buffer_is_written_down_by_the_caller(
    black_hole: str, settings: Callable[..., None], spool_dir: Path
):
    settings(buffer_points=100, buffer_age_ms=60_000)
    run = ExperimentTracker(black_hole).start_run()
    for step in range(99):
        run.log_metric("loss", 1.0, step=step)
    assert points_in(spool_dir) == 0
    run.log_metric("loss", 1.0, step=99)
    assert points_in(spool_dir) == 100
    run.end(timeout_s=0)


def test_a_full_spool_drops_the_newest_says_so_once_and_counts(
    server: FaultServer, settings: Callable[..., None], warned: Callable[[], list[str]]
):
    settings(spool_bytes=50_000, buffer_points=100)
    server.faults = [Fault("status", status=503)]
    run = ExperimentTracker(server.url).start_run("exp")
    for step in range(20_000):
        run.log_metric("loss", float(step), step=step)
    run.set_tag("still", "here")
    server.faults = []
    assert run.end(timeout_s=20)
    stored = server.only_run()
    kept = stored.values("loss")
    assert kept[:1_000] == [(step, float(step)) for step in range(1_000)]
    assert all(step == value for step, value in kept)
    assert len(kept) < 20_000
    assert stored.tags == {"still": "here", "stepwell.dropped_points": str(20_000 - len(kept))}
    assert stored.status == "finished"
    assert len([text for text in warned() if "dropped" in text]) == 1


def test_a_disk_that_hangs_holds_up_nobody_for_long(
    server: FaultServer, settings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    """NFS does so.  One caller waits a tenth of a second once; then memory takes what it may."""
    settings(buffer_points=100, memory_bytes=80_000)
    stuck, go_on, real = threading.Event(), threading.Event(), Spool.append

    def append(self: Spool, data: list[bytes], items: int, essential: bool) -> bool:
        stuck.set()
        go_on.wait(20)
        return real(self, data, items, essential)

    run = ExperimentTracker(server.url).start_run("exp")
    assert run.flush()
    monkeypatch.setattr(Spool, "append", append)
    calls = []
    for step in range(50_000):
        begun = time.perf_counter()
        run.log_metric("loss", float(step), step=step)
        calls.append(time.perf_counter() - begun)
        if step == 50:
            assert stuck.wait(5)  # the drain thread meets the disk first
    go_on.set()
    assert run.end(timeout_s=20)
    assert sum(call > 0.05 for call in calls) < 20  # not 50,000; a busy machine does some
    assert max(calls) < 0.5
    stored = server.only_run()
    dropped = int(stored.tags["stepwell.dropped_points"])
    assert len(stored.values("loss")) + dropped == 50_000
    assert dropped > 0


def test_offline_everything_lies_in_the_spool_and_nothing_is_sent(
    server: FaultServer, spool_dir: Path, warned: Callable[[], list[str]]
):
    with ExperimentTracker(server.url, mode="offline").start_run("exp") as run:
        log_some(run.log_metrics)
        begun = time.monotonic()
        assert not run.flush()
        assert time.monotonic() - begun < 1.0
    assert server.seen == []
    assert points_in(spool_dir) == STEPS
    assert len(warned()) == 1
    assert f"{run.pending:,} items" in warned()[0]
    assert run.pending > STEPS
    assert "stepwell sync" in warned()[0]


def test_what_a_full_disk_left_in_memory_is_not_said_to_be_on_disk(
    black_hole: str, warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
):
    def refuse(fd: int, pieces: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = ExperimentTracker(black_hole).start_run("exp")
    monkeypatch.setattr("stepwell.segments.os.writev", refuse)
    log_some(run.log_metrics)
    assert not run.end(timeout_s=0.1)
    assert "what memory holds is lost with this process" in warned()[-1]


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        threading.Event().wait(0.01)


def test_a_spool_in_use_is_nobody_elses(server: FaultServer, black_hole: str):
    run = ExperimentTracker(black_hole).start_run()
    run.log_metric("loss", 1.0)
    run.flush(timeout_s=0)
    folder = folders(run._config.spool_dir)[0]
    assert Spool.adopt(folder, run._config) is None
    run.end(timeout_s=0)
