"""What our client costs a training loop: without one, with a server, and with a dead one.

    python -m benchmarks.sdk_loop [--rounds N] [--steps N]

Rounds alternate, so that the machine's drift hits all alike; each ratio is the median over rounds
of a round's time to that of the loop without a tracker beside it.  A step is about 2 ms of NumPy
and Python, which is a very small step, or ten times that.  After each of them the caches are cold,
which costs a call ten times what it takes in a tight loop; "nothing at all" is a function that
does nothing with the same values.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.processes import scratch, stepwell
from stepwell import ExperimentTracker

Log = Callable[[dict[str, float], int], object]


def train(steps: int, passes: int, log: Log | None) -> tuple[float, float]:
    """Wall and main-thread CPU time of a loop, in seconds."""
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((256, 256))
    data = rng.standard_normal((256, 256))
    wall, cpu = time.perf_counter(), time.thread_time()
    for step in range(steps):
        for _ in range(passes):
            gradient = data @ weights / 256
            weights -= 1e-3 * gradient
            loss = sum(float(value) for value in gradient[0])  # some of a step is always Python
        if log is not None:
            log({"loss": loss, "norm": float(weights[0, 0]), "step_size": 1e-3}, step)
    return time.perf_counter() - wall, time.thread_time() - cpu


def compare(logs: dict[str, Log], steps: int, passes: int, rounds: int) -> Iterator[str]:
    """A line of the table by name: ratios of wall and of CPU time to the bare loop's."""
    step_ms = train(steps, passes, None)[0] / steps * 1e3
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in logs}
    for number in range(rounds):
        for name, log in logs.items():
            sides: list[Log | None] = [None, log] if number % 2 else [log, None]
            times = {side is None: train(steps, passes, side) for side in sides}
            bare, logged = times[True], times[False]
            ratios[name].append((logged[0] / bare[0], logged[1] / bare[1]))
    for name, found in ratios.items():
        wall, cpu = (median(column) for column in zip(*found, strict=True))
        shown = f"{(wall - 1) * 100:+.2f} % | {(cpu - 1) * 100:+.2f} %"
        yield f"| {name}, steps of {step_ms:.2g} ms | {shown} |"


def table(rounds: int = 15, steps: int = 500) -> Iterator[str]:
    """Lines of Markdown; ``steps`` is of the small ones, and a tenth of that of the large ones."""
    yield "| logging to | wall time | CPU of the main thread |"
    yield "|---|---|---|"
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        os.environ["STEPWELL_SPOOL_DIR"] = str(Path(tempfile.mkdtemp(dir=folder)))
        server = stack.enter_context(stepwell(folder / "data"))
        hole = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        urls = {
            "black hole": f"http://127.0.0.1:{hole.getsockname()[1]}",
            "a server": f"http://127.0.0.1:{server.port}",
        }
        runs = {name: ExperimentTracker(url).start_run("loop") for name, url in urls.items()}
        logs: dict[str, Log] = {name: run.log_metrics for name, run in runs.items()}
        logs["nothing at all"] = lambda values, step: None
        for passes in (1, 10):
            yield from compare(logs, steps // passes, passes, rounds)
        for run in runs.values():
            run.end(timeout_s=0)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdk_loop", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=500, help="small ones; a tenth of large ones")
    options = parser.parse_args(arguments)
    for line in table(options.rounds, options.steps):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
