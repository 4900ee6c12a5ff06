"""Trainings as processes against a real server: ranks, children, signals, exec, notebooks, a file
system without locks, and `stepwell sync` after all of them."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest

from stepwell import ExperimentTracker, Run
from stepwell.folders import folders
from stepwell.ids import new_run_id
from tests.serving import Served, serving

STEPS = 2_000
TRAINING = """
import os, signal, sys, time
from stepwell import ExperimentTracker
run = ExperimentTracker().start_run("processes")
for step in range(int(os.environ.get("FIRST", "0")), int(os.environ.get("LAST", "2_000"))):
    run.log_metrics({"loss": step / 7, "acc": step / 9}, step=step)
"""
NO_LOCKS = """
import errno, fcntl, os
def flock(fd, operation):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
"""
SYNC = "import sys\nfrom stepwell.__main__ import main\nsys.exit(main(['sync', *sys.argv[1:]]))"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def dead_url() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def python(code: str, url: str, *arguments: str, **names: str) -> subprocess.Popen[str]:
    environment = os.environ | {"STEPWELL_URL": url} | names
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it printed; its exit code must be ``code``."""
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    return shown


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def sync(spool: Path, url: str, *, code: int = 0, before: str = "") -> str:
    """Exit code as given; returns what it said."""
    process = python(before + SYNC, url, str(spool), "--wait", "0.2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    return errors


def arrived(server: Served, run_id: str, steps: int = STEPS) -> Run:
    """Every point of a training, once and bit for bit."""
    tracker = ExperimentTracker(server.url)
    for key, divisor in (("loss", 7), ("acc", 9)):
        found = tracker.get_metric_arrays(run_id, key)
        assert list(found.steps) == list(range(steps))
        assert list(found.values) == [step / divisor for step in range(steps)]
    return tracker.get_run(run_id)


# --- a file system without locks -----------------------------------------------------------------


def killed_without_locks(url: str, spool: Path) -> tuple[Path, str]:
    """A training on such a file system, killed when all of it lay in its spool."""
    process = python(NO_LOCKS + TRAINING + "print(run.run_id, flush=True); time.sleep(60)", url)
    run_id = line_of(process)
    time.sleep(0.7)
    assert "a running process has it" in sync(spool, url, code=1, before=NO_LOCKS)
    (folder,) = folders(spool)
    process.kill()
    process.communicate()
    return folder, run_id


def test_without_locks_a_living_process_keeps_its_spool_and_a_dead_ones_is_free(
    server: Served, spool: Path, dead_url: str
):
    folder, run_id = killed_without_locks(dead_url, spool)
    assert json.loads((folder / "owner").read_text())["pid"] > 0
    sync(spool, server.url, before=NO_LOCKS)
    assert arrived(server, run_id).status == "running"
    assert folders(spool) == []


def test_without_locks_a_number_that_was_used_again_owns_nothing(
    server: Served, spool: Path, dead_url: str
):
    folder, run_id = killed_without_locks(dead_url, spool)
    owner = json.loads((folder / "owner").read_text())
    (folder / "owner").write_text(json.dumps(owner | {"pid": os.getpid()}))
    sync(spool, server.url, before=NO_LOCKS)
    arrived(server, run_id)


def test_without_locks_another_hosts_spool_is_left_alone(
    server: Served, spool: Path, dead_url: str
):
    folder, _ = killed_without_locks(dead_url, spool)
    owner = json.loads((folder / "owner").read_text())
    (folder / "owner").write_text(json.dumps(owner | {"host": "elsewhere 1"}))
    assert "a running process has it" in sync(spool, server.url, code=1, before=NO_LOCKS)
    assert folders(spool) == [folder]


def test_without_locks_the_next_run_sends_what_was_left(tmp_path: Path, spool: Path, dead_url: str):
    _, run_id = killed_without_locks(dead_url, spool)
    with serving(tmp_path / "data", port=int(dead_url.rpartition(":")[2])) as server:
        again = {"STEPWELL_RUN_ID": run_id, "FIRST": str(STEPS), "LAST": str(STEPS + 100)}
        finished(python(NO_LOCKS + TRAINING, server.url, **again))
        assert arrived(server, run_id, STEPS + 100).status == "finished"
    assert folders(spool) == []


# --- several processes ---------------------------------------------------------------------------


def test_ranks_that_run_at_once_make_one_run_and_only_rank_0_ends_it(server: Served, spool: Path):
    """As torchrun starts them: one id for all, RANK for each; rank 0 is done before the others."""
    run_id = new_run_id("default")
    code = """
    import sys, time
    from stepwell import ExperimentTracker
    with ExperimentTracker().start_run("ranks") as run:
        for step in range(1_000):
            run.log_metrics({f"loss/{run.rank}": step, "all": run.rank}, step=step)
        print(run.flush(timeout_s=30), flush=True)
        sys.stdin.readline()
        run.log_metric(f"late/{run.rank}", 1.0)
    """
    ranks = [
        python(code, server.url, STEPWELL_RUN_ID=run_id, RANK=str(rank)) for rank in (3, 1, 2, 0)
    ]
    assert [line_of(process) for process in ranks] == ["True"] * 4
    tracker = ExperimentTracker(server.url)
    assert tracker.get_run(run_id).status == "running"
    finished(ranks.pop())
    assert tracker.get_run(run_id).status == "finished"
    for process in ranks:
        finished(process)
    found = tracker.get_run(run_id)
    assert found.status == "finished"
    assert found.writers.keys() == {"0", "1", "2", "3"}
    assert all(time.time() * 1e3 - seen < 60_000 for seen in found.writers.values())
    assert found.metrics == {
        **{f"loss/{rank}": 999.0 for rank in range(4)},
        **{f"late/{rank}": 1.0 for rank in range(4)},
        "all": found.metrics["all"],  # of whoever logged the last step last
    }
    assert len(tracker.get_metric_arrays(run_id, "all").steps) == 4_000
    assert folders(spool) == []


def test_a_rank_that_is_killed_leaves_the_run_running(server: Served, spool: Path):
    run_id = uuid.uuid4().hex
    for first, sent in ((0, signal.SIGKILL), (1_000, signal.SIGTERM)):
        names = {"FIRST": str(first), "LAST": str(first + 1_000)}
        names["STEPWELL_RUN_ID"] = str(uuid.UUID(run_id))
        code = f"{TRAINING}run.flush(30)\nos.kill(os.getpid(), {sent:d})"
        finished(python(code, server.url, RANK="1", **names), -sent)
    assert arrived(server, run_id).status == "running"
    names = {"FIRST": "2_000", "LAST": "2_001", "STEPWELL_RUN_ID": run_id}
    finished(python(TRAINING, server.url, RANK="0", **names))
    assert arrived(server, run_id, 2_001).status == "finished"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_log_into_the_run_and_never_end_it(
    method: str, server: Served, spool: Path, tmp_path: Path
):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import multiprocessing, sys
        from stepwell import ExperimentTracker
        def work(run, name):
            for step in range(500):
                run.log_metric(name, step, step=step)
            run.end()
        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            with ExperimentTracker().start_run("children") as run:
                names = ["a", "b", "c"]
                children = [context.Process(target=work, args=(run, name)) for name in names]
                for child in children:
                    child.start()
                for child in children:
                    child.join()
                    assert child.exitcode == 0
                run.log_metric("parent", 1.0)
                print(run.run_id, ExperimentTracker().get_run(run.run_id).status)
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script), method],
        env=os.environ | {"STEPWELL_URL": server.url, "STEPWELL_TOKEN": ""},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    run_id, status = done.stdout.split()
    assert (status, done.stderr) == ("running", "")
    tracker = ExperimentTracker(server.url)
    for name in "abc":
        assert list(tracker.get_metric_arrays(run_id, name).steps) == list(range(500))
    found = tracker.get_run(run_id)
    assert (found.status, found.metrics["parent"]) == ("finished", 1.0)
    assert folders(spool) == []


