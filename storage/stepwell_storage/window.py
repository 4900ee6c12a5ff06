"""The statistics of every series, kept behind the journal and caught up in one pass.

Appending never looks a series up and never updates one.  What was committed since the last flush
stands in a :class:`Window`; a flush sums it up per series with NumPy and merges the sums into the
``series`` table, before any read that needs them, before each compaction, and about once a
second.  ``meta.counted`` says up to which journal row that was done, in the same transaction: after
a crash the rows beyond it are read back into a window.  That a number can stand for "all rows up to
here" holds because one committer numbers and commits a tenant's rows in order.

Sums of many series are written in pieces, each with a group of its own, so that no acknowledgement
waits for all of them.  In between ``meta.counting`` is the journal row that they reach up to, and
``meta.counted_place`` the last row of ``series`` that was written: what stands at a place up to it
is counted up to the one, what stands beyond it up to ``meta.counted``.

The journal's index by run, ``journal_run``, is caught up with the last piece.  Kept by every commit
it was nine tenths of what a commit of small batches of many runs wrote: a page for each run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from stepwell_storage.database import Reader, Transaction, in_list
from stepwell_storage.statements import sql
from stepwell_storage.statistics import Entry, Sums, summarize

_MANY_STRETCHES = 10_000
_MANY_BYTES = 2 * 1024 * 1024
"""Of points, and a stretch is the points of a series in one row: each takes a few ms to sum up."""
_LEAST_ROWS = 256
"""Of a piece; and of one that tells how long a row takes."""


class Counted(NamedTuple):
    """What a tenant's statistics are known to count, journal rows by their numbers."""

    upto: int = 0
    going_on: int = 0
    """0 unless sums are half written: then the row that they reach up to."""
    place: int = -1
    """The place in ``series`` up to which they are written."""

    @classmethod
    async def read(cls, reader: Reader) -> Counted:
        names = ("counted", "counting", "counted_place")
        found = dict(await reader.fetch(in_list(sql.metas, len(names)), names))
        return cls(found.get("counted", 0), found.get("counting", 0), found.get(names[2], -1))

    def of(self, series: int) -> int:
        """The journal row up to which the series at this place is counted."""
        return max(self.upto, self.going_on) if series <= self.place else self.upto


@dataclass(slots=True)
class Window:
    """Committed, not counted yet: entries as they came, and older ones that are summed up."""

    entries: list[Entry] = field(default_factory=list)
    heartbeats: dict[int, int] = field(default_factory=dict)
    writers: dict[tuple[int, int], int] = field(default_factory=dict)
    bytes: int = 0
    sums: Sums | None = None
    counted: int = 0
    """The journal row up to which everything is counted."""
    _summing: Sequence[Entry] = ()
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _piece: int = 0
    _row_s: float = 1e-5

    def __bool__(self) -> bool:
        return bool(self.entries or self.heartbeats or self.sums or self._summing)

    @property
    def newest(self) -> int:
        """The last journal row that is committed, as far as it is known here."""
        for entries in (self.entries, self._summing):
            if entries:
                return entries[-1].journal
        return self.sums.upto if self.sums else self.counted

    @property
    def is_large(self) -> bool:
        """Whether summing up the entries takes so long that others should not wait for it."""
        if self.bytes > _MANY_BYTES:
            return True
        return sum(len(entry.counts) for entry in self.entries) > _MANY_STRETCHES

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.bytes += 3 * len(entry.steps)

    def keys_of(self, run: int) -> set[int]:
        """The series of a run that only the window knows of, and maybe others."""
        entries = (*self._summing, *self.entries)
        found = {int(key) for entry in entries if entry.run == run for key in entry.keys}
        return found | self.sums.keys_of(run) if self.sums else found

    async def sum_up(self) -> None:
        """Make sums of the entries, on a thread, unless there are sums to be written first."""
        async with self._turn:
            if self.sums or not self.entries:
                return
            self._summing, self.entries, self.bytes = self.entries, [], 0
            try:
                self.sums = await asyncio.to_thread(summarize, self._summing)
            except BaseException:
                self.entries = [*self._summing, *self.entries]
                self.bytes = sum(3 * len(entry.steps) for entry in self.entries)
                raise
            finally:
                self._summing = ()

    def resume(self, entries: Sequence[Entry], counted: Counted) -> None:
        """Go on with sums of these entries, which were half written."""
        self.sums = summarize(entries)
        self.sums.upto = counted.going_on
        self.sums.written = int(np.searchsorted(self.sums.columns[0], counted.place, "right"))

    async def flush(self, tx: Transaction, seconds: float) -> float:
        """Merge as much into the tables as takes about so long; how long it took.

        Call :meth:`flushed` once it is committed.
        """
        self._piece = 0
        if self.entries and not (self.sums or self._summing or self.is_large):
            # A millisecond, as a rule: less than a thread is worth.
            self.sums, self.entries, self.bytes = summarize(self.entries), [], 0
        took = await self._write(tx, self.sums, seconds) if self.sums else 0.0
        beats = [(at, run, at) for run, at in self.heartbeats.items()]
        await tx.executemany(sql.heartbeat, beats)
        if self.writers:
            rows = [(run, rank, at) for (run, rank), at in self.writers.items()]
            await tx.executemany(sql.writer_heartbeat, rows)
        return took

    async def _write(self, tx: Transaction, sums: Sums, seconds: float) -> float:
        await tx.execute(sql.set_meta, ("counting", sums.upto))
        start = time.perf_counter()
        rows = max(_LEAST_ROWS, int(min(seconds / self._row_s, len(sums))))
        end = self._piece = min(sums.written + rows, len(sums))
        await tx.executemany(sql.merge_series, sums.rows(sums.written, end))
        if end == len(sums):
            await tx.executemany(sql.list_journal, [(sums.upto,)])
            await tx.execute(sql.set_meta, ("counted", sums.upto))
            await tx.executemany(sql.set_meta, [("counting", 0)])
        else:
            await tx.execute(sql.set_meta, ("counted_place", int(sums.columns[0][end - 1])))
        took = time.perf_counter() - start
        if end - sums.written >= _LEAST_ROWS:
            self._row_s = took / (end - sums.written)
        return took

    def flushed(self) -> None:
        """What :meth:`flush` wrote is committed."""
        self.heartbeats.clear()
        self.writers.clear()
        if self.sums:
            self.sums.written = max(self.sums.written, self._piece)
            if self._piece == len(self.sums):
                self.counted = self.sums.upto
                self.sums = None
