"""``python -m benchmarks.sdk_faults``: each fault, what was logged, what arrived, the longest call.

A training logs three metrics a step into a server that has one fault for its whole length; then the
fault ends, and what the client kept is sent.  ``arrived`` is what the server then holds, compared
bit for bit.  Faults of the process end it instead, and `stepwell sync` sends what it left.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stepwell import ExperimentTracker
from stepwell.run import ActiveRun
from stepwell.sync import main as sync
from tests.sdk.fault_server import Fault, FaultServer, StoredRun

PACE_S = 0.001
KEYS = ("train_loss", "val_loss", "accuracy")


@dataclass(frozen=True)
class Row:
    """One line of the table.  ``lost`` may only be what memory alone held, for less than 0.5 s."""

    fault: str
    logged: int
    arrived: int
    longest_ms: float
    note: str = ""

    def text(self) -> str:
        shown = f"{self.logged:,} | {self.arrived:,} | {self.longest_ms:.2f}"
        return f"| {self.fault} | {shown} | {self.note} |"


HEAD = "| fault | points logged | arrived | longest call, ms | |\n|---|---|---|---|---|"

SERVER_FAULTS = {
    "none": None,
    "500": Fault("status", status=500),
    "502": Fault("status", status=502),
    "503, Retry-After": Fault("status", status=503, headers={"Retry-After": "1"}),
    "429, Retry-After": Fault("status", status=429, headers={"Retry-After": "1"}),
    "507, disk full there": Fault("status", status=507),
    "401, wrong token": Fault("status", status=401),
    "403": Fault("status", status=403),
    "404": Fault("status", status=404),
    "reset": Fault("reset"),
    "reset in mid-body": Fault("reset mid-body"),
    "reply lost after commit": Fault("reply lost"),
    "half a reply": Fault("half a reply"),
    "accepted, never answered": Fault("hang", seconds=2.0),
    "a proxy's login page": Fault("html"),
}


def values_at(step: int) -> dict[str, float]:
    return {key: (step + place) / 7 for place, key in enumerate(KEYS)}


def count(stored: StoredRun | None, steps: int) -> int:
    """How many of the logged points are there; raises where one is wrong or twice."""
    arrived = 0
    for key in KEYS if stored else ():
        found = stored.values(key) if stored else []
        assert len({step for step, _ in found}) == len(found), "a point is there twice"
        for step, value in found:
            assert step < steps
            assert struct.pack("<d", value) == struct.pack("<d", values_at(step)[key])
        arrived += len(found)
    return arrived


def log_steps(run: ActiveRun, steps: int) -> float:
    """Returns the longest call in ms."""
    longest = 0
    for step in range(steps):
        values = values_at(step)
        begun = time.perf_counter_ns()
        run.log_metrics(values, step=step)
        longest = max(longest, time.perf_counter_ns() - begun)
        time.sleep(PACE_S)
    return longest / 1e6


@contextmanager
def spooling() -> Iterator[Path]:
    """A spool of its own; retries are quick, since nobody wants to wait for a benchmark."""
    folder = Path(tempfile.mkdtemp(prefix="stepwell-faults-"))
    before = dict(os.environ)
    os.environ |= {"STEPWELL_SPOOL_DIR": str(folder), "STEPWELL_READ_TIMEOUT_S": "1"}
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ |= before
        shutil.rmtree(folder, ignore_errors=True)


def server_faults(steps: int) -> Iterator[Row]:
    for name, fault in SERVER_FAULTS.items():
        with spooling(), FaultServer() as server:
            server.faults = [fault] if fault else []
            run = ExperimentTracker(server.url).start_run("faults")
            longest = log_steps(run, steps)
            server.faults = []
            ended = run.end(timeout_s=60)
            arrived = count(server.runs.get(run.run_id), steps)
            yield Row(name, steps * 3, arrived, longest, "" if ended else "not within 60 s")


def no_server(steps: int) -> Iterator[Row]:
    """Nobody there, in all the ways that can be; `stepwell sync` sends it all afterwards."""
    with ExitStack() as stack, FaultServer() as server:
        hole = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with socket.create_server(("127.0.0.1", 0)) as closed:
            refused = closed.getsockname()[1]
        places = {
            "connection refused": f"http://127.0.0.1:{refused}",
            "black hole": f"http://127.0.0.1:{hole.getsockname()[1]}",
            "no such name": "http://no-such-host.invalid:7837",
            "TLS error": server.url.replace("http:", "https:"),
        }
        for name, url in places.items():
            with spooling():
                run = ExperimentTracker(url).start_run("faults")
                longest = log_steps(run, steps)
                begun = time.monotonic()
                run.end(timeout_s=1)
                waited = time.monotonic() - begun
                code = leave(run, server.url)
                arrived = count(server.runs.get(run.run_id), steps)
                note = f"end(timeout_s=1) took {waited:.1f} s; sync exits {code}"
                yield Row(name, steps * 3, arrived, longest, note)


def leave(run: ActiveRun, url: str) -> int:
    """What the end of the process would do to the spool, and then `stepwell sync`."""
    run.after_fork()
    return sync(["--url", url])


def refuse_one(
    status: int, bad: float, kind: str, key: str, value: object
) -> tuple[int, str] | None:
    return (status, "no") if (kind, key, value) == ("point", "val_loss", bad) else None


def refusals(steps: int) -> Iterator[Row]:
    """The server refuses one point of all, for good."""
    bad = values_at(5)["val_loss"]
    for status in (400, 409, 413, 422):
        with spooling() as folder, FaultServer() as server:
            server.refuse = partial(refuse_one, status, bad)
            run = ExperimentTracker(server.url).start_run("faults")
            longest = log_steps(run, steps)
            run.end(timeout_s=60)
            arrived = count(server.runs.get(run.run_id), steps)
            aside = (folder / "refused" / f"{run.run_id}.jsonl").read_text().count("\n")
            note = f"{aside} set aside, with the reason"
            yield Row(f"{status} for one point", steps * 3, arrived, longest, note)


def bounds(steps: int) -> Iterator[Row]:
    """A spool of 8 GiB is full after days without a server; this one is smaller."""
    with spooling(), FaultServer() as server:
        os.environ |= {"STEPWELL_SPOOL_BYTES": "4000", "STEPWELL_BUFFER_POINTS": "50"}
        server.faults = [Fault("status", status=503)]
        run = ExperimentTracker(server.url).start_run("faults")
        longest = log_steps(run, steps)
        server.faults = []
        run.end(timeout_s=60)
        stored = server.runs[run.run_id]
        dropped = int(stored.tags["stepwell.dropped_points"])
        arrived = count(stored, steps)
        assert arrived + dropped == steps * 3, "a dropped point was not counted"
        note = f"the newest {dropped:,} dropped, as the tag `stepwell.dropped_points` says"
        yield Row("the spool's bound is reached", steps * 3, arrived, longest, note)


def artifacts(steps: int) -> Iterator[Row]:
    """A file too large to be copied into the spool, which is not what it was when it is sent."""
    for name in ("changed", "vanished"):
        with spooling() as folder, FaultServer() as server:
            os.environ["STEPWELL_ARTIFACT_COPY_BYTES"] = "10"
            path = folder / "model.bin"
            path.write_bytes(bytes(100))
            server.faults = [Fault("status", status=503)]
            run = ExperimentTracker(server.url).start_run("faults")
            run.log_artifact(path)
            path.write_bytes(bytes(101)) if name == "changed" else path.unlink()
            longest = log_steps(run, steps)
            server.faults = []
            run.end(timeout_s=60)
            stored = server.runs[run.run_id]
            aside = (folder / "refused" / f"{run.run_id}.jsonl").read_text()
            assert stored.artifacts == {}
            assert "model.bin" in aside
            note = "the file is set aside and reported"
            yield Row(f"a large file {name}", steps * 3, count(stored, steps), longest, note)


def disks(steps: int) -> Iterator[Row]:
    for name in ("spool cannot be written", "disk full under the spool"):
        with spooling() as folder, FaultServer() as server:
            if name.startswith("spool"):
                (folder / "file").touch()
                os.environ["STEPWELL_SPOOL_DIR"] = str(folder / "file" / "spool")
            run = ExperimentTracker(server.url).start_run("faults")
            with full_disk() if name.startswith("disk") else ExitStack():
                longest = log_steps(run, steps)
                run.end(timeout_s=60)
            arrived = count(server.runs.get(run.run_id), steps)
            yield Row(name, steps * 3, arrived, longest, "kept in memory")


@contextmanager
def full_disk() -> Iterator[None]:
    """The kernel refuses to let any file grow: what a full disk looks like to one process."""
    import resource
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


ENDS = {
    "process ends without end()": "pass",
    "exception": "raise ValueError",
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)",
    "os._exit": "os._exit(1)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "exec": "os.execv('/bin/true', ['true'])",
    "fork, the child logs too": "fork()",
    "rank 1 of two, ended by rank 0": "rank_0()",
}
TRAINING = """
import os, signal, subprocess, sys, time
from benchmarks.sdk_faults import log_steps, values_at
from stepwell import ExperimentTracker
run = ExperimentTracker().start_run("faults")
steps = int(sys.argv[1])

