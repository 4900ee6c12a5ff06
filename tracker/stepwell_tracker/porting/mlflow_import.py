"""``stepwell import mlflow``, without its words: a source into a tenant of a data directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stepwell_storage.records import Experiment
from stepwell_storage.store import Store
from stepwell_storage.tenant import Tenant
from stepwell_tracker.porting import mapping
from stepwell_tracker.porting.files import Copied, FileImport, Owner
from stepwell_tracker.porting.importing import Outcome, RunImport
from stepwell_tracker.porting.importing_models import (
    Locations,
    Models,
    import_models,
    import_registered,
)
from stepwell_tracker.porting.local_files import PROXIED, Elsewhere
from stepwell_tracker.porting.places import Places, place
from stepwell_tracker.porting.report import Compared, compare
from stepwell_tracker.porting.source import Damaged, Source

Step = Callable[[str, str, int], None]
"""Hears of what goes on, of what it is at, and how much of it was done since."""


@dataclass(slots=True)
class Imported:
    """Everything there is to report.  ``copied`` is None where no files were asked for."""

    places: Places
    outcome: Outcome
    compared: Compared
    left_out: Mapping[str, int]
    unreadable: list[str]
    copied: Copied | None = None

    @property
    def problems(self) -> list[str]:
        """What is not here as it is in the source."""
        blocked = [f"experiment {n}: {why}" for n, why in self.places.blocked.items()]
        return [*blocked, *self.unreadable, *self.outcome.problems, *self.compared.problems]


async def import_mlflow(
    store: Store, name: str, source: Source, *, artifacts: bool, step: Step
) -> Imported:
    """Raises SourceError and StorageError; what is here by then is whole."""

    def moved(uri: str) -> bool:
        """Into our own store goes what went through MLflow's server, and what is copied."""
        return uri.startswith(f"{PROXIED}:") or (artifacts and source.has_files(uri))

    def location(experiment: Experiment) -> str | None:
        kept = experiment.artifact_location
        return None if kept is None or moved(kept) else kept

    async with store.lease(name, create=True) as tenant:
        places = await place(tenant, await asyncio.to_thread(_experiments, source), location)
        places.moved = moved
        runs = RunImport(tenant, source, places, lambda at, count: step("importing", at, count))
        outcome = await runs.run()
        models = await import_models(tenant, source, places)
        await import_registered(tenant, source, Locations(places, outcome, models), models)
        left_out = await asyncio.to_thread(source.left_out)
        compared = await compare(
            tenant, places, outcome, models, lambda count: step("comparing", "runs", count)
        )
        copied = None
        if artifacts:
            files = FileImport(compared, Copied(), lambda at, count: step("copying", at, count))
            copied = await _files(tenant, source, (outcome, models), files)
        return Imported(places, outcome, compared, left_out, source.problems, copied)


def _experiments(source: Source) -> list[Experiment]:
    """Those that can be stored; the others are the source's problems."""
    found = []
    for experiment in source.experiments():
        try:
            mapping.check_record(experiment)
        except Damaged as error:
            what = f"experiment {experiment.number!r}"
            source.problems.append(f"{what} is not imported: {error}")
        else:
            found.append(experiment)
    return found


async def _files(
    tenant: Tenant, source: Source, what: tuple[Outcome, Models], files: FileImport
) -> Copied:
    outcome, models = what
    owners = [
        (f"run {run_id}", outcome.uris[run_id], tenant.artifacts.of_run(run_id))
        for run_id in outcome.expected
    ]
    owners += [
        (f"model {model_id}", uri, tenant.artifacts.of_model(model_id))
        for model_id, uri in models.uris.items()
    ]
    elsewhere = files.copied.elsewhere
    for name, uri, target in owners:
        try:
            found = await asyncio.to_thread(source.files, uri)
            await files.copy(Owner(name, target, tenant.imports), found)
        except Elsewhere as place_:
            elsewhere[str(place_)] = elsewhere.get(str(place_), 0) + 1
    return files.copied