# --- how a process ends --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setup", "code", "ran"),
    [
        pytest.param("", -signal.SIGTERM, False, id="the default action"),
        pytest.param(
            "signal.signal(15, lambda *_: sys.exit(7))", 7, True, id="a handler that exits"
        ),
        pytest.param("signal.signal(15, handler)", 0, True, id="a handler that goes on"),
    ],
)
def test_a_sigterm_inside_a_loop_is_a_killed_run_and_the_handler_found_comes_after(
    setup: str, code: int, server: Served, spool: Path, *, ran: bool
):
    script = """
    import itertools, signal, sys, time
    from stepwell import ExperimentTracker
    seen = []
    def handler(number, frame):
        seen.append(number)
    %s
    with ExperimentTracker().start_run("terminated") as run:
        print(run.run_id, flush=True)
        for step in itertools.count():
            run.log_metrics({"loss": step / 7, "acc": step / 9}, step=step)
            if seen:
                break
    assert seen == [15]
    """
    process = python(textwrap.dedent(script) % setup, server.url)
    run_id = line_of(process)
    time.sleep(0.3)
    process.terminate()
    finished(process, code)
    steps = len(ExperimentTracker(server.url).get_metric_arrays(run_id, "loss").steps)
    assert steps > 100
    assert arrived(server, run_id, steps).status == "killed"
    assert folders(spool) == []
    assert ran == bool(setup)


