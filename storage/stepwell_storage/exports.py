"""Everything of one tenant, read out of one snapshot in pages of bounded memory.

Sealed chunks and the journal's tail are merged, so that what is read is what was acknowledged,
compacted or not.  Nothing is taken from the statistics, which may be behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from stepwell_storage import completion, experiments, registered
from stepwell_storage.codec import decode as decode_chunk
from stepwell_storage.database import Reader, in_list
from stepwell_storage.errors import Corrupt, Invalid, NotFound, Unsupported
from stepwell_storage.models import hydrate
from stepwell_storage.names import pages
from stepwell_storage.paths import is_tenant_name
from stepwell_storage.payloads import decode as decode_row
from stepwell_storage.points import Points, merge
from stepwell_storage.presence import refuse_unfit
from stepwell_storage.records import (
    Experiment,
    Model,
    ModelVersion,
    Position,
    RegisteredModel,
    Run,
)
from stepwell_storage.sqlite import Sqlite, read_only
from stepwell_storage.statements import sql
from stepwell_storage.store import take_lock

PAGE_RUNS: Final = 500
LOAD_POINTS: Final = 500_000
"""So many points are held decoded at a time, or one series that must be merged whole."""
_LOAD_CHUNKS: Final = 500


@asynccontextmanager
async def opened(data: Path, tenant: str) -> AsyncIterator[tuple[Reader, Path]]:
    """A tenant's snapshot and folder, with or without a server beside us.

    Raises Invalid and NotFound where there is no such tenant.
    """
    if not is_tenant_name(tenant):
        raise Invalid("tenant", f"{tenant!r} is no tenant's name")
    folder = data / "tenants" / tenant.lower()
    if not (folder / "tenant.db").is_file():
        raise NotFound(f"there is no tenant {tenant} in {data}")
    refuse_unfit(folder)
    try:
        lock = take_lock(data / "lock")
    except Unsupported:  # a server has it open
        async with read_only(folder / "tenant.db") as reader:
            yield reader, folder
        return
    try:
        database = await Sqlite.open(folder / "tenant.db")
        try:
            async with database.snapshot(timeout_s=86_400) as reader:
                yield reader, folder
        finally:
            await database.close()
    finally:
        lock.close()


class StoredRun(NamedTuple):
    number: int
    run: Run
    deleted_at: int | None


async def all_experiments(reader: Reader) -> list[Experiment]:
    """Deleted ones too, in the order of their numbers."""
    found: list[Experiment] = []
    cursor: str | None = None
    while True:
        page = await experiments.page(
            reader, lifecycle="all", limit=PAGE_RUNS, offset=0, cursor=cursor
        )
        found += page.experiments
        cursor = page.next_cursor
        if cursor is None:
            return found


async def all_runs(reader: Reader) -> AsyncIterator[list[StoredRun]]:
    """Pages of complete runs, deleted ones too, in the order in which they came."""
    after = 0
    while True:
        rows = await reader.fetch(sql.run_numbers_from, (after, PAGE_RUNS))
        if not rows:
            return
        numbers = [number for (number,) in rows]
        after = _last(after, numbers)
        yield await some_runs(reader, numbers)


def _last(after: int, numbers: Sequence[int]) -> int:
    """The last of a page's numbers.  Raises Corrupt where they do not ascend: in a page that is
    none a search finds the same rows for ever."""
    for number in numbers:
        if number <= after:
            raise Corrupt("the file is damaged: its rows are out of order")
        after = number
    return after


async def some_runs(reader: Reader, numbers: Sequence[int]) -> list[StoredRun]:
    """The runs in these rows, complete."""
    runs = await completion.runs(reader, numbers)
    deleted: dict[int, int] = {}
    for some in pages(numbers):
        deleted.update(await reader.fetch(in_list(sql.deletions_of_runs, len(some)), some))
    pairs = zip(numbers, runs, strict=True)
    return [StoredRun(number, run, deleted.get(number)) for number, run in pairs]


async def runs_by_id(reader: Reader, run_ids: Sequence[str]) -> list[StoredRun]:
    """Those of the runs that exist."""
    numbers: list[int] = []
    for some in pages(run_ids):
        rows = await reader.fetch(in_list(sql.runs_by_ids, len(some)), some)
        numbers += [row[1] for row in rows]
    return await some_runs(reader, numbers)


async def all_models(reader: Reader) -> AsyncIterator[tuple[Model, int | None]]:
    """Logged models, with when they were deleted."""
    after = 0
    while True:
        rows = await reader.fetch(sql.model_numbers_from, (after, PAGE_RUNS))
        if not rows:
            return
        after = _last(after, [number for number, _ in rows])
        models = await hydrate(reader, [number for number, _ in rows])
        for (_, deleted_at), model in zip(rows, models, strict=True):
            yield model, deleted_at


async def all_registered(
    reader: Reader,
) -> AsyncIterator[tuple[RegisteredModel, list[ModelVersion]]]:
    """Registered models, each with all of its versions."""
    for (number,) in await reader.fetch(sql.all_registered_models):
        [model] = await registered.models(reader, [number])
        rows = await reader.fetch(sql.all_model_versions, (number,))
        yield model, await registered.versions(reader, [row[0] for row in rows])


# --- points ------------------------------------------------------------------------------------


class _Chunk(NamedTuple):
    id: int
    points: int
    first: Position
    last: Position


@dataclass(slots=True)
class _Series:
    run: int
    key: str
    chunks: list[_Chunk] = field(default_factory=list)
    tail: list[Points] = field(default_factory=list)

    def units(self) -> Iterable[_Series]:
        """Stretches that can be read one after the other: all of it where pieces overlap."""
        pairs = zip(self.chunks, self.chunks[1:], strict=False)
        if self.tail or not all(one.last < other.first for one, other in pairs):
            yield self
            return
        unit, held = _Series(self.run, self.key), 0
        for chunk in self.chunks:
            if held and held + chunk.points > LOAD_POINTS:
                yield unit
                unit, held = _Series(self.run, self.key), 0
            unit.chunks.append(chunk)
            held += chunk.points
        yield unit


async def points_of(reader: Reader, runs: Sequence[int]) -> AsyncIterator[tuple[int, str, Points]]:
    """(Row of the run, key, points in order), run by run; a long series comes in several pieces.

    Raises Corrupt, with the place, where a chunk or a journal row is damaged.
    """
    for some in pages(runs):
        pending: list[_Series] = []
        held = chunks = 0
        for series in await _series(reader, some):
            for unit in series.units():
                pending.append(unit)
                held += sum(chunk.points for chunk in unit.chunks)
                chunks += len(unit.chunks)
                if held >= LOAD_POINTS or chunks >= _LOAD_CHUNKS:
                    for loaded in await _load(reader, pending):
                        yield loaded
                    pending, held, chunks = [], 0, 0
        for loaded in await _load(reader, pending):
            yield loaded


async def _series(reader: Reader, runs: Sequence[int]) -> list[_Series]:
    found: dict[tuple[int, str], _Series] = {}
    rows = await reader.fetch(in_list(sql.chunks_of_runs, len(runs)), runs)
    for run, key, count, *ends, number in rows:
        series = found.setdefault((run, key), _Series(run, key))
        chunk = _Chunk(number, count, Position(*ends[:3]), Position(*ends[3:]))
        series.chunks.append(chunk)
    tails: list[tuple[int, int, Points]] = []
    for run, _, payload in await reader.fetch(in_list(sql.journal_of_runs, len(runs)), runs):
        tails += [(run, key, points) for key, points in _journaled(run, payload)]
    names = await _names(reader, {key for _, key, _ in tails})
    for run, number, points in tails:
        key = names[number]
        found.setdefault((run, key), _Series(run, key)).tail.append(points)
    return sorted(found.values(), key=lambda one: one.run)


def _journaled(run: int, payload: bytes) -> Iterable[tuple[int, Points]]:
    try:
        row = decode_row(payload)
    except Corrupt as error:
        raise Corrupt(error.reason, run=run) from error
    start = 0
    for key, count in zip(row.keys.tolist(), row.counts.tolist(), strict=True):
        rows = slice(start, start + count)
        yield key, Points(row.steps[rows], row.timestamps[rows], row.values[rows])
        start += count


async def _names(reader: Reader, keys: set[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for some in pages(sorted(keys)):
        names.update(await reader.fetch(in_list(sql.names, len(some)), some))
    return names


async def _load(reader: Reader, units: Sequence[_Series]) -> list[tuple[int, str, Points]]:
    wanted = [chunk.id for unit in units for chunk in unit.chunks]
    data: dict[int, bytes] = {}
    for some in pages(wanted):
        data.update(await reader.fetch(in_list(sql.chunk_data, len(some)), some))
    loaded = []
    for unit in units:
        parts = [_decoded(unit, chunk.id, data) for chunk in unit.chunks]
        loaded.append((unit.run, unit.key, merge([*parts, *unit.tail])))
    return loaded


def _decoded(unit: _Series, number: int, data: dict[int, bytes]) -> Points:
    place: dict[str, object] = {"run": unit.run, "series": unit.key, "chunk": number}
    if number not in data:
        raise Corrupt("the chunk is gone", **place)
    try:
        return decode_chunk(data[number])
    except Corrupt as error:
        raise Corrupt(error.reason, **place) from error
