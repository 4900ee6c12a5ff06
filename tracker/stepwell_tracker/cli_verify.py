"""``stepwell verify DIR``: read everything, believe nothing."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from stepwell_tracker.cli import DONE, FAILED, WRONG_USE, fail, parser
from stepwell_tracker.cli_progress import Progress
from stepwell_tracker.cli_text import clean

EXAMPLE = "stepwell verify stepwell-data"


def main(arguments: list[str]) -> int:
    """Print each finding on stdout; 1 where there is any."""
    options = _parser().parse_args(arguments)
    data: Path = options.data
    if not data.is_dir():
        fail(f"{data} is no folder", WRONG_USE)
    from stepwell_storage.check import Findings, verify

    with Progress("checking") as progress:

        def report(problem: str) -> None:
            progress.clear()
            print(clean(problem), flush=True)

        def step(findings: Findings) -> None:
            progress.advance(f"runs, {findings.points} points")

        findings = asyncio.run(verify(data, report, step))
    print(
        f"{findings.tenants} tenants, {findings.runs} runs, {findings.series} series,"
        f" {findings.points} points, {findings.artifacts} artifacts{_unsealed(findings.unsealed)}:"
        f" {len(findings.problems) or 'no'} problems",
        file=sys.stderr,
    )
    return FAILED if findings.problems else DONE


def _unsealed(count: int) -> str:
    return f" ({count} of them without a checksum)" if count else ""


def _parser() -> argparse.ArgumentParser:
    options = parser(
        "verify",
        "Read every byte of a data directory that holds points and check what the tables say of\n"
        "them.  Works beside a running server, too.  Exits 1 where anything is wrong.",
        EXAMPLE,
    )
    options.add_argument("data", metavar="DIR", type=Path, help="the data directory")
    return options
