"""Verify every invariant of a data directory: what `stepwell verify` runs.

Walks every tenant, reads every byte that holds points, and derives from the points alone what the
tables say of them.  Works beside a running server (read-only then) and without one.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stepwell_storage import console, migrations
from stepwell_storage.backups import copy_database
from stepwell_storage.codec import decode as decode_chunk
from stepwell_storage.database import Reader, in_list
from stepwell_storage.errors import Corrupt, StorageError, Unsupported, contradictions
from stepwell_storage.invariants import broken
from stepwell_storage.journal import parameter_number
from stepwell_storage.leftovers import Owners, ownerless, owners
from stepwell_storage.paths import is_tenant_name
from stepwell_storage.payloads import Journaled, decode as decode_row
from stepwell_storage.places import place
from stepwell_storage.points import NAN_BITS, Points, merge, to_ordered
from stepwell_storage.presence import unfit
from stepwell_storage.records import Position
from stepwell_storage.seals import check_seals
from stepwell_storage.shapes import changed
from stepwell_storage.sqlite import Sqlite, read_only
from stepwell_storage.statements import sql
from stepwell_storage.summaries import decode as decode_summary, summarise
from stepwell_storage.texts import unreadable
from stepwell_storage.wal import SET_ASIDE, damage
from stepwell_storage.window import Counted

RUNS_PER_READ = 1_000
BLOCKS_PER_READ = 64
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
    artifacts: int = 0
    unsealed: int = 0
    """Artifacts whose bytes could be compared with nothing."""
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
    ``step`` is called after each run.  Nothing is written."""
    findings = Findings(report, step)
    if not (data / "tenants").is_dir():
        findings.add(f"{data} is no data directory: it has no folder 'tenants'")
        return findings
    for folder in sorted((data / "tenants").iterdir()):
        if is_tenant_name(folder.name):
            findings.tenants += 1
            try:
                with contradictions():
                    await verify_tenant(folder, findings)
            except StorageError as error:
                findings.add(f"tenant {folder.name}: {error}")
            except OSError as error:
                findings.add(f"tenant {folder.name}: {error.filename}: {error.strerror}")
    return findings


async def verify_tenant(folder: Path, findings: Findings) -> None:
    """Check one tenant's folder."""
    if wrong := unfit(folder):
        findings.add(f"tenant {folder.name}: {wrong}")
        return
    path = folder / "tenant.db"
    if not path.exists():
        findings.add(f"tenant {folder.name}: its file tenant.db is missing")
        return
    if not path.stat().st_size:
        findings.add(f"tenant {folder.name}: its file tenant.db is empty")
        return
    for told in (_shortage(path), await asyncio.to_thread(damage, _log_of(path)), _lost(folder)):
        if told:
            findings.add(f"tenant {folder.name}: {told}")
    files = await asyncio.to_thread(owners, folder)
    try:
        async with _current(path) as reader:
            tenant = _Tenant(folder.name, reader, findings)
            await tenant.verify()
            async for text in ownerless(reader, folder, files):
                tenant.problem(text)
    except StorageError as error:
        findings.add(f"tenant {folder.name}: {error}")
    await _verify_artifacts(folder, files, findings)


async def _verify_artifacts(folder: Path, files: Owners, findings: Findings) -> None:
    """The files' own bytes: no snapshot is open meanwhile, as there may be terabytes."""
    for kind, names in files.items():
        for name in names:
            place = folder / "artifacts" / kind / name
            found = await asyncio.to_thread(check_seals, place)
            findings.artifacts += found.files
            findings.unsealed += found.unsealed
            for path, wrong in found.broken:
                where = f"tenant {folder.name}, {kind[:-1]} {name}, artifact {path}"
                findings.add(f"{where}: {wrong}")


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _lost(folder: Path) -> str:
    aside = folder / SET_ASIDE
    return f"commits were lost with a damaged log, which is kept as {SET_ASIDE}" * aside.exists()


def _shortage(path: Path) -> str:
    """What a file's own header says against its length; nothing while a WAL has newer pages."""
    wal = _log_of(path)
    if wal.exists() and wal.stat().st_size:
        return ""
    with path.open("rb") as file:
        head = file.read(32)
    page = int.from_bytes(head[16:18]) or 1
    stated = int.from_bytes(head[28:32]) * (65_536 if page == 1 else page)
    size = path.stat().st_size
    return "" if size == stated else f"the file has {size} bytes, its header says {stated}"


@asynccontextmanager
async def _current(path: Path) -> AsyncIterator[Reader]:
    """A snapshot in the tables of this version: those of an older one are migrated in a copy."""
    async with read_only(path) as reader:
        version = (await reader.fetch("pragma user_version"))[0][0]
        if version > migrations.VERSION:
            raise Unsupported(migrations.too_new(version, path))
        if version == migrations.VERSION:
            yield reader
            return
    with tempfile.TemporaryDirectory(prefix="stepwell-verify-") as scratch:
        copy = Path(scratch) / "tenant.db"
        await asyncio.to_thread(copy_database, path, copy)
        database = await Sqlite.open(copy)
        try:
            async with database.snapshot(timeout_s=86_400) as reader:
                yield reader
        finally:
            await database.close()


