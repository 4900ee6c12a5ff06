"""An import: a source's runs into one tenant, straight into the engine.

Each batch of runs is one transaction that also writes what was imported (storage's ledger), so an
import may be killed at any moment and begun again.  What a run meets here decides what is done:

- where there is none of that id, it is made;
- where it was imported and has not changed in the source, it is passed over;
- where it has grown in the source, it is brought up to date, unless it was changed here as well;
- where it is here and not by an import, it is left alone: it is equal, or it is a conflict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from stepwell import ids
from stepwell_storage import fingerprints
from stepwell_storage.errors import Conflict
from stepwell_storage.exports import points_of, runs_by_id
from stepwell_storage.imports import RUN, UNFINISHED, Imported
from stepwell_storage.journal import MAX_SERIES_PER_RUN
from stepwell_storage.points import Points
from stepwell_storage.records import Run
from stepwell_storage.tenant import Tenant
from stepwell_tracker.porting.places import Places
from stepwell_tracker.porting.source import Damaged, Source, SourceRun
from stepwell_tracker.tenancy import contradicts

BATCH_POINTS: Final = 300_000
BATCH_RUNS: Final = 500
PART_POINTS: Final = 2_000_000
"""A run of more is read twice, and written in several transactions."""
_SIGNED: Final = 2**63 - 1

Step = Callable[[str, int], None]
"""Hears how many more points were read, and of which run."""


@dataclass(slots=True)
class Sums:
    """What the points of a run add up to."""

    points: int = 0
    checksum: int = 0

    def add(self, run_id: str, key: str, points: Points) -> None:
        self.points += len(points)
        self.checksum += fingerprints.of_points(run_id, key, points)
        self.checksum &= fingerprints.MASK


def fingerprint(run: Run, sums: Sums) -> int:
    """Of a whole run, as the ledger holds it."""
    whole = fingerprints.of(fingerprints.of_run(run), sums.points, sums.checksum)
    return whole & _SIGNED or 1


@dataclass(slots=True)
class Taken:
    """A run of the source, or a part of a large one; ``sums`` are the whole run's."""

    source: SourceRun
    sums: Sums
    points: list[tuple[str, Points]] = field(default_factory=list)
    part: int = 0
    last: bool = True

    @property
    def run(self) -> Run:
        return self.source.run

    @property
    def fingerprint(self) -> int:
        return fingerprint(self.run, self.sums)

    def imported(self) -> Imported:
        said = self.fingerprint if self.last else UNFINISHED
        return Imported(self.run, said, self.points)


@dataclass(slots=True)
class Outcome:
    """``expected`` is what must be found here; ``passed_over`` are those of it that nothing was
    done to now, so that whoever changed them since did so here."""

    made: int = 0
    grown: int = 0
    expected: dict[str, tuple[Run, Sums]] = field(default_factory=dict)
    passed_over: set[str] = field(default_factory=set)
    uris: dict[str, str] = field(default_factory=dict)
    """Where the files of the runs lie in the source."""
    problems: list[str] = field(default_factory=list)


