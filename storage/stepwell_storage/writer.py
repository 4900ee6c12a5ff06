"""One tenant's writing side: what the committer's ``apply`` does with a group of jobs.

Everything of a group happens in one transaction, in the order in which it was queued.  What is
remembered in memory (names, runs, statistics, events) changes only once that is committed.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any

from stepwell_storage.backlog import Backlog
from stepwell_storage.catalog import Catalog, CreateRun
from stepwell_storage.committer import Job
from stepwell_storage.database import Database, Reader, Transaction, in_list
from stepwell_storage.errors import Conflict, Corrupt, Full, Invalid, NotFound, StorageError
from stepwell_storage.events import Events, points_of
from stepwell_storage.journal import Journal, LogJob
from stepwell_storage.labels import Labels
from stepwell_storage.meters import Meters
from stepwell_storage.names import Counter, Names, pages
from stepwell_storage.payloads import decode
from stepwell_storage.runs import Runs
from stepwell_storage.sealed import Sealed
from stepwell_storage.statements import sql
from stepwell_storage.statistics import Entry
from stepwell_storage.window import Counted, Window

logger = logging.getLogger(__name__)

# What is behind is caught up that often, and less often where many series make that dear: one part
# in so many of the time goes into it.  The more points a series has by then, the cheaper.
FLUSH_INTERVAL_S = 1.0
FLUSH_SHARE = 20
# A group that flushes writes about that long at a time, since its acknowledgements wait for it.
PIECE_S = 0.01
# From here on each group writes a piece, and from twice as much on all there is.
MAX_WINDOW_BYTES = 32 * 1024 * 1024
MAX_BEHIND_ROWS = 2_048
"""Batches that are not counted yet, and labels that are not filed.  Each costs the flush a few
microseconds, however few the series: more would make those wait long who wait behind it."""
TRIM_INTERVAL_S = 5.0
"""How often the states of runs are counted and the oldest forgotten; it takes a millisecond."""


class Change(Job):
    """Any other write: ``work`` checks first, then writes, and its result is the job's."""

    __slots__ = ("work",)

    def __init__(self, work: Callable[[Transaction], Awaitable[Any]], size: int = 256) -> None:
        super().__init__(size)
        self.work = work


class Append(Change):
    """A change that adds data: refused like points while the disk is nearly full."""

    __slots__ = ()


class Maintain(Job):
    """Give freed pages back; resolves to whether there are more.  Happens outside transactions.

    ``gently``: others are writing, and none of them shall wait for long.
    """

    __slots__ = ("gently",)

    def __init__(self, *, gently: bool = False) -> None:
        super().__init__()
        self.gently = gently


class Stale(StorageError):
    """What compaction built no longer fits what is there: roll back and forget it."""


