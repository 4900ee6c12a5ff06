"""``stepwell import mlflow``: from MLflow's store into a data directory."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from stepwell import wire
from stepwell_tracker.cli import DATA_TAKEN, DONE, FAILED, UNREACHABLE, WRONG_USE, fail, parser
from stepwell_tracker.cli_progress import Progress
from stepwell_tracker.cli_text import clean, size, table

if TYPE_CHECKING:
    from stepwell_tracker.porting.mlflow_import import Imported
    from stepwell_tracker.porting.source import Source

EXAMPLE = "stepwell import mlflow --source sqlite:///mlflow.db --artifacts"


def main(arguments: list[str]) -> int:
    """0 when everything is here and equal; 1 when something of it is not."""
    options = _parser().parse_args(arguments)
    from stepwell_storage.paths import is_tenant_name
    from stepwell_tracker.porting.opening import Wanted, open_source
    from stepwell_tracker.porting.source import SourceError

    if not is_tenant_name(options.tenant):
        fail(f"--tenant: {options.tenant!r} is no tenant's name", WRONG_USE)
    wanted = Wanted(
        options.workspace, options.artifacts_root, options.any_version, options.restore_infinities
    )
    try:
        source = open_source(options.source, wanted)
    except SourceError as error:
        fail(clean(str(error)), WRONG_USE if error.answers else UNREACHABLE)
    try:
        imported = asyncio.run(_import(options, source))
    except SourceError as error:
        whole = "what was imported until then is whole, run it again to go on"
        fail(f"{clean(str(error))}; {whole}", FAILED if error.answers else UNREACHABLE)
    finally:
        source.close()
    return _report(options, source.name, imported)


async def _import(options: argparse.Namespace, source: Source) -> Imported:
    from stepwell_storage.errors import StorageError, Unsupported
    from stepwell_storage.store import Store
    from stepwell_tracker.porting.mlflow_import import import_mlflow

    try:
        store = await Store.open(options.data)
    except (Unsupported, OSError) as error:
        fail(f"{error}", DATA_TAKEN)
    with Progress("importing points", source.totals().points) as progress:

        def step(what: str, at: str, count: int) -> None:
            if not progress.label.startswith(what):
                progress.begin(f"{what} {'files' if what == 'copying' else 'runs'}")
            progress.advance(at, count)

        try:
            return await import_mlflow(
                store, options.tenant, source, artifacts=options.artifacts, step=step
            )
        except Unsupported as error:
            progress.clear()
            fail(clean(str(error)), DATA_TAKEN)
        except StorageError as error:
            progress.clear()
            fail(f"{clean(str(error))}; what was imported until then is whole")
        finally:
            await store.close()


def _report(options: argparse.Namespace, name: str, imported: Imported) -> int:
    from stepwell_tracker.porting.report import shown

    outcome, compared = imported.outcome, imported.compared
    rows = [
        [kind, str(there), str(here), checksum, "yes" if equal else "NO"]
        for kind, there, here, checksum, equal in compared.rows()
    ]
    print(table(["WHAT", "SOURCE", "HERE", "CHECKSUM", "EQUAL"], rows, "<>><<"))
    print(
        f"{clean(name)} -> tenant {options.tenant.lower()} of {options.data}:"
        f" {outcome.made} runs new, {outcome.grown} brought up to date,"
        f" {len(outcome.passed_over)} here already"
    )
    if imported.copied is not None:
        copied = imported.copied
        print(f"files: {copied.files} copied, {copied.there} here already, {size(copied.bytes)}")
        for place, count in copied.elsewhere.items():
            print(f"files of {count} runs and models stay where they are: {clean(place)}")
    for note in shown(imported.places.notes):
        print(f"note: {clean(note)}")
    for what, count in imported.left_out.items():
        print(f"not imported: {count} {clean(what)}")
    for changed in shown(compared.changed_here):
        print(f"changed here since its import: {clean(changed)}")
    for problem in shown(imported.problems):
        print(f"PROBLEM: {clean(problem)}")
    return FAILED if imported.problems else DONE


def _parser() -> argparse.ArgumentParser:
    options = parser(
        "import mlflow",
        "Copy experiments, runs, metrics, parameters, tags, datasets and models from MLflow into\n"
        "a data directory that no server has open.  May be killed and run again at any time: what\n"
        "is here already is not copied twice.  Ends with a comparison of both sides; exits 1\n"
        "where anything is not equal.",
        EXAMPLE,
    )
    options.add_argument(
        "--source",
        required=True,
        metavar="ADDRESS",
        help="sqlite:///FILE, postgresql://USER@HOST/NAME, http://HOST:PORT or the folder mlruns",
    )
    options.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("stepwell-data"), help="(%(default)s)"
    )
    options.add_argument(
        "--tenant",
        metavar="NAME",
        default=os.environ.get("STEPWELL_TENANT") or wire.DEFAULT_TENANT,
        help="where it goes, made as needed (STEPWELL_TENANT; %(default)s)",
    )
    options.add_argument(
        "--workspace", metavar="NAME", default="default", help="which of MLflow's (%(default)s)"
    )
    options.add_argument("--artifacts", action="store_true", help="copy the files, too")
    options.add_argument(
        "--artifacts-root",
        metavar="DIR",
        type=Path,
        help="where MLflow's server keeps files (mlartifacts beside the database)",
    )
    options.add_argument(
        "--restore-infinities",
        action="store_true",
        help="make infinities of 1.797e308, which MLflow's databases hold in their place",
    )
    options.add_argument(
        "--any-version", action="store_true", help="read a database of a newer MLflow as it is"
    )
    return options
