"""``stepwell export KIND`` and ``stepwell import KIND``: which kinds there are.

A kind is one line here: its name, one line of help, and ``module:function``, which takes the
arguments after the kind and returns the exit code.  Nothing heavy is imported before it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from stepwell_tracker.cli import DONE, WRONG_USE, run_function

Kinds = Mapping[str, tuple[str, str]]

EXPORTS: Kinds = {
    "mlflow": ("a store that MLflow itself opens", "stepwell_tracker.cli_export_mlflow:main"),
    "parquet": ("Parquet files, for other programs", "stepwell_tracker.cli_parquet:export"),
}
IMPORTS: Kinds = {
    "mlflow": (
        "runs and everything of them from MLflow's store",
        "stepwell_tracker.cli_import_mlflow:main",
    ),
    "parquet": ("what export parquet wrote", "stepwell_tracker.cli_parquet:import_"),
}


def export(arguments: list[str]) -> int:
    """Run the export of the kind that is named first."""
    return dispatch("export", EXPORTS, "Write a tenant's data out.", arguments)


def import_(arguments: list[str]) -> int:
    """Run the import of the kind that is named first."""
    return dispatch("import", IMPORTS, "Read a tenant's data in.", arguments)


def dispatch(group: str, kinds: Kinds, purpose: str, arguments: list[str]) -> int:
    kind, *rest = arguments or ["--help"]
    if kind in ("-h", "--help"):
        print(_help(group, kinds, purpose), end="")
        return DONE
    if kind not in kinds:
        print(f"stepwell {group}: unknown kind {kind!r}", file=sys.stderr)
        print(f"\n{_help(group, kinds, purpose)}", end="", file=sys.stderr)
        return WRONG_USE
    return run_function(kinds[kind][1], rest)


def _help(group: str, kinds: Kinds, purpose: str) -> str:
    width = max(map(len, kinds), default=0)
    lines = "".join(f"  {name:{width}}  {line}\n" for name, (line, _) in kinds.items())
    return (
        f"usage: stepwell {group} KIND [ARGUMENTS]\n\n{purpose}\n\n{lines}\n"
        f"`stepwell {group} KIND --help` explains a kind, with an example.\n"
    )
