"""Every way a process ends: what the run's status says, what arrives, and how long it takes."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell import ExperimentTracker
from stepwell.folders import folders
from stepwell.lifecycle import LIFECYCLE
from tests.sdk.fault_server import Fault, FaultServer

HEAD = """
import os, signal, sys, time
from stepwell import ExperimentTracker
run = ExperimentTracker().start_run("exp")
for step in range(100):
    run.log_metric("loss", step, step=step)
"""
LOGGED = [(step, float(step)) for step in range(100)]


class Script:
    """Another Python that trains against ``url``."""

    def __init__(self, url: str, spool_dir: Path, body: str, **settings: object) -> None:
        names = {f"STEPWELL_{name.upper()}": str(value) for name, value in settings.items()}
        environment = (
            os.environ | names | {"STEPWELL_URL": url, "STEPWELL_SPOOL_DIR": str(spool_dir)}
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEAD + textwrap.dedent(body)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for_line(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def result(self) -> tuple[int, str]:
        """Exit code and standard error."""
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        pytest.param("", 0, "finished", id="normal exit without end"),
        pytest.param("1 / 0", 1, "failed", id="exception"),
        pytest.param("raise KeyboardInterrupt", -signal.SIGINT, "killed", id="ctrl-c"),
        pytest.param(
            "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", -2, "killed", id="SIGINT"
        ),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", -15, "killed", id="SIGTERM"),
        pytest.param("with run: 1 / 0", 1, "failed", id="exception in with"),
        pytest.param("with run: raise KeyboardInterrupt", -2, "killed", id="ctrl-c in with"),
        pytest.param("with run: sys.exit(3)", 3, "failed", id="exit 3 in with"),
        pytest.param("with run: sys.exit()", 0, "finished", id="exit in with"),
        pytest.param("with run: os.kill(os.getpid(), 15)", -15, "killed", id="SIGTERM in with"),
    ],
)
def test_the_status_says_how_it_ended_and_the_exit_code_stays(
    server: FaultServer, spool_dir: Path, body: str, code: int, status: str
):
    found, errors = Script(server.url, spool_dir, body).result()
    assert found == code, errors
    stored = server.only_run()
    assert stored.status == status
    assert stored.values("loss") == LOGGED
    assert folders(spool_dir) == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("time.sleep(0.6); os._exit(7)", id="os._exit"),
        pytest.param("time.sleep(0.6); os.kill(os.getpid(), signal.SIGKILL)", id="SIGKILL"),
        pytest.param("time.sleep(0.6); os.abort()", id="abort"),
        pytest.param("time.sleep(0.6); os.execv('/bin/true', ['true'])", id="exec"),
        pytest.param("import ctypes; time.sleep(0.6); ctypes.string_at(0)", id="segfault"),
    ],
)
def test_what_is_older_than_half_a_second_outlives_a_process_that_vanishes(
    server: FaultServer, spool_dir: Path, body: str
):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        Script(url, spool_dir, body).result()
    assert len(folders(spool_dir)) == 1
    sync(server.url, spool_dir)
    assert server.only_run().values("loss") == LOGGED
    assert server.only_run().status == "running"  # nobody said that it ended: stale, by its age


def sync(url: str, spool_dir: Path, code: int = 0) -> None:
    arguments = [sys.executable, "-m", "stepwell", "sync", str(spool_dir), "--url", url]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr


def test_a_killed_run_can_be_resumed(server: FaultServer, spool_dir: Path):
    script = Script(server.url, spool_dir, "print(run.run_id, flush=True); time.sleep(60)")
    assert script.process.stdout is not None
    run_id = script.process.stdout.readline().strip()
    time.sleep(0.6)
    script.process.kill()
    script.result()
    run = ExperimentTracker(server.url).start_run(run_id=run_id)
    run.log_metric("loss", 100.0, step=100)
    assert run.end()
    assert server.only_run().values("loss") == [*LOGGED, (100, 100.0)]
    assert server.only_run().status == "finished"
    assert folders(spool_dir) == []


def test_an_exception_at_a_prompt_is_not_how_the_process_ended(
    server: FaultServer, spool_dir: Path
):
    environment = os.environ | {"STEPWELL_URL": server.url}
    lines = HEAD + "1 / 0\n"
    arguments = [sys.executable, "-i", "-q"]
    subprocess.run(arguments, input=lines, env=environment, text=True, capture_output=True)
    assert server.only_run().status == "finished"


@pytest.mark.parametrize("signaled", [False, True], ids=["exit", "SIGTERM"])
def test_a_dead_server_holds_up_the_exit_no_longer_than_stated(spool_dir: Path, *, signaled: bool):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        body = "print(1, flush=True)" + ("; time.sleep(60)" if signaled else "")
        script = Script(url, spool_dir, body, exit_timeout_s=1)
        script.wait_for_line()
        begun = time.monotonic()
        if signaled:
            script.process.terminate()
        code, errors = script.result()
    assert code == (-15 if signaled else 0)
    assert 0.5 < time.monotonic() - begun < 3
    assert "102 items wait in" in errors  # the run, 100 points and the end


def test_what_is_said_at_the_exit_leaves_the_exit_code_alone(spool_dir: Path):
    script = Script("http://127.0.0.1:1", spool_dir, "raise KeyboardInterrupt", mode="offline")
    code, errors = script.result()
    assert "102 items wait in" in errors
    assert code == -signal.SIGINT


@pytest.mark.parametrize("body", ["raise KeyboardInterrupt", "with run: raise KeyboardInterrupt"])
def test_a_second_ctrl_c_ends_the_wait_for_a_dead_server(spool_dir: Path, body: str):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        script = Script(url, spool_dir, f"print(1, flush=True)\n{body}", exit_timeout_s=20)
        script.wait_for_line()
        time.sleep(1)
        assert script.process.poll() is None  # it waits
        script.process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        code, errors = script.result()
    assert time.monotonic() - begun < 5
    assert code == -signal.SIGINT
    assert "atexit" not in errors
    assert len(folders(spool_dir)) == 1
    with FaultServer() as server:
        sync(server.url, spool_dir)
        assert server.only_run().values("loss") == LOGGED
        assert server.only_run().status == "killed"


def test_with_and_exit_share_one_deadline(spool_dir: Path):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        script = Script(url, spool_dir, "print(1, flush=True)\nwith run: pass", exit_timeout_s=1.5)
        script.wait_for_line()
        begun = time.monotonic()
        script.result()
        assert time.monotonic() - begun < 2.8


def test_many_runs_share_one_deadline_at_exit(spool_dir: Path):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        body = "runs = [ExperimentTracker().start_run() for _ in range(5)]; print(1, flush=True)"
        script = Script(url, spool_dir, body, exit_timeout_s=1)
        script.wait_for_line()
        begun = time.monotonic()
        script.result()
    assert time.monotonic() - begun < 3
    assert len(folders(spool_dir)) == 6


def test_a_handler_for_sigterm_is_called_and_may_go_on(server: FaultServer, spool_dir: Path):
    body = """
    seen = []
    run.end()
    signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    with ExperimentTracker().start_run("exp") as run:
        os.kill(os.getpid(), signal.SIGTERM)
        run.log_metric("checkpoint", 1.0)
    assert seen == [1]
    assert signal.getsignal(signal.SIGTERM)(1) is None and len(seen) == 2
    """
    code, errors = Script(server.url, spool_dir, body).result()
    assert code == 0, errors
    second = list(server.runs.values())[1]
    assert (second.status, second.values("checkpoint")) == ("killed", [(0, 1.0)])


def test_an_ignored_sigterm_stays_ignored(server: FaultServer, spool_dir: Path):
    body = """
    run.end()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with ExperimentTracker().start_run("exp") as run:
        os.kill(os.getpid(), signal.SIGTERM)
    """
    assert Script(server.url, spool_dir, body).result()[0] == 0
    assert [run.status for run in server.runs.values()] == ["finished", "finished"]


def test_the_handler_goes_with_the_last_run(tracker: ExperimentTracker):
    found = signal.getsignal(signal.SIGTERM)
    with tracker.start_run(), tracker.start_run():
        assert signal.getsignal(signal.SIGTERM) != found
    assert signal.getsignal(signal.SIGTERM) == found


def test_sigterm_at_any_moment_of_a_busy_loop_loses_nothing_that_was_logged(
    server: FaultServer, spool_dir: Path
):
    """The handler runs in the middle of logging calls, and of writes into the spool."""
    body = """
    import itertools
    print(run.run_id, flush=True)
    for step in itertools.count(100):
        run.log_metric("loss", step, step=step)
    """
    for attempt in range(5):
        script = Script(server.url, spool_dir, body, buffer_points=50)
        assert script.process.stdout is not None
        run_id = script.process.stdout.readline().strip()
        time.sleep(0.05 * attempt)
        script.process.terminate()
        code, errors = script.result()
        assert code == -15, errors
        values = server.runs[run_id].values("loss")
        assert values == [(step, float(step)) for step in range(len(values))]
        assert len(values) >= 100
        assert server.runs[run_id].status == "killed"
    assert folders(spool_dir) == []


def test_a_handler_that_logs_in_the_middle_of_a_busy_loop_loses_nothing(
    server: FaultServer, spool_dir: Path
):
    """It interrupts logging calls and writes into the spool, and the training goes on."""
    body = """
    beats, inside = 0, False
    def handle(*_):
        global beats, inside
        if inside:
            return
        inside = True
        run.log_metrics({f"beat/{n}": beats for n in range(10)}, step=beats)
        run.set_tag("beats", beats)
        if beats % 20 == 0:
            run.flush(timeout_s=0)
        beats, inside = beats + 1, False
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    step, until = 100, time.monotonic() + 1
    while time.monotonic() < until:
        run.log_metric("loss", step, step=step)
        step += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(run.run_id, step, beats, run.end(timeout_s=30), flush=True)
    """
    script = Script(server.url, spool_dir, body, buffer_points=50)
    assert script.process.stdout is not None
    run_id, steps, beats, ended = script.process.stdout.readline().split()
    assert script.result() == (0, "")
    assert ended == "True"
    stored = server.runs[run_id]
    assert stored.values("loss") == [(step, float(step)) for step in range(int(steps))]
    for number in range(10):
        expected = [(beat, float(beat)) for beat in range(int(beats))]
        assert stored.values(f"beat/{number}") == expected
    assert int(beats) > 50
    assert stored.tags == {"beats": str(int(beats) - 1)}
    assert all(series for series in stored.points.values())


FORKS = {
    "os.fork": """
    pid = os.fork()
    if pid == 0:
        run.log_metric("child", 1.0)
        run.end()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """,
    "multiprocessing fork": """
    import multiprocessing
    def work(run):
        run.log_metric("child", 1.0)
    child = multiprocessing.get_context("fork").Process(target=work, args=(run,))
    child.start(); child.join(); assert child.exitcode == 0
    """,
    "a pool": """
    import multiprocessing
    def work(value):
        run.log_metric("child", value)
        time.sleep(0.6)  # a pool kills its workers
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, [1.0])
    """,
}


@pytest.mark.parametrize("body", FORKS.values(), ids=FORKS)
def test_a_forked_child_logs_into_the_run_and_never_ends_it(
    server: FaultServer, spool_dir: Path, body: str
):
    tail = (
        textwrap.dedent(body) + "\nrun.log_metric('parent', 1.0)\nassert run.status == 'running'\n"
    )
    code, errors = Script(server.url, spool_dir, tail).result()
    assert code == 0, errors
    stored = server.only_run()
    assert stored.values("child") == [(100, 1.0)]
    assert stored.values("parent") == [(100, 1.0)]
    assert stored.values("loss") == LOGGED
    assert len(server.requests("end")) == 1
    assert folders(spool_dir) == []


def test_a_child_that_does_not_log_touches_nothing(server: FaultServer, spool_dir: Path):
    body = """
    import threading
    before = set(os.listdir(os.environ["STEPWELL_SPOOL_DIR"]))
    pid = os.fork()
    if pid == 0:
        assert threading.active_count() == 1
        assert set(os.listdir(os.environ["STEPWELL_SPOOL_DIR"])) == before
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    code, errors = Script(server.url, spool_dir, body).result()
    assert code == 0, errors
    assert server.only_run().values("loss") == LOGGED
    assert len(server.requests("end")) == 1


