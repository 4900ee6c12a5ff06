"""``python -m benchmarks [--quick] [NAMES...]``: one line of JSON for each result, on stdout.

A name is a group (``batches``, ``reads``, ...).  What goes on is said on stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks import (
    deletion,
    disk,
    footprint,
    growth,
    ingest,
    mixed,
    mlflow_api,
    porting,
    reads,
    searching,
    tenants,
    wide,
)
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.processes import end_cleanly
from benchmarks.report import Result

GROUPS: dict[str, Callable[[Plan], Iterator[Result]]] = {
    "start": footprint.start,
    "batches": ingest.batches,
    "thousand": ingest.thousand,
    "one_step": ingest.one_step,
    "wide": wide.wide,
    "many_series": wide.many_series,
    "create": ingest.creation,
    "mlflow": mlflow_api.log_batch,
    "reads": reads.reads,
    "mixed": mixed.mixed,
    "search": searching.searches,
    "disk": disk.disk,
    "growth": growth.growth,
    "deletion": deletion.deletion,
    "import": porting.porting,
    "sustained": footprint.sustained,
    "tenants": tenants.tenants,
}


def main(arguments: list[str]) -> int:
    """Exits 0 when every benchmark ran, whether its goal was met or not; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="about two minutes, small sizes")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in GROUPS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)} (known: {', '.join(GROUPS)})")
    return run(options.names or list(GROUPS), QUICK if options.quick else FULL)


def run(names: list[str], plan: Plan) -> int:
    end_cleanly()
    failed = []
    for name in names:
        start = time.monotonic()
        try:
            for result in GROUPS[name](plan):
                print(result.line(plan.quick), flush=True)
        except Exception as error:  # noqa: BLE001 - the others still run; the exit code says so
            failed.append(name)
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