class RunImport:
    def __init__(self, tenant: Tenant, source: Source, places: Places, step: Step) -> None:
        self._tenant = tenant
        self._source = source
        self._places = places
        self._step = step
        self._writing: str | None = None
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """The next batch is read, in a thread, while one is written."""
        batches = self._batches()
        batch = await asyncio.to_thread(next, batches, None)
        while batch is not None:
            reading = asyncio.create_task(asyncio.to_thread(next, batches, None))
            try:
                await self._write(batch)
            finally:
                batch = await reading
        return self.outcome

    # --- reading, in a thread ------------------------------------------------------------------

    def _batches(self) -> Iterator[list[Taken]]:
        """Whole runs together, or one part of a large run alone."""
        batch: list[Taken] = []
        held = 0
        for source in self._source.runs():
            taken = self._take(source)
            if taken is None:
                continue
            if taken.last:
                batch.append(taken)
                held += taken.sums.points
            if not taken.last or held >= BATCH_POINTS or len(batch) >= BATCH_RUNS:
                yield batch
                batch, held = [], 0
            if not taken.last:
                yield from ([part] for part in self._parts(taken))
        yield batch

    def _take(self, source: SourceRun) -> Taken | None:
        """The run with its points, where they are not too many to be held.  None: a problem."""
        run = source.run
        try:
            self._check(source)
            run.experiment_number = self._places.numbers[run.experiment_number]
            taken = Taken(source, Sums())
            keys: dict[str, None] = {}
            for key, points in self._source.points(run):
                self._step(run.run_id, len(points))
                taken.sums.add(run.run_id, key, points)
                keys[key] = None
                taken.last = taken.sums.points <= PART_POINTS
                if taken.last:
                    taken.points.append((key, points))
            if len(keys) > MAX_SERIES_PER_RUN:
                raise Damaged(f"it has {len(keys)} series; a run has at most {MAX_SERIES_PER_RUN}")
        except Damaged as error:
            self.outcome.problems.append(f"run {run.run_id} is not imported: {error}")
            return None
        return taken

    def _check(self, source: SourceRun) -> None:
        if source.problem:
            raise Damaged(source.problem)
        number = source.run.experiment_number
        if number in self._places.blocked:
            raise Damaged(self._places.blocked[number])
        if number not in self._places.numbers:
            raise Damaged(f"its experiment {number} is not in the source, or cannot be read")
        run_id = ids.parse_run_id(source.run.run_id)  # of another form, it names no tenant
        if run_id and contradicts(self._tenant.name, run_id):
            raise Damaged(
                f"its id names another tenant than {self._tenant.name!r}; import it into the one"
                " that it was made in"
            )

    def _parts(self, whole: Taken) -> Iterator[Taken]:
        """A large run again, from the start, in parts."""
        part = Taken(whole.source, whole.sums, last=False)
        held = left = 0
        left = whole.sums.points
        for key, points in self._source.points(whole.run):
            part.points.append((key, points))
            held += len(points)
            left -= len(points)
            if held >= PART_POINTS and left > 0:
                yield part
                part = Taken(whole.source, whole.sums, part=part.part + 1, last=False)
                held = 0
        part.last = True
        yield part

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, batch: Sequence[Taken]) -> None:
        if not batch:
            return
        if batch[0].part:
            await self._write_further(batch[0])
            return
        imports = self._tenant.imports
        names = [taken.run.run_id for taken in batch]
        ledger, here = await imports.ledger(RUN, names), await imports.existing(names)
        purged = await imports.purged(names)
        fresh = []
        for taken in batch:
            run_id = taken.run.run_id
            if run_id in purged:
                self._refuse(taken, "it was deleted here for good")
            elif run_id not in here:
                fresh.append(taken)
            elif run_id not in ledger:
                await self._compare(taken)
            elif ledger[run_id] == taken.fingerprint:
                self._expect(taken)
                self.outcome.passed_over.add(run_id)
            elif ledger[run_id] == UNFINISHED or await self._stands(taken, ledger[run_id]):
                await self._extend(taken)
                self.outcome.grown += 1
            else:
                self._refuse(taken, "it was changed here and in the source since it was imported")
        if fresh:
            await self._create(fresh)

    async def _create(self, fresh: Sequence[Taken]) -> None:
        await self._tenant.imports.create([taken.imported() for taken in fresh])
        self.outcome.made += len(fresh)
        for taken in fresh:
            self._begun(taken)

    async def _write_further(self, taken: Taken) -> None:
        """A part of a run whose first part was written, or refused."""
        if self._writing == taken.run.run_id:
            await self._extend(taken)

    def _begun(self, taken: Taken) -> None:
        self._writing = None if taken.last else taken.run.run_id
        self._expect(taken)

    async def _extend(self, taken: Taken) -> None:
        try:
            await self._tenant.imports.extend(taken.imported())
        except Conflict as error:
            self._refuse(taken, str(error))
            self._writing = None
        else:
            self._begun(taken)

    def _expect(self, taken: Taken) -> None:
        self.outcome.expected[taken.run.run_id] = (taken.run, taken.sums)
        self.outcome.uris[taken.run.run_id] = taken.source.artifact_uri

    def _refuse(self, taken: Taken, why: str) -> None:
        self.outcome.expected.pop(taken.run.run_id, None)
        self.outcome.problems.append(f"run {taken.run.run_id} is left as it is here: {why}")

    async def _stands(self, taken: Taken, said: int) -> bool:
        """Whether a run that was imported is still what it was then."""
        [(run, sums)] = (await stored(self._tenant, [taken.run.run_id])).values()
        return fingerprint(run, sums) == said

    async def _compare(self, taken: Taken) -> None:
        """It is here already, and not by an import."""
        [(run, sums)] = (await stored(self._tenant, [taken.run.run_id])).values()
        if fingerprint(run, sums) == taken.fingerprint:
            self._expect(taken)
            return
        what = ", ".join(differences((taken.run, taken.sums), (run, sums)))
        self._refuse(taken, f"a run of that id is here, and differs in {what}")


async def stored(tenant: Tenant, run_ids: Sequence[str]) -> dict[str, tuple[Run, Sums]]:
    """Those of the runs that are here, with what their points add up to: all read from the file."""
    found: dict[str, tuple[Run, Sums]] = {}
    async with tenant.whole() as reader:
        rows = {one.number: one.run for one in await runs_by_id(reader, run_ids)}
        for run in rows.values():
            found[run.run_id] = (run, Sums())
        async for number, key, points in points_of(reader, list(rows)):
            run_id = rows[number].run_id
            found[run_id][1].add(run_id, key, points)
    return found


def differences(source: tuple[Run, Sums], here: tuple[Run, Sums]) -> Iterable[str]:
    """What of a run is not the same, in words."""
    (theirs, sums), (ours, held) = source, here
    plain = ("name", "description", "user_id", "parent_run_id", "status", "start_time", "end_time",
             "lifecycle")  # fmt: skip
    if theirs.experiment_number != ours.experiment_number:
        yield f"experiment ({theirs.experiment_number}, here {ours.experiment_number})"
    for name in plain:
        mine, other = getattr(ours, name), getattr(theirs, name)
        if mine != other:
            yield f"{name} ({other!r}, here {mine!r})"
    for name in ("params", "tags"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        keys = sorted(key for key in {*mine, *other} if mine.get(key) != other.get(key))
        if keys:
            yield f"{name} {', '.join(keys[:5])}"
    if fingerprints.of_links(theirs) != fingerprints.of_links(ours):
        yield "datasets or models"
    if sums != held:
        yield f"points ({sums.points}, here {held.points})"