class _Tenant:
    def __init__(self, name: str, reader: Reader, findings: Findings) -> None:
        self._name = name
        self._reader = reader
        self._findings = findings

    def problem(self, text: str, **place: object) -> None:
        where = "".join(f", {name} {value}" for name, value in place.items())
        self._findings.add(f"tenant {self._name}{where}: {text}")

    async def verify(self) -> None:
        try:
            for (line,) in await self._reader.fetch("pragma integrity_check(20)"):
                if line != "ok":
                    self.problem(f"the file is damaged: {line}")
        except StorageError as error:
            self.problem(f"the file is damaged: {error}")
        for find in (changed, broken, unreadable):
            async for text in find(self._reader):
                self.problem(text)
        counted = await Counted.read(self._reader)
        last = -1
        while runs := await self._reader.fetch(sql.all_runs, (last, RUNS_PER_READ)):
            for number, run_id in runs:
                if number <= last:  # a page that is none: it would go round for ever
                    self.problem("the file is damaged: its runs are out of order")
                    return
                last = number
                try:
                    with contradictions():
                        await self._verify_run(number, run_id, counted)
                except StorageError as error:
                    self.problem(str(error), run=run_id)
                self._findings.runs += 1
                self._findings.step(self._findings)

    async def _verify_run(self, run: int, run_id: str, counted: Counted) -> None:
        rows = await self._journal(run, run_id)
        stats = {row[0]: row[1:] for row in await self._reader.fetch(sql.all_series, (run,))}
        chunks: dict[int, list[int]] = {}
        for key, number in await self._reader.fetch(sql.all_chunks, (run,)):
            chunks.setdefault(key, []).append(number)
        keys = {*stats, *chunks}
        for number, row in rows:
            keys |= {key for key in row.keys.tolist() if number <= counted.of(place(key, run))}
        names = dict(await self._reader.fetch(sql.names_of_run, (run,)))
        for key in sorted(keys):
            where = {"run": run_id, "series": names.get(key, f"number {key}")}
            parts = await self._chunks(chunks.get(key, []), where)
            stored = sum(len(part) for part in parts)
            upto = counted.of(place(key, run))
            for number, row in rows:
                tail = row.of(key) if number <= upto else None
                if tail is not None:
                    parts.append(tail)
                    stored += len(tail)
            points = merge(parts)
            self._findings.series += 1
            self._findings.points += len(points)
            if key not in stats:
                self.problem("it has points and no statistics", **where)
            elif not len(points):
                self.problem("it has statistics and no points", **where)
            else:
                self._compare(stats[key], points, stored, where)
        await self._params(run, run_id)
        await self._console(run, run_id)

    async def _journal(self, run: int, run_id: str) -> list[tuple[int, Journaled]]:
        """The run's journal rows.  Those that are not counted are when the server starts."""
        rows = []
        statement = in_list(sql.journal_rows, 1)
        for _, number, points, payload in await self._reader.fetch(statement, (run, 2**63 - 1)):
            place = {"run": run_id, "journal row": number}
            try:
                row = decode_row(payload)
            except Corrupt as error:
                self.problem(error.reason, **place)
                continue
            if len(row.steps) != points:
                self.problem("a wrong number of points", **place)
            rows.append((number, row))
        return rows

    async def _params(self, run: int, run_id: str) -> None:
        for key, value, number in await self._reader.fetch(sql.all_params, (run,)):
            if number != parameter_number(value):
                place = {"run": run_id, "parameter with the key number": key}
                self.problem(f"its number is {number}, its text says otherwise", **place)

    async def _console(self, run: int, run_id: str) -> None:
        position = 0
        while rows := await self._reader.fetch(sql.console_from, (run, position, BLOCKS_PER_READ)):
            for first, count, payload in rows:
                place = {"run": run_id, "console line": first}
                if first != position:
                    self.problem(f"lines from {position} on are missing", **place)
                try:
                    if len(console.unpack(payload)) != count:
                        self.problem("a wrong number of lines", **place)
                except Corrupt as error:
                    self.problem(error.reason, **place)
                position = first + count

    async def _chunks(self, numbers: list[int], place: dict[str, object]) -> list[Points]:
        parts = []
        for number in numbers:
            here = {**place, "chunk": number}
            rows = await self._reader.fetch(sql.whole_chunk, (number,))
            if not rows:  # what lists the chunks is an index, which may be damaged by itself
                self.problem("it is listed and not there", **here)
                continue
            count, *ends, summary, data = rows[0]
            try:
                points = decode_chunk(data)
            except Corrupt as error:
                self.problem(error.reason, **here)
                continue
            parts.append(points)
            if count != len(points):
                self.problem(f"{len(points)} points where {count} are stated", **here)
            if (Position(*ends[:3]), Position(*ends[3:])) != (
                points.position(0),
                points.position(-1),
            ):
                self.problem("its range is not that of its points", **here)
            try:
                if decode_summary(summary) != summarise(points):
                    self.problem("its summary is not that of its points", **here)
            except Corrupt as error:
                self.problem(error.reason, **here)
        return parts

    def _compare(
        self, row: tuple[int | None, ...], points: Points, stored: int, place: dict[str, object]
    ) -> None:
        count, late, *rest = row
        assert count is not None
        if count != len(points) and (not late or count < len(points)):
            self.problem(f"its count is {count}, its points are {len(points)}", **place)
        if not late and stored != len(points):
            self.problem("points are stored twice and its count is said to be exact", **place)
        expected: list[int | None] = [*points.position(0), *points.position(-1), *_extremes(points)]
        names = ("first step", "first timestamp", "first", "last step", "last timestamp", "last",
                 "lowest", "step of the lowest", "highest", "step of the highest")  # fmt: skip
        for name, said, derived in zip(names, rest, expected, strict=True):
            if said != derived:
                self.problem(f"its {name} is {said}, its points say {derived}", **place)


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
