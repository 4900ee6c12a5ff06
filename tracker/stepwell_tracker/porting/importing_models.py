"""Logged and registered models of a source: brought here, or left alone, by the rules of runs.

One that is new is made, one that is here as an import left it follows the source, one that was
changed here since stays.  A registered model is one thing with its versions, tags and aliases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from stepwell_storage import fingerprints
from stepwell_storage.exports import all_models, all_registered
from stepwell_storage.imports import LOGGED_MODEL, REGISTERED_MODEL
from stepwell_storage.names import pages
from stepwell_storage.records import Model, ModelVersion, RegisteredModel
from stepwell_storage.tenant import Tenant
from stepwell_tracker.porting import mapping
from stepwell_tracker.porting.importing import Outcome
from stepwell_tracker.porting.local_files import PROXIED
from stepwell_tracker.porting.places import Places
from stepwell_tracker.porting.source import Damaged, Source, SourceModel

Registered = tuple[RegisteredModel, list[ModelVersion]]
_SIGNED: Final = 2**63 - 1


@dataclass(slots=True)
class Models:
    """``found`` are the source's and whether each is deleted; ``uris`` where their files lie.

    All but those ``left``, and all ``registered``, must be here as they stand.
    """

    found: dict[str, tuple[Model, bool]] = field(default_factory=dict)
    uris: dict[str, str] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    registered: dict[str, Registered] = field(default_factory=dict)
    changed_here: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def due(self, what: str, said: Mapping[str, int], theirs: Mapping[str, int],
            here: Mapping[str, int]) -> tuple[list[str], list[str]]:  # fmt: skip
        """Which are to be written, and which are left as they are, in spite of the source.

        By names: what was said of them when they were imported, and fingerprints of both sides.
        """
        write, left = [], []
        for name, wanted in theirs.items():
            ours, then = here.get(name), said.get(name)
            if ours == wanted or (ours is None and then is None):
                if ours is None or then != wanted:
                    write.append(name)
            elif ours == then:
                write.append(name)
            else:
                left.append(name)
                if then == wanted:
                    self.changed_here.append(f"{what} {name!r}")
                elif then is None:
                    self.problems.append(f"{what} {name!r} is here already, and is another")
                else:
                    self.problems.append(
                        f"{what} {name!r} was changed here and in the source since it was imported"
                    )
        return write, left


async def import_models(tenant: Tenant, source: Source, places: Places) -> Models:
    models = Models()
    for one in await asyncio.to_thread(lambda: list(source.models())):
        try:
            _place(one, places)
        except Damaged as error:
            models.problems.append(f"model {one.model.model_id!r} is not imported: {error}")
            continue
        models.found[one.model.model_id] = one.model, one.deleted
        models.uris[one.model.model_id] = one.artifact_uri
    here: dict[str, int] = {}
    if models.found:
        async with tenant.whole() as reader:
            async for model, deleted_at in all_models(reader):
                here[model.model_id] = of_model(model, deleted=deleted_at is not None)
    theirs = {
        name: of_model(model, deleted=deleted) for name, (model, deleted) in models.found.items()
    }
    said = await tenant.imports.ledger(LOGGED_MODEL, list(theirs))
    write, left = models.due("logged model", said, theirs, here)
    for some in pages(write):
        await tenant.imports.models([(*models.found[name], theirs[name]) for name in some])
    models.left.update(left)
    return models


def _place(one: SourceModel, places: Places) -> None:
    """Give it the number of its experiment here.  Raises Damaged."""
    mapping.check_record(one.model)
    number = one.model.experiment_number
    if number not in places.numbers:
        raise Damaged(places.blocked.get(number, f"its experiment {number} is not in the source"))
    one.model.experiment_number = places.numbers[number]


async def import_registered(
    tenant: Tenant, source: Source, locations: Locations, models: Models
) -> None:
    for model, versions in await asyncio.to_thread(lambda: list(source.registered())):
        try:
            for record in (model, *versions):
                mapping.check_record(record)
        except Damaged as error:
            models.problems.append(f"registered model {model.name!r} is not imported: {error}")
            continue
        for version in versions:
            version.location = locations.of(version)
        models.registered[model.name] = model, versions
    here: dict[str, Registered] = {}
    if models.registered:
        async with tenant.whole() as reader:
            async for model, versions in all_registered(reader):
                here[model.name] = model, versions
    theirs = {name: of_registered(*one) for name, one in models.registered.items()}
    said = await tenant.imports.ledger(REGISTERED_MODEL, list(theirs))
    ours = {name: of_registered(*one) for name, one in here.items()}
    write, left = models.due("registered model", said, theirs, ours)
    write += [
        name
        for name in theirs
        if name not in write and name not in left
        and _copied(models.registered[name], here[name])
    ]  # fmt: skip
    for name in write:
        await tenant.imports.registered(*models.registered[name], theirs[name])
    for name in left:
        del models.registered[name]


def of_model(model: Model, *, deleted: bool) -> int:
    """As the ledger holds it."""
    return fingerprints.of_model(model, deleted=deleted) & _SIGNED


def of_registered(model: RegisteredModel, versions: Iterable[ModelVersion]) -> int:
    """The same, of a model with its versions."""
    checksum = fingerprints.total(map(fingerprints.of_version, versions))
    return fingerprints.of(fingerprints.of_registered(model), checksum) & _SIGNED


def _copied(wanted: Registered, here: Registered) -> bool:
    """Whether files of a version came here since it was imported."""
    known = {version.version: version.location for version in here[1]}
    return any(
        version.location.startswith(f"{PROXIED}:") and version.location != known[version.version]
        for version in wanted[1]
    )


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
