"""Where the experiments of a source go: under their own numbers, where these are free."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from stepwell_storage import fingerprints
from stepwell_storage.errors import NotFound
from stepwell_storage.records import Experiment, RunQuery
from stepwell_storage.tenant import Tenant

_SIGNED: Final = 2**63 - 1
Location = Callable[[Experiment], str | None]


@dataclass(slots=True)
class Places:
    """``numbers`` are ours by the source's.  ``expected`` must be found here as they stand."""

    numbers: dict[int, int] = field(default_factory=dict)
    blocked: dict[int, str] = field(default_factory=dict)
    expected: dict[int, Experiment] = field(default_factory=dict)
    passed_over: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    moved: Callable[[str], bool] = bool
    """Whether files that were at a place are in our own store afterwards."""


async def place(tenant: Tenant, source: Sequence[Experiment], location: Location) -> Places:
    """Make the experiments that are new; say of each of the source's where its runs go."""
    places = Places()
    # One whose number is free here must not take the number of one that comes after it.
    for experiment in sorted(source, key=lambda one: one.number):
        wanted = replace(experiment, artifact_location=location(experiment))
        await _place(tenant, places, wanted)
    return places


async def _place(tenant: Tenant, places: Places, source: Experiment) -> None:
    known = await tenant.imports.place_of(source.number, source.name)
    if known is not None:
        await _again(tenant, places, source, *known)
        return
    named = await _named(tenant, source.name)
    numbered = await _numbered(tenant, source.number)
    if numbered is not None and await _pristine(tenant, numbered) and named in (None, numbered):
        await _describe(tenant, places, source, numbered)
    elif named is not None:
        await _join(tenant, places, source, named)
    else:
        number = source.number if numbered is None else await _free(tenant, source.number)
        if number != source.number:
            places.notes.append(
                f"experiment {source.name!r} has number {number} here: {source.number} is taken"
            )
        await _make(tenant, places, source, number)


async def _again(
    tenant: Tenant, places: Places, source: Experiment, number: int, described: int | None
) -> None:
    """It was imported before."""
    here = await _numbered(tenant, number)
    if here is None:
        places.blocked[source.number] = "what it was imported to is gone"
        return
    places.numbers[source.number] = number
    if here.artifact_location is None:  # its files were copied before, whatever is asked for now
        source = replace(source, artifact_location=None)
    wanted = replace(source, number=number)
    places.expected[source.number] = wanted
    if described is None or described == _fingerprint(wanted):
        places.passed_over.add(source.number)
        if described is not None and here.artifact_location and not source.artifact_location:
            await tenant.imports.keep_files_here(here)
    elif described == _fingerprint(here):
        await tenant.imports.experiment(source, number, _fingerprint(wanted), fresh=False)
    else:
        places.passed_over.add(source.number)
        places.notes.append(
            f"experiment {source.name!r} was changed here and in the source: it is left as it is"
        )


async def _join(tenant: Tenant, places: Places, source: Experiment, here: Experiment) -> None:
    """One of that name is here, and not by an import."""
    if here.lifecycle == "deleted" and source.lifecycle != "deleted":
        places.blocked[source.number] = (
            f"an experiment {source.name!r} is here, deleted: restore it, or choose another tenant"
        )
        return
    places.numbers[source.number] = here.number
    places.notes.append(
        f"experiment {source.name!r} is here already as number {here.number}: its runs join it"
    )
    await tenant.imports.map_experiment(source, here.number)


async def _make(tenant: Tenant, places: Places, source: Experiment, number: int) -> None:
    made = replace(source, experiment_id=str(uuid.uuid4()))
    wanted = replace(made, number=number)
    await tenant.imports.experiment(made, number, _fingerprint(wanted), fresh=True)
    places.numbers[source.number] = number
    places.expected[source.number] = wanted


async def _describe(tenant: Tenant, places: Places, source: Experiment, here: Experiment) -> None:
    wanted = replace(source, number=here.number)
    await tenant.imports.experiment(source, here.number, _fingerprint(wanted), fresh=False)
    places.numbers[source.number] = here.number
    places.expected[source.number] = wanted


def _fingerprint(experiment: Experiment) -> int:
    return fingerprints.of_experiment(experiment) & _SIGNED


async def _named(tenant: Tenant, name: str) -> Experiment | None:
    try:
        return await tenant.experiment_by_name(name)
    except NotFound:
        return None


async def _numbered(tenant: Tenant, number: int) -> Experiment | None:
    try:
        return await tenant.experiment_by_number(number)
    except NotFound:
        return None


async def _pristine(tenant: Tenant, here: Experiment) -> bool:
    """The tenant's own Default, which nobody has used yet."""
    if here.number != 0 or here.tags or here.description or here.created_at != here.updated_at:
        return False
    query = RunQuery(experiment_numbers=(0,), lifecycle="all", limit=1, total=False)
    return not (await tenant.search(query)).runs


async def _free(tenant: Tenant, number: int) -> int:
    """The next number that nobody has."""
    while await _numbered(tenant, number) is not None:
        number += 1
    return number
