"""A training that is about to be killed.  It keeps a ledger that survives it.

    python client_training.py LEDGER RUN_ID FIRST_STEP LAST_STEP PACE_S

The ledger is mapped memory: the time (monotonic, ns) at which each step's call returned, so whoever
kills this process knows exactly what had been logged, and how long before.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

from stepwell import ExperimentTracker

CELL = struct.Struct("<q")


def value_of(step: int) -> float:
    """Every value follows from its step, and is finite."""
    bits = step * 0x1E37_79B9_7F4A_7C15 & 0x3FEF_FFFF_FFFF_FFFF
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def train(ledger: mmap.mmap, run_id: str, steps: range, pace_s: float) -> None:
    run = ExperimentTracker().start_run("kill", run_id=run_id, params={"seed": "7"})
    for step in steps:
        run.log_metrics({"loss": value_of(step), "twice": 2 * value_of(step)}, step=step)
        CELL.pack_into(ledger, step * CELL.size, time.monotonic_ns())
        if pace_s:
            time.sleep(pace_s)
    time.sleep(60)


def main() -> None:
    path, run_id, first, last, pace_s = sys.argv[1:]
    with Path(path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as ledger:
        train(ledger, run_id, range(int(first), int(last)), float(pace_s))


if __name__ == "__main__":
    main()
