"""Verify every invariant of a data directory: what `stepwell verify` runs.

Walks every tenant, reads every byte that holds points, and derives from the points alone what the
tables say of them.  Works beside a running server (read-only then) and without one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stepwell_storage.codec import decode as decode_chunk
from stepwell_storage.database import Reader
from stepwell_storage.errors import Corrupt, StorageError, Unsupported
from stepwell_storage.payloads import Journaled, decode as decode_row
from stepwell_storage.points import NAN_BITS, Points, merge, to_ordered
from stepwell_storage.records import Position
from stepwell_storage.sqlite import Sqlite, read_only
from stepwell_storage.statements import sql
from stepwell_storage.store import is_tenant_name, take_lock
from stepwell_storage.summaries import decode as decode_summary, summarise

Report = Callable[[str], None]


@dataclass(slots=True)
class Findings:
    """What was looked at, and what is wrong.  Each problem names its place."""

    report: Report
    step: Callable[[Findings], None]
    tenants: int = 0
    runs: int = 0
    series: int = 0
    points: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        self.problems.append(problem)
        self.report(problem)


async def verify(
    data: Path,
    report: Report = lambda _: None,
    step: Callable[[Findings], None] = lambda _: None,
) -> Findings:
    """Check every tenant of a data directory; ``report`` hears of each problem as it is found,
    ``step`` is called after each run."""
    findings = Findings(report, step)
    if not (data / "tenants").is_dir():
        findings.add(f"{data} is no data directory: it has no folder 'tenants'")
        return findings
    lock: int | None = None
    with contextlib.suppress(Unsupported):  # a server runs: read beside it
        lock = take_lock(data / "lock")
    try:
        for folder in sorted((data / "tenants").iterdir()):
            if is_tenant_name(folder.name) and folder.is_dir():
                findings.tenants += 1
                await _verify_tenant(folder, findings, alone=lock is not None)
    finally:
        if lock is not None:
            os.close(lock)
    return findings


@asynccontextmanager
async def _open(path: Path, *, alone: bool) -> AsyncIterator[Reader]:
    if not alone:
        async with read_only(path) as reader:
            yield reader
        return
    database = await Sqlite.open(path)
    try:
        async with database.snapshot(timeout_s=86_400) as reader:
            yield reader
    finally:
        await database.close()


async def _verify_tenant(folder: Path, findings: Findings, *, alone: bool) -> None:
    path = folder / "tenant.db"
    if not path.exists():
        findings.add(f"tenant {folder.name}: its file tenant.db is missing")
        return
    try:
        async with _open(path, alone=alone) as reader:
            await _Tenant(folder.name, reader, findings).verify()
    except StorageError as error:
        findings.add(f"tenant {folder.name}: {error}")


class _Tenant:
    def __init__(self, name: str, reader: Reader, findings: Findings) -> None:
        self._name = name
        self._reader = reader
        self._findings = findings

    def _problem(self, text: str, **place: object) -> None:
        where = "".join(f", {name} {value}" for name, value in place.items())
        self._findings.add(f"tenant {self._name}{where}: {text}")

    async def verify(self) -> None:
        for (line,) in await self._reader.fetch("pragma integrity_check(20)"):
            if line != "ok":
                self._problem(f"the file is damaged: {line}")
        for name in ("chunk", "journal", "series", "param", "tag", "console"):
            rows = await self._reader.fetch(getattr(sql, f"orphans_of_{name}"))
            for (run,) in rows:
                self._problem(f"rows of {name} belong to run row {run}, which does not exist")
        meta = await self._reader.fetch(sql.meta, ("counted",))
        counted = meta[0][0] if meta else 0
        for number, run_id in await self._reader.fetch(sql.all_runs):
            self._findings.runs += 1
            await self._verify_run(number, run_id, counted)
            self._findings.step(self._findings)

    async def _verify_run(self, run: int, run_id: str, counted: int) -> None:
        rows = await self._journal(run, run_id, counted)
        stats = {row[0]: row[1:] for row in await self._reader.fetch(sql.all_series, (run,))}
        chunks: dict[int, list[int]] = {}
        for key, number in await self._reader.fetch(sql.all_chunks, (run,)):
            chunks.setdefault(key, []).append(number)
        keys = {*stats, *chunks, *(int(key) for row in rows for key in row.keys)}
        names = dict(await self._reader.fetch(sql.names_of_run, (run,)))
        for key in sorted(keys):
            place = {"run": run_id, "series": names.get(key, f"number {key}")}
            parts = await self._chunks(chunks.get(key, []), place)
            stored = sum(len(part) for part in parts)
            for row in rows:
                tail = row.of(key)
                if tail is not None:
                    parts.append(tail)
                    stored += len(tail)
            points = merge(parts)
            self._findings.series += 1
            self._findings.points += len(points)
            if key not in stats:
                self._problem("it has points and no statistics", **place)
            elif not len(points):
                self._problem("it has statistics and no points", **place)
            else:
                self._compare(stats[key], points, stored, place)

    async def _journal(self, run: int, run_id: str, counted: int) -> list[Journaled]:
        """The run's counted journal rows.  Those beyond are counted when the server starts."""
        rows = []
        for number, points, payload in await self._reader.fetch(sql.journal_rows, (run, counted)):
            try:
                row = decode_row(payload)
            except Corrupt as error:
                self._problem(error.reason, run=run_id, **{"journal row": number})
                continue
            if len(row.steps) != points:
                self._problem("a wrong number of points", run=run_id, **{"journal row": number})
            rows.append(row)
        return rows

    async def _chunks(self, numbers: list[int], place: dict[str, object]) -> list[Points]:
        parts = []
        for number in numbers:
            row = (await self._reader.fetch(sql.whole_chunk, (number,)))[0]
            count, *ends, summary, data = row
            here = {**place, "chunk": number}
            try:
                points = decode_chunk(data)
            except Corrupt as error:
                self._problem(error.reason, **here)
                continue
            parts.append(points)
            if count != len(points):
                self._problem(f"{len(points)} points where {count} are stated", **here)
            if (Position(*ends[:3]), Position(*ends[3:])) != (
                points.position(0),
                points.position(-1),
            ):
                self._problem("its range is not that of its points", **here)
            try:
                if decode_summary(summary) != summarise(points):
                    self._problem("its summary is not that of its points", **here)
            except Corrupt as error:
                self._problem(error.reason, **here)
        return parts

    def _compare(
        self, row: tuple[int | None, ...], points: Points, stored: int, place: dict[str, object]
    ) -> None:
        count, late, *rest = row
        assert count is not None
        if count != len(points) and (not late or count < len(points)):
            self._problem(f"its count is {count}, its points are {len(points)}", **place)
        if not late and stored != len(points):
            self._problem("points are stored twice and its count is said to be exact", **place)
        expected: list[int | None] = [*points.position(0), *points.position(-1), *_extremes(points)]
        names = ("first step", "first timestamp", "first", "last step", "last timestamp", "last",
                 "lowest", "step of the lowest", "highest", "step of the highest")  # fmt: skip
        for name, said, derived in zip(names, rest, expected, strict=True):
            if said != derived:
                self._problem(f"its {name} is {said}, its points say {derived}", **place)


def _extremes(points: Points) -> list[int | None]:
    numbers = points[points.values.view(np.int64) != NAN_BITS]
    if not len(numbers):
        return [None] * 4
    keys = to_ordered(numbers.values)
    low, high = int(keys.min()), int(keys.max())
    return [
        low,
        int(numbers.steps[keys == low].min()),
        high,
        int(numbers.steps[keys == high].min()),
    ]