def test_what_a_process_logged_before_an_exec_is_sent_by_what_comes_after(
    server: Served, spool: Path
):
    """The same process number and start time; but its lock went with the old program."""
    program = TRAINING + "print(run.run_id)"
    again = f"os.execv(sys.executable, [sys.executable, '-c', {program!r}])"
    code = TRAINING + "print(run.run_id, flush=True); time.sleep(0.6)\n" + again
    first, second = finished(python(code, server.url)).split()
    sync(spool, server.url)
    assert arrived(server, first).status == "running"
    assert arrived(server, second).status == "finished"
    assert folders(spool) == []


KERNEL = """
import sys, traceback, types
class Shell:
    pass
# What asks whether it runs in a notebook asks IPython.
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=Shell)
names = {"__name__": "__main__"}
for cell in sys.stdin.read().split("# %%\\n"):
    try:
        exec(compile(cell, "<cell>", "exec"), names)
    except BaseException:
        sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()
        traceback.print_exc()
"""


def test_a_notebook_runs_cells_again_and_needs_no_with(server: Served, spool: Path):
    """One kernel: cells that are run twice, several runs, a cell that fails, and a shutdown."""
    start = 'run = tracker.start_run("notebook")\nprint(run.run_id)\n'
    train = "for step in range(100):\n    run.log_metrics({'loss': step, 'acc': 1.0}, step=step)\n"
    train += "time.sleep(0.01)\n"
    cells = [
        "import time\nfrom stepwell import ExperimentTracker\ntracker = ExperimentTracker()\n",
        start, train, train,  # the same cell again: the same steps, at other times
        "1 / 0\n", "raise KeyboardInterrupt\n",
        start, train,  # the first cell again: another run, and the first one stays as it is
        "print(tracker.get_run(run.run_id).status)\n",
        "print(run.end())\n", "run.log_metric('late', 1.0)\n",
        start, train,
    ]  # fmt: skip
    kernel = python(KERNEL, server.url)
    shown, errors = kernel.communicate("# %%\n".join(cells), timeout=60)
    assert kernel.returncode == 0
    assert errors.count("Traceback") == 2
    assert "stepwell" not in errors.replace("<cell>", "")
    first, second, status, ended, third = shown.split()
    assert (status, ended) == ("running", "True")
    tracker = ExperimentTracker(server.url)
    assert len(tracker.get_metric_arrays(first, "loss").steps) == 200
    assert [len(tracker.get_metric_arrays(run, "loss").steps) for run in (second, third)] == [
        100
    ] * 2
    assert tracker.get_run(second).metrics["late"] == 1.0
    assert [tracker.get_run(run).status for run in (first, second, third)] == ["finished"] * 3
    assert folders(spool) == []


# --- stepwell sync -------------------------------------------------------------------------------


