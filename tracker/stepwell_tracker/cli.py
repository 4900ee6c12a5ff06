"""The server's commands: which there are, and what they share.

Nothing heavy is imported here; each command's module is loaded when it is called.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import NoReturn

DONE = 0
FAILED = 1
WRONG_USE = 2
UNREACHABLE = 3
PORT_TAKEN = 4
DATA_TAKEN = 5


def commands() -> dict[str, tuple[str, str]]:
    """Name -> one line of help and where the function is; the entry point of stepwell.commands."""
    from stepwell_tracker.cli_kinds import EXPORTS, IMPORTS

    export = ("write a tenant's data out", "stepwell_tracker.cli_kinds:export")
    import_ = ("read a tenant's data in", "stepwell_tracker.cli_kinds:import_")
    return {
        "serve": ("run the server", "stepwell_tracker.cli_serve:main"),
        "verify": ("check every file of a data directory", "stepwell_tracker.cli_verify:main"),
        "tenants": ("list the tenants of a data directory", "stepwell_tracker.cli_tenants:main"),
        "backup": ("copy tenants as they are now", "stepwell_tracker.cli_backup:backup"),
        "restore": ("put tenants of a backup back", "stepwell_tracker.cli_backup:restore"),
        "gc": ("delete for good what was deleted", "stepwell_tracker.cli_gc:main"),
        "runs": ("list and search runs", "stepwell_tracker.cli_runs:main"),
        "show": ("show one run: parameters, metrics, artifacts", "stepwell_tracker.cli_show:main"),
        "tail": ("follow a run while it trains", "stepwell_tracker.cli_tail:main"),
        "compare": ("show what differs between runs", "stepwell_tracker.cli_compare:main"),
        **({"export": export} if EXPORTS else {}),
        **({"import": import_} if IMPORTS else {}),
    }


def parser(name: str, purpose: str, example: str) -> argparse.ArgumentParser:
    """The parser of one command.  The example stands in its help and is run by a test."""
    return argparse.ArgumentParser(
        prog=f"stepwell {name}",
        description=purpose,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def run_function(target: str, arguments: list[str]) -> int:
    """Call ``module:function``, which is imported only now, and return its exit code."""
    module, _, name = target.partition(":")
    code: int = getattr(import_module(module), name)(arguments)
    return code


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what is wrong and exit."""
    print(f"stepwell: {message}", file=sys.stderr)
    raise SystemExit(code)
