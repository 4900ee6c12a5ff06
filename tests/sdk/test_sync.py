"""``stepwell sync``: everything that dead processes left, wherever it should go, told by codes."""

import io
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell import ExperimentTracker
from stepwell.folders import folders
from stepwell.run import ActiveRun
from stepwell.sync import Bar, main
from tests.sdk.fault_server import Fault, FaultServer


@pytest.fixture
def offline(server: FaultServer) -> Callable[..., ActiveRun]:
    def make(url: str = server.url, points: int = 100) -> ActiveRun:
        with ExperimentTracker(url, mode="offline").start_run("exp") as run:
            for step in range(points):
                run.log_metric("loss", step, step=step)
        return run

    return make


def test_everything_goes_where_it_was_meant_to_go(
    server: FaultServer, offline: Callable[..., ActiveRun], spool_dir: Path
):
    with FaultServer() as other:
        first, second = offline(), offline(other.url)
        assert main([]) == 0
        assert server.runs.keys() == {first.run_id}
        assert other.runs.keys() == {second.run_id}
        assert other.only_run().values("loss") == [(step, float(step)) for step in range(100)]
        assert other.only_run().status == "finished"
    assert folders(spool_dir) == []


@pytest.mark.parametrize("by", ["option", "environment"])
def test_another_server_may_be_named(
    by: str, server: FaultServer, offline: Callable[..., ActiveRun], settings: Callable[..., None]
):
    run = offline("http://127.0.0.1:9")
    if by == "environment":
        settings(url=server.url)
    assert main(["--url", server.url] if by == "option" else []) == 0
    assert server.only_run().values("loss") == [(step, float(step)) for step in range(100)]
    assert server.runs.keys() == {run.run_id}


def test_another_folder_may_be_named(
    server: FaultServer, offline: Callable[..., ActiveRun], spool_dir: Path, tmp_path: Path
):
    run = offline()
    spool_dir.rename(tmp_path / "elsewhere")
    assert main([str(tmp_path / "elsewhere")]) == 0
    assert server.runs.keys() == {run.run_id}


