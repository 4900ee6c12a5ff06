"""One tracker's logging calls, timed one by one: run by sdk.py in that tracker's own environment.

    python sdk_peer.py NAME STEPS SECONDS FOLDER URL [watch]

It imports nothing of this project but the client, and that only for its own name.  Prints one line
of JSON: times in microseconds.  Garbage collection is off, for everybody.  ``watch`` asks the
system around each call whether it took the processor away, which costs a call more than some of
them take: it counts the long calls that are the tracker's own.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Values = dict[str, float]
Log = Callable[[Values, int], object]
Finish = Callable[[], object]


def stepwell(folder: Path, url: str) -> tuple[Log, Finish]:
    os.environ["STEPWELL_SPOOL_DIR"] = str(folder / "spool")
    module = importlib.import_module("stepwell")
    run = module.ExperimentTracker(url).start_run("bench")

    def finish() -> None:
        if not run.end(timeout_s=120):
            raise RuntimeError("not everything was acknowledged")

    return run.log_metrics, finish


def mlflow(folder: Path, url: str, *, synchronous: bool = True) -> tuple[Log, Finish]:
    module = importlib.import_module("mlflow")
    module.set_tracking_uri(url)
    module.set_experiment("bench")
    module.start_run()

    def log(values: Values, step: int) -> None:
        module.log_metrics(values, step=step, synchronous=synchronous)

    def finish() -> None:
        if not synchronous:
            module.flush_async_logging()
        module.end_run()

    return log, finish


def mlflow_async(folder: Path, url: str) -> tuple[Log, Finish]:
    return mlflow(folder, url, synchronous=False)


def trackio(folder: Path, url: str) -> tuple[Log, Finish]:
    os.environ["TRACKIO_DIR"] = str(folder)
    module = importlib.import_module("trackio")
    module.init(project="bench", embed=False)
    return (lambda values, step: module.log(values, step=step)), module.finish


def wandb(folder: Path, url: str) -> tuple[Log, Finish]:
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    module = importlib.import_module("wandb")
    run = module.init(project="bench", dir=str(folder))
    return (lambda values, step: run.log(values, step=step)), run.finish


def scalars(writer: Any) -> tuple[Log, Finish]:
    def log(values: Values, step: int) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    return log, writer.close


def tensorboard(folder: Path, url: str) -> tuple[Log, Finish]:
    return scalars(importlib.import_module("tensorboard.summary").Writer(str(folder)))


def tensorboardx(folder: Path, url: str) -> tuple[Log, Finish]:
    return scalars(importlib.import_module("tensorboardX").SummaryWriter(str(folder)))


def aim(folder: Path, url: str) -> tuple[Log, Finish]:
    module = importlib.import_module("aim")
    run = module.Run(repo=str(folder), experiment="bench", system_tracking_interval=None)
    return (lambda values, step: run.track(values, step=step)), run.close


def json_lines(folder: Path, url: str) -> tuple[Log, Finish]:
    """No tracker at all: what a bare line in a file costs."""
    file = (folder / "log.jsonl").open("w")

    def log(values: Values, step: int) -> None:
        file.write(json.dumps({"step": step, "time": time.time()} | values))
        file.write("\n")

    return log, file.close


CONTROL_NS = 2_000
"""What a call of the control takes: about ours, so that as many calls see as much time."""


def nothing(folder: Path, url: str) -> tuple[Log, Finish]:
    """The control: looks at the clock for a while, alone in its process.  A long call is the
    machine's.
    """
    clock = time.perf_counter_ns

    def log(values: Values, step: int) -> None:
        until = clock() + CONTROL_NS
        while clock() < until:
            pass

    return log, lambda: None


TRACKERS: dict[str, Callable[[Path, str], tuple[Log, Finish]]] = {
    "stepwell": stepwell,
    "mlflow": mlflow,
    "mlflow-async": mlflow_async,
    "trackio": trackio,
    "wandb": wandb,
    "tensorboard": tensorboard,
    "tensorboardx": tensorboardx,
    "aim": aim,
    "json-lines": json_lines,
    "nothing": nothing,
}


def measure(log: Log, finish: Finish, steps: int, seconds: float) -> dict[str, Any]:
    """Log until one of the bounds is met.  ``mean`` has everything in it, until finish returned."""
    rng = random.Random(7)
    samples = [
        {"train_loss": rng.random(), "val_loss": rng.random(), "accuracy": rng.random()}
        for _ in range(steps)
    ]
    log(samples[0], 0)
    times = [0] * steps
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    begun = clock()
    until = begun + int(seconds * 1e9)
    done = 0
    for step in range(1, steps):
        before = clock()
        log(samples[step], step)
        after = clock()
        times[step] = after - before
        done = step
        if after > until:
            break
    finish()
    whole = clock() - begun
    times = sorted(times[1 : done + 1])
    return {
        "steps": done,
        "median": times[done // 2] / 1e3,
        "p99": times[int(done * 0.99)] / 1e3,
        "longest": times[-1] / 1e3,
        "above_1_ms": sum(taken > 1_000_000 for taken in times),
        "mean": whole / done / 1e3,
    }


def watch(log: Log, finish: Finish, steps: int, seconds: float) -> dict[str, Any]:
    """Calls above 1 ms in which nobody took the processor away, and the CPU that the worst took."""
    values = {"train_loss": 0.1, "val_loss": 0.2, "accuracy": 0.3}
    log(values, 0)
    gc.collect()
    gc.disable()
    clock, spent, whose = time.perf_counter_ns, time.thread_time_ns, resource.RUSAGE_THREAD
    until = clock() + int(seconds * 1e9)
    own = most = done = 0
    for step in range(1, steps):
        taken_away, cpu, before = resource.getrusage(whose).ru_nivcsw, spent(), clock()
        log(values, step)
        after = clock()
        most = max(most, spent() - cpu)
        if after - before > 1_000_000:
            own += resource.getrusage(whose).ru_nivcsw == taken_away
        done = step
        if after > until:
            break
    finish()
    return {"steps": done, "own_above_1_ms": own, "most_cpu": most / 1e3}


def main() -> None:
    name, steps, seconds, folder, url, *mode = sys.argv[1:]
    # Nobody phones home from a benchmark.
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    log, finish = TRACKERS[name](Path(folder), url)
    found = (watch if mode else measure)(log, finish, int(steps), float(seconds))
    sys.__stdout__.write(f"\n{json.dumps(found)}\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