class Writer:
    def __init__(
        self, name: str, database: Database, events: Events, max_journal: int, meters: Meters
    ) -> None:
        self._name = name
        self._database = database
        self.events = events
        self._effects: list[Callable[[], None]] = []
        self.names = Names()
        self.runs = Runs()
        self.window = Window()
        self.backlog = Backlog(max_journal)
        self.labels = Labels(self.names)
        self.catalog = Catalog(self.names, self.runs, self.labels, events, self._effects.append)
        self._journal = Journal(self.names)
        self._journal_ids = Counter("journal")
        self._chunk_ids = Counter("chunk")
        self.written_at = self._flushed_at = self._trimmed_at = time.monotonic()
        self._flush_s = 0.0
        self._flush_asked = False
        self._summing: asyncio.Task[None] | None = None
        self._meters = meters

    async def recover(self) -> None:
        """Make the tenant's first rows, and count what a crash left uncounted.

        Where the disk refuses that, what is not counted waits, and the rest can be read.
        """
        waits = False
        try:
            async with self._database.transaction() as tx:
                await self.catalog.make_default(tx, self._name)
                await self.labels.look(tx)
                await self._read_uncounted(tx)
                waits = self.is_behind
                await self.labels.file(tx)
            self._committed()
            while self.window:
                await self.window.sum_up()
                async with self._database.transaction() as tx:
                    await self.window.flush(tx, math.inf)
                self.window.flushed()
        except Full:
            self._rolled_back()
            if not waits:
                raise
        async with self._database.snapshot() as reader:
            self.backlog.load(await reader.fetch(sql.journal_by_run))
            for (run,) in await reader.fetch(sql.unfinished_purges):
                self.backlog.forget(run)

    @property
    def is_behind(self) -> bool:
        """Whether what is committed has not yet reached all places where reads look for it."""
        return bool(self.window or self.labels.unfiled)

    async def _read_uncounted(self, reader: Reader) -> None:
        """Fill the window with what the statistics do not count, half written sums included."""
        counted = await Counted.read(reader)
        self.window.counted = counted.upto
        half_written: list[Entry] = []
        for number, run, points, payload in await reader.fetch(sql.journal_after, (counted.upto,)):
            if entry := self._entry(number, run, points, payload):
                if number <= counted.going_on:
                    half_written.append(entry)
                else:
                    self.window.add(entry)
        if half_written:
            self.window.resume(half_written, counted)

    def _entry(self, number: int, run: int, points: int, payload: bytes) -> Entry | None:
        try:
            row = decode(payload)
        except Corrupt as error:
            logger.error(
                "tenant %s, journal row %d of run row %d (%d points) is damaged: %s",
                self._name, number, run, points, error.reason,
            )  # fmt: skip
            return None
        columns = (row.steps.tobytes(), row.timestamps.tobytes(), row.values.tobytes())
        return Entry(number, run, row.keys, row.counts, *columns)

    async def apply(self, jobs: Sequence[Job]) -> None:
        """Run a group in one transaction; raises when the transaction as a whole failed."""
        writes = [job for job in jobs if type(job) is not Maintain]
        if not self._database.has_room():
            writes = _refuse_appends(writes)
        if writes:
            await self._write(writes)
        if asked := [job for job in jobs if type(job) is Maintain]:
            await self._maintain(asked)

    async def _maintain(self, jobs: Sequence[Maintain]) -> None:
        """What goes wrong here is theirs alone: the others are committed by now."""
        try:
            more = await self._database.maintain(gently=any(job.gently for job in jobs))
        except StorageError as error:
            for job in jobs:
                job.fail(error)
        else:
            for job in jobs:
                job.result = more

    async def _write(self, jobs: Sequence[Job]) -> None:
        try:
            async with self._database.transaction() as tx:
                for kind, group in groupby(jobs, type):
                    await self._dispatch(tx, kind, list(group))
                refused = all(job.error for job in jobs)  # which are told so whatever the disk says
                flushing = self.is_behind and not refused and (self._flush_asked or self._due())
                if flushing:
                    await self._flush(tx)
        except BaseException:
            self._rolled_back()
            raise
        self.written_at = time.monotonic()
        if flushing:
            self._flush_asked = False
            self._flushed_at = self.written_at
            self.window.flushed()
        self._committed()
        if self.written_at - self._trimmed_at >= TRIM_INTERVAL_S:
            self._trimmed_at = self.written_at
            self.runs.trim()

    async def _dispatch(self, tx: Transaction, kind: type[Job], jobs: list[Any]) -> None:
        if kind is LogJob:
            await self.log(tx, jobs)
        elif kind is CreateRun:
            await self.catalog.create_runs(tx, jobs)
        else:
            await self.labels.file(tx)
            for job in jobs:
                try:
                    job.result = await job.work(tx)
                except (NotFound, Conflict, Invalid) as error:
                    job.fail(error)

    def after_commit(self, effect: Callable[[], None]) -> None:
        """What is remembered once this group is committed; forgotten when it is rolled back."""
        self._effects.append(effect)

    async def log(self, tx: Transaction, jobs: list[LogJob]) -> None:
        """Write the batches that can be; the others' jobs have failed."""
        for run in {job.run for job in jobs if job.run.keys is None}:
            rows = await tx.fetch(sql.keys_of_run, (run.id,))
            run.keys = {key for (key,) in rows} | self.window.keys_of(run.id)
        if any(job.batch.params or job.batch.tags for job in jobs):
            await self.labels.file(tx)
        good = await self._journal.check(tx, jobs)
        numbers = await self._journal_ids.take(tx, sum(1 for job in good if job.batch.steps))
        entries = await self._journal.write(tx, good, numbers)
        self._effects.append(lambda: self._logged(good, entries))

    def _logged(self, jobs: Sequence[LogJob], entries: Sequence[Entry]) -> None:
        for entry in entries:
            points = len(entry.steps) // 8
            self.window.add(entry)
            self._meters.points += points
            self.backlog.add(
                entry.run, rows=1, points=points, size=12 * points + 64, keys=entry.keys
            )
        beats, writers = self.window.heartbeats, self.window.writers
        for job in jobs:
            beats[job.run.id] = job.at
            if job.batch.rank is not None:
                writers[job.run.id, job.batch.rank] = job.at
            if self.events.watched(job.run.run_id):
                self._publish(job)

    def _publish(self, job: LogJob) -> None:
        batch, run_id = job.batch, job.run.run_id
        if batch.keys:
            self.events.publish(run_id, "points", points_of(batch))
        if batch.params:
            self.events.publish(run_id, "params", {"params": dict(batch.params)})
        if batch.tags:
            self.events.publish(run_id, "tags", {"tags": dict(batch.tags)})

    # --- statistics ----------------------------------------------------------------------------

    def _due(self) -> bool:
        """Whether this group has to write a piece."""
        window = self.window
        rows = len(window.entries) + self.labels.unfiled
        if rows >= MAX_BEHIND_ROWS or window.bytes > MAX_WINDOW_BYTES:
            return True
        interval = 0.0 if window.sums else FLUSH_INTERVAL_S
        age = time.monotonic() - self._flushed_at
        return age >= max(interval, FLUSH_SHARE * self._flush_s)

    async def _flush(self, tx: Transaction) -> None:
        """A piece of what is behind.  What is large is summed up beside the groups first."""
        await self.labels.file(tx)
        window = self.window
        overdue = window.bytes > 2 * MAX_WINDOW_BYTES
        if overdue:
            await window.sum_up()
        elif window.is_large and not (window.sums or self._is_summing):
            self._summing = asyncio.create_task(window.sum_up())
        self._flush_s = await window.flush(tx, math.inf if overdue else PIECE_S)

    @property
    def _is_summing(self) -> bool:
        return self._summing is not None and not self._summing.done()

    async def flush(self, _: Transaction) -> None:
        """Write a piece at the end of this group; see :meth:`settle`."""
        self._flush_asked = True

    async def settle(self, change: Callable[..., Awaitable[Any]]) -> None:
        """Bring what is acknowledged by now to where reads look for it.  ``change`` queues
        a change: each writes a piece, and others are acknowledged in between."""
        newest = self.window.newest
        while self.is_behind:
            await self.window.sum_up()
            await change(self.flush)
            if self.window.counted >= newest:
                return

    # --- compaction ----------------------------------------------------------------------------

    async def seal(self, tx: Transaction, sealed: Sealed) -> None:
        """Put chunks in the place of the journal rows and chunks that they were made of.

        By exact lists of numbers, never by a watermark; raises Stale when a row is gone.
        """
        await _delete_exactly(tx, sql.unlist_sealed, sealed.journal)
        await _delete_exactly(tx, sql.delete_journal, sealed.journal)
        await _delete_exactly(tx, sql.delete_chunks, sealed.absorbed)
        numbers = await self._chunk_ids.take(tx, len(sealed.chunks))
        await tx.executemany(sql.insert_chunk, list(sealed.chunks.rows(numbers)))
        await tx.executemany(sql.correct_series, sealed.corrections)
        self._effects.append(lambda: self._sealed(sealed))

    def _sealed(self, sealed: Sealed) -> None:
        for run, taken in sealed.taken.items():
            if not taken.rows:
                continue
            size = 12 * taken.points + 64 * taken.rows
            self.backlog.remove(run, rows=taken.rows, points=taken.points, size=size)

    # --- after the transaction -----------------------------------------------------------------

    def _committed(self) -> None:
        for part in (self.names, self._journal, self._journal_ids, self._chunk_ids, self.catalog):
            part.commit()
        effects, self._effects[:] = self._effects[:], []
        for effect in effects:
            try:
                effect()
            except Exception:  # committed is committed: the others' must follow, and the answers
                logger.exception("tenant %s: after a commit", self._name)

    def _rolled_back(self) -> None:
        for part in (self.names, self._journal, self._journal_ids, self._chunk_ids, self.catalog):
            part.rollback()
        self.labels.rollback()
        self._effects.clear()


async def _delete_exactly(tx: Transaction, statement: str, numbers: Sequence[int]) -> None:
    for page in pages(numbers):
        if await tx.execute(in_list(statement, len(page)), page) != len(page):
            raise Stale


def _refuse_appends(jobs: Sequence[Job]) -> list[Job]:
    """Fail the jobs that add data; those that may go on."""
    for job in jobs:
        if isinstance(job, LogJob | CreateRun | Append):
            job.fail(Full("the disk is nearly full: the rest is kept for deletes and compaction"))
    return [job for job in jobs if job.error is None]