def test_a_spawned_child_logs_into_the_run(server: FaultServer, spool_dir: Path, tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import multiprocessing
        from stepwell import ExperimentTracker
        def work(run):
            run.log_metric("child", 1.0)
        if __name__ == "__main__":
            with ExperimentTracker().start_run("exp") as run:
                child = multiprocessing.get_context("spawn").Process(target=work, args=(run,))
                child.start(); child.join(); assert child.exitcode == 0
        """)
    )
    environment = os.environ | {"STEPWELL_URL": server.url}
    subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=60)
    assert server.only_run().values("child") == [(0, 1.0)]
    assert (server.only_run().status, len(server.requests("end"))) == ("finished", 1)


def test_an_orphaned_child_does_not_keep_the_parents_spool(server: FaultServer, spool_dir: Path):
    """A DataLoader's worker that outlives a killed training holds copies of its descriptors."""
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        url = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        body = """
        time.sleep(0.6)
        pid = os.fork()
        if pid == 0:
            time.sleep(20)
            os._exit(0)
        print(pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
        script = Script(url, spool_dir, body)
        assert script.process.stdout is not None
        orphan = int(script.process.stdout.readline())
        script.process.wait(timeout=30)
    try:
        sync(server.url, spool_dir)
        assert server.only_run().values("loss") == LOGGED
    finally:
        os.kill(orphan, signal.SIGKILL)
        script.result()


def test_a_stopped_process_keeps_its_spool(server: FaultServer, spool_dir: Path):
    """However long it is stopped: ownership is a lock, not an age."""
    script = Script("http://127.0.0.1:9", spool_dir, "print(1, flush=True); time.sleep(60)")
    script.wait_for_line()
    script.process.send_signal(signal.SIGSTOP)
    sync(server.url, spool_dir, code=1)
    assert server.runs == {}
    script.process.kill()
    script.result()
    sync(server.url, spool_dir)
    assert len(server.runs) == 1


def test_no_thread_and_no_run_stays_behind(tracker: ExperimentTracker):
    before = set(threading.enumerate())
    for _ in range(3):
        with tracker.start_run() as run:
            run.log_metric("loss", 1.0)
    assert LIFECYCLE.runs == {}
    wait_for(lambda: set(threading.enumerate()) <= before)


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


def test_what_is_logged_while_the_interpreter_goes_down_is_written_down(
    server: FaultServer, spool_dir: Path
):
    """After our own exit handler there is nobody to send it; the next process does."""
    body = """
    import atexit, threading, time
    atexit.register(lambda: (run.log_metric("handler", 1.0), run.log_param("handler", "1")))
    from stepwell import ExperimentTracker
    run = ExperimentTracker().start_run("exp")
    class Model:
        def __del__(self):
            run.log_metric("del", 1.0)
            run.set_tag("del", "1")
    model = Model()
    def work():
        time.sleep(0.2)
        run.log_metric("thread", 1.0)
    threading.Thread(target=work).start()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body)],
        env=os.environ | {"STEPWELL_URL": server.url, "STEPWELL_SPOOL_DIR": str(spool_dir)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert server.only_run().status == "finished"
    assert server.only_run().points.keys() == {"thread"}
    sync(server.url, spool_dir)
    assert server.only_run().points.keys() == {"thread", "handler", "del"}
    assert server.only_run().params == {"handler": "1"}
    assert server.only_run().tags == {"del": "1"}
    assert server.only_run().status == "finished"


def test_the_first_that_is_logged_after_the_end_may_come_from_a_destructor(
    server: FaultServer, spool_dir: Path
):
    """It needs a spool of its own, when nothing can be imported any more."""
    body = """
    from stepwell import ExperimentTracker
    run = ExperimentTracker().start_run("exp")
    class Model:
        def __del__(self):
            run.log_metric("del", 1.0)
    model = Model()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body)],
        env=os.environ | {"STEPWELL_URL": server.url, "STEPWELL_SPOOL_DIR": str(spool_dir)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert server.only_run().status == "finished"
    sync(server.url, spool_dir)
    assert server.only_run().values("del") == [(0, 1.0)]
    assert list(spool_dir.iterdir()) == []


def test_a_process_that_is_soon_over_sends_what_others_left(server: FaultServer, spool_dir: Path):
    left = []
    for number in range(20):
        with ExperimentTracker(server.url, mode="offline").start_run("exp") as run:
            run.log_metric("loss", number, step=0)
        left.append(run.run_id)
    script = Script(server.url, spool_dir, "print(run.end(), flush=True)")
    assert script.result()[0] == 0
    for number, run_id in enumerate(left):
        assert server.runs[run_id].values("loss") == [(0, float(number))]
    assert folders(spool_dir) == []


def test_what_others_left_holds_an_exit_up_no_longer_than_stated(
    server: FaultServer, spool_dir: Path
):
    for _ in range(12):
        with ExperimentTracker(server.url, mode="offline").start_run("exp") as run:
            run.log_metric("loss", 1.0)
        server.faults.append(Fault("slow", path=f"{run.run_id}/log-batch", seconds=0.3))
    script = Script(server.url, spool_dir, "print(run.end(), flush=True)", exit_timeout_s=1)
    script.wait_for_line()  # the end of a run waits for its own alone
    begun = time.monotonic()
    assert script.result()[0] == 0
    assert 0.5 < time.monotonic() - begun < 3
    assert 0 < len(folders(spool_dir)) < 12
