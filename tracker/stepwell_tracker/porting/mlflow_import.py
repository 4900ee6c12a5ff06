"""``stepwell import mlflow``, without its words: a source into a tenant of a data directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from stepwell_storage.records import Experiment, Model, ModelVersion, RegisteredModel
from stepwell_storage.store import Store
from stepwell_storage.tenant import Tenant
from stepwell_tracker.porting.files import Copied, FileImport, Owner
from stepwell_tracker.porting.importing import Outcome, RunImport
from stepwell_tracker.porting.local_files import PROXIED, Elsewhere
from stepwell_tracker.porting.places import Places, place
from stepwell_tracker.porting.report import Compared, compare, compare_registry
from stepwell_tracker.porting.source import Source, SourceModel

_MODELS: Final = 500

Step = Callable[[str, str, int], None]
"""Hears of what goes on, of what it is at, and how much of it was done since."""


@dataclass(slots=True)
class Models:
    """``found`` are the source's and whether each is deleted; ``uris`` where their files lie."""

    made: int = 0
    found: dict[str, tuple[Model, bool]] = field(default_factory=dict)
    uris: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Imported:
    """Everything there is to report.  ``copied`` is None where no files were asked for."""

    places: Places
    outcome: Outcome
    models: Models
    compared: Compared
    left_out: Mapping[str, int]
    copied: Copied | None = None

    @property
    def problems(self) -> list[str]:
        """What is not here as it is in the source."""
        blocked = [f"experiment {n}: {why}" for n, why in self.places.blocked.items()]
        runs = self.outcome.problems
        return [*blocked, *runs, *self.models.problems, *self.compared.problems]


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
        experiments = await asyncio.to_thread(source.experiments)
        places = await place(tenant, experiments, location)
        places.moved = moved
        runs = RunImport(tenant, source, places, lambda at, count: step("importing", at, count))
        outcome = await runs.run()
        models = await _models(tenant, source, places)
        registry = await _registered(tenant, source, Locations(places, outcome, models))
        left_out = await asyncio.to_thread(source.left_out)
        compared = await compare(
            tenant, places, outcome, models.found, lambda count: step("comparing", "runs", count)
        )
        await compare_registry(tenant, registry, compared)
        copied = None
        if artifacts:
            files = FileImport(compared, Copied(), lambda at, count: step("copying", at, count))
            copied = await _files(tenant, source, (outcome, models), files)
        return Imported(places, outcome, models, compared, left_out, copied)


async def _models(tenant: Tenant, source: Source, places: Places) -> Models:
    models, rest = Models(), source.models()
    while page := await asyncio.to_thread(lambda: list(islice(rest, _MODELS))):
        good = [one for one in page if _placed(one, places, models)]
        models.made += await tenant.imports.models([(one.model, one.deleted) for one in good])
        for one in good:
            model_id = one.model.model_id
            models.found[model_id] = one.model, one.deleted
            models.uris[model_id] = one.artifact_uri
    return models


def _placed(one: SourceModel, places: Places, models: Models) -> bool:
    """Whether its experiment is here; it is a problem otherwise."""
    number = one.model.experiment_number
    if number in places.numbers:
        one.model.experiment_number = places.numbers[number]
        return True
    why = places.blocked.get(number, f"its experiment {number} is not in the source")
    models.problems.append(f"model {one.model.model_id} is not imported: {why}")
    return False


@dataclass(frozen=True, slots=True)
class Locations:
    """Where the files of runs and models are here, by where they were in the source."""

    places: Places
    outcome: Outcome
    models: Models

    def of(self, version: ModelVersion) -> str:
        """The version's, if they were a run's or a model's that was imported; else as it was."""
        owners: list[tuple[str, str]] = []
        if version.run_id in self.outcome.expected:
            number = self.outcome.expected[version.run_id][0].experiment_number
            home = f"{PROXIED}:/{number}/{version.run_id}/artifacts"
            owners.append((self.outcome.uris[version.run_id], home))
        if version.model_id in self.models.found:
            number = self.models.found[version.model_id][0].experiment_number
            home = f"{PROXIED}:/{number}/models/{version.model_id}/artifacts"
            owners.append((self.models.uris[version.model_id], home))
        for uri, home in owners:
            if self.places.moved(uri) and f"{version.location}/".startswith(f"{uri}/"):
                return home + version.location[len(uri) :]
        return version.location


async def _registered(
    tenant: Tenant, source: Source, locations: Locations
) -> list[tuple[RegisteredModel, list[ModelVersion]]]:
    """All of the source's registry, as it is to be here."""
    found = await asyncio.to_thread(lambda: list(source.registered()))
    for model, versions in found:
        for version in versions:
            version.location = locations.of(version)
        await tenant.imports.registered(model, versions)
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