def test_the_folder_of_one_run_may_be_named_as_a_warning_names_it(
    server: FaultServer, offline: Callable[..., ActiveRun], spool_dir: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    first, second = offline(), offline()
    server.refuse = lambda kind, _, value: (422, "not 5") if value == 5 else None
    assert main([str(folders(spool_dir)[1])]) == 3
    assert f"(see {spool_dir / 'refused'})" in capsys.readouterr().err
    assert server.runs.keys() == {second.run_id}
    assert [folder.name[:32] for folder in folders(spool_dir)] == [first.run_id]


@pytest.mark.parametrize("kind", ["a file", "a loop"])
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    place = tmp_path / "spool"
    if kind == "a file":
        place.write_text("x")
    else:
        place.symlink_to(place)
    assert main([str(place)]) == 1
    assert f"{place}: " in capsys.readouterr().err


def test_an_empty_folder_is_done(spool_dir: Path, capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    assert "no folder" not in capsys.readouterr().err  # nothing was ever logged here
    assert main([str(spool_dir / "mistyped")]) == 0
    assert f"no folder {spool_dir / 'mistyped'}" in capsys.readouterr().err


def test_a_process_killed_while_it_removed_its_spool_leaves_nothing_to_complain_of(
    server: FaultServer, offline: Callable[..., ActiveRun], spool_dir: Path
):
    run = offline()
    remnant = spool_dir / f"{run.run_id}-00000000"
    remnant.mkdir()
    assert remnant in folders(spool_dir)
    assert main([]) == 0
    assert server.runs.keys() == {run.run_id}
    assert folders(spool_dir) == []


def test_a_spool_that_lost_its_owner_file_is_not_removed(
    offline: Callable[..., ActiveRun], spool_dir: Path, capsys: pytest.CaptureFixture[str]
):
    offline()
    (folder,) = folders(spool_dir)
    (folder / "owner").unlink()
    assert main([]) == 1
    assert str(folder) in capsys.readouterr().err
    assert folders(spool_dir) == [folder]


def test_what_cannot_be_sent_stays_and_goes_the_next_time(
    server: FaultServer, offline: Callable[..., ActiveRun], spool_dir: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    offline()
    server.faults = [Fault("status", status=503)]
    assert main(["--wait", "0.1"]) == 1
    assert "503" in capsys.readouterr().err
    assert len(folders(spool_dir)) == 1
    server.faults = []
    assert main([]) == 0
    assert server.only_run().values("loss") == [(step, float(step)) for step in range(100)]


def test_a_server_that_is_down_is_not_waited_for_once_a_run(
    server: FaultServer, offline: Callable[..., ActiveRun], spool_dir: Path
):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for _ in range(20):
        offline(closed, points=1)
    offline(points=1)
    assert main(["--wait", "0.3"]) == 1
    assert len(folders(spool_dir)) == 20
    assert len(server.runs) == 1


def test_it_goes_on_through_short_troubles(server: FaultServer, offline: Callable[..., ActiveRun]):
    offline()
    server.faults = [Fault("reply lost", times=2)]
    assert main([]) == 0
    assert server.only_run().values("loss") == [(step, float(step)) for step in range(100)]


def test_what_is_refused_is_told_by_its_own_code(
    server: FaultServer, offline: Callable[..., ActiveRun], spool_dir: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    run = offline()
    server.refuse = lambda kind, _, value: (422, "13") if kind == "point" and value == 13 else None
    assert main([]) == 3
    assert len(server.only_run().values("loss")) == 99
    assert (spool_dir / "refused" / f"{run.run_id}.jsonl").exists()
    assert "1 items refused" in capsys.readouterr().err
    assert main([]) == 0


def test_a_run_that_is_refused_stays_and_is_told_by_that_code_too(
    server: FaultServer, offline: Callable[..., ActiveRun], spool_dir: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    """Its experiment was deleted, say: without a run there is nowhere to send to."""
    run, other = offline(), offline()
    server.refuse = lambda kind, _, it: (
        (409, "its experiment is deleted") if kind == "run" and it.run_id == run.run_id else None
    )
    begun = time.monotonic()
    assert main([]) == 3
    assert time.monotonic() - begun < 5  # waiting would be of no use
    assert "its experiment is deleted" in capsys.readouterr().err
    assert server.runs.keys() == {other.run_id}
    assert [folder.name[:32] for folder in folders(spool_dir)] == [run.run_id]
    server.refuse = lambda *_: None
    assert main([]) == 0
    assert len(server.runs[run.run_id].values("loss")) == 100


def test_a_running_process_keeps_what_it_has(
    server: FaultServer, spool_dir: Path, capsys: pytest.CaptureFixture[str]
):
    run = ExperimentTracker(server.url, mode="offline").start_run("exp")
    run.log_metric("loss", 1.0)
    assert main([]) == 1
    assert "running process" in capsys.readouterr().err
    assert server.runs == {}
    run.end()
    assert main([]) == 0


def test_an_interrupted_sync_goes_on_where_it_was(
    server: FaultServer, offline: Callable[..., ActiveRun], settings: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    settings(request_bytes=10_000, buffer_points=500)
    offline(points=20_000)
    from stepwell.delivery import Delivery

    real, left = Delivery.step, [5]

    def step(self: Delivery, *, haste: bool) -> bool:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(self, haste=haste)

    monkeypatch.setattr(Delivery, "step", step)
    with pytest.raises(KeyboardInterrupt):
        main([])
    first = len(server.only_run().values("loss"))
    assert 0 < first < 20_000
    assert main([]) == 0
    assert server.only_run().values("loss") == [(step, float(step)) for step in range(20_000)]
    assert server.only_run().received == 20_000  # nothing acknowledged was sent again


def test_requests_are_larger_where_nobody_trains(
    server: FaultServer, offline: Callable[..., ActiveRun], settings: Callable[..., None]
):
    """120 kB of rows: 12 requests beside a training, a few where all wait for the last one."""
    settings(request_bytes=20_000, buffer_points=100)
    offline(points=5_000)
    assert main([]) == 0
    assert server.only_run().values("loss") == [(step, float(step)) for step in range(5_000)]
    sizes = [int(seen.headers["Content-Length"]) for seen in server.requests("log-batch")]
    assert 3 <= len([size for size in sizes if size > 1_000]) <= 5


def test_wrong_use_is_2():
    assert main(["--url", "ftp://h"]) == 2
    with pytest.raises(SystemExit) as exited:
        main(["--nonsense"])
    assert exited.value.code == 2


def test_help_has_an_example_that_works(
    server: FaultServer, offline: Callable[..., ActiveRun], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as exited:
        main(["--help"])
    assert exited.value.code == 0
    example = capsys.readouterr().out.strip().splitlines()[-1].split()
    assert example[:2] == ["stepwell", "sync"]
    offline()
    assert main([part.replace("http://127.0.0.1:7837", server.url) for part in example[2:]]) == 0
    assert len(server.runs) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_and_a_log_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
):
    now = [0.0]
    monkeypatch.setattr("stepwell.sync.time.monotonic", lambda: now[0])
    terminal, log = Terminal(), io.StringIO()
    bars = [Bar(1_000, terminal), Bar(1_000, log)]
    for second in range(1, 31):
        now[0] = float(second)
        for bar in bars:
            bar.show(1_000 - second * 30, "run x")
    assert "\r[" in terminal.getvalue()
    assert "90%" in terminal.getvalue()
    assert len(log.getvalue().splitlines()) == 3
    assert "\r" not in log.getvalue()