def fork():
    pid = os.fork()
    if pid == 0:
        run.log_metrics(values_at(0), step=0, timestamp=1)
        os._exit(0)
    os.waitpid(pid, 0)

def rank_0():
    code = "from benchmarks.sdk_faults import *; "
    code += "run = ExperimentTracker().start_run('faults'); run.log_metric('of rank 0', 1.0)"
    names = {"STEPWELL_RUN_ID": run.run_id, "RANK": "0"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | names, check=True)

if sys.argv[2].startswith("rank"):
    os.environ |= {"RANK": "1"}
    run = ExperimentTracker().start_run("faults", run_id=run.run_id)
print(run.run_id, log_steps(run, steps), flush=True)
"""


def ends(steps: int) -> Iterator[Row]:
    for name, code in ENDS.items():
        with spooling() as folder, FaultServer() as server:
            done = subprocess.run(
                [sys.executable, "-c", TRAINING + code, str(steps), name],
                env=os.environ | {"STEPWELL_URL": server.url},
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            run_id, longest = done.stdout.split()
            sync([str(folder), "--url", server.url])
            stored = server.runs.get(run_id)
            doubled = [] if stored is None else list(stored.points.values())
            for points in doubled:
                points -= {point for point in points if point[1] == 1}  # the child's own
            arrived = count(stored, steps)
            status = stored.status if stored else "none"
            yield Row(name, steps * 3, arrived, float(longest), f"status {status}")


GROUPS: tuple[Callable[[int], Iterator[Row]], ...] = (
    server_faults,
    no_server,
    refusals,
    bounds,
    artifacts,
    disks,
    ends,
)


def table(steps: int) -> Iterator[Row]:
    """Every fault, with so many steps of three metrics each."""
    for group in GROUPS:
        yield from group(steps)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdk_faults", description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000)
    print(HEAD)
    for row in table(parser.parse_args().steps):
        print(row.text(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