def offline(runs: int, steps: int, url: str) -> list[str]:
    code = f"""
    from stepwell import ExperimentTracker
    for _ in range({runs}):
        with ExperimentTracker(mode="offline").start_run("night") as run:
            for step in range({steps}):
                run.log_metrics({{"loss": step / 7, "acc": step / 9}}, step=step)
        print(run.run_id)
    """
    return finished(python(code, url, STEPWELL_BUFFER_POINTS="100")).split()


SMALL_REQUESTS = {"STEPWELL_REQUEST_BYTES": "4000"}


def progress(spool: Path) -> dict[str, bytes]:
    """How far each spool is acknowledged."""
    return {
        folder.name: mark.read_bytes() if (mark := folder / "acked").exists() else b""
        for folder in folders(spool)
    }


def test_a_sync_that_is_killed_again_and_again_sends_everything_once(
    server: Served, spool: Path, dead_url: str
):
    steps = 10_000
    ids = offline(2, steps, dead_url)
    for _ in range(3):
        before = progress(spool)
        process = python(SYNC, dead_url, str(spool), "--url", server.url, **SMALL_REQUESTS)
        while progress(spool) == before:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.communicate()
    there = ExperimentTracker(server.url).get_metric_arrays(ids[0], "loss").steps
    assert 0 < len(there) < steps
    sync(spool, server.url)
    for run_id in ids:
        assert arrived(server, run_id, steps).status == "finished"
    assert folders(spool) == []
    assert "0 runs sent" in sync(spool, server.url)


def test_the_exit_codes_of_sync_against_a_real_server(server: Served, spool: Path, dead_url: str):
    with ExperimentTracker(server.url).start_run("codes", params={"lr": 1}) as run:
        pass
    code = f"""
    from stepwell import ExperimentTracker
    run = ExperimentTracker(mode="offline").start_run(run_id="{run.run_id}")
    run.log_params({{"lr": 2, "seed": 7}})
    run.log_metric("loss", 1.0)
    """
    finished(python(code, dead_url))
    assert "1 could not be sent" in sync(spool, dead_url, code=1)
    assert "1 items refused" in sync(spool, server.url, code=3)
    [aside] = (spool / "refused" / f"{run.run_id}.jsonl").read_text().splitlines()
    assert "lr" in json.loads(aside)["reason"]
    found = ExperimentTracker(server.url).get_run(run.run_id)
    assert (found.params, found.metrics) == ({"lr": "1", "seed": "7"}, {"loss": 1.0})
    assert "0 runs sent" in sync(spool, server.url)


def test_a_terminal_sees_how_far_a_sync_is(server: Served, spool: Path, dead_url: str):
    offline(2, 60_000, dead_url)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stepwell", "sync", str(spool), "--url", server.url],
        stderr=theirs, env=os.environ | SMALL_REQUESTS,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65_536):
            shown += block
    except OSError:  # how a terminal says that nobody writes any more
        pass
    os.close(ours)
    assert process.wait(60) == 0
    bars = [part for part in shown.decode().split("\r") if part.startswith("[")]
    shares = [int(bar.partition("%")[0].rpartition("]")[2]) for bar in bars]
    assert len(shares) >= 2
    assert shares == sorted(shares)
    assert "2 runs sent" in shown.decode()


def test_the_sender_imports_nothing(server: Served, spool: Path, tmp_path: Path):
    """A child that is forked meanwhile would wait for that import for ever."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import sys, threading

        class Watch:
            def find_spec(self, name, path=None, target=None):
                if threading.current_thread() is not threading.main_thread():
                    print("imported by a thread:", name, flush=True)

        sys.meta_path.insert(0, Watch())
        from stepwell import ExperimentTracker
        with ExperimentTracker().start_run("imports") as run:
            run.log_params({"a": 1})
            run.log_metric("loss", 1.0)
            run.log_artifact(__file__)
        print(run.status)
        """)
    )
    for url in (server.url, "http://127.0.0.1:1"):
        done = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"STEPWELL_URL": url, "STEPWELL_EXIT_TIMEOUT_S": "1"},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.split() == ["finished"]
