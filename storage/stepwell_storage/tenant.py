"""One tenant: its database, its committer, its artifacts, its events.  What callers talk to."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from stepwell_storage import console, experiments, search, series as reading, sweeps
from stepwell_storage.artifacts import Artifacts
from stepwell_storage.catalog import CreateRun
from stepwell_storage.clock import now_ms
from stepwell_storage.committer import Committer, Gauge, Job
from stepwell_storage.database import Database, Reader, Transaction, in_list
from stepwell_storage.datasets import Datasets
from stepwell_storage.errors import (
    Conflict,
    Corrupt,
    Full,
    NotFound,
    Purged,
    StorageError,
    Unreadable,
    contradictions,
)
from stepwell_storage.events import Events
from stepwell_storage.folders import disk_errors
from stepwell_storage.imports import Imports
from stepwell_storage.journal import LogJob
from stepwell_storage.models import Models
from stepwell_storage.points import Points
from stepwell_storage.presence import refuse_unfit
from stepwell_storage.purges import Purges
from stepwell_storage.records import (
    Ack,
    Batch,
    ConsoleLine,
    ConsolePage,
    Experiment,
    ExperimentChange,
    ExperimentPage,
    ListQuery,
    NewRun,
    Run,
    RunChange,
    RunPage,
    RunQuery,
    SeriesPage,
)
from stepwell_storage.registry import Registry
from stepwell_storage.runs import RunState
from stepwell_storage.sealed import Sealed
from stepwell_storage.shared import Shared, Steps
from stepwell_storage.sqlite import SMALLEST, Sqlite
from stepwell_storage.statements import sql
from stepwell_storage.wal import keep_damaged
from stepwell_storage.writer import Append, Change, Maintain, Stale, Writer

T = TypeVar("T")


class Tenant:
    """Made by :meth:`open`; every method may be called by any number of tasks.

    What a call acknowledges is committed and synced, and seen by every later read.
    """

    def __init__(self, name: str, folder: Path | None, database: Database, writer: Writer) -> None:
        self.name = name
        self.folder = folder
        self.events = writer.events
        self.artifacts = Artifacts((folder or Path("/nonexistent")) / "artifacts")
        self.writer = writer
        self.tidy = True
        """Whether no compaction has freed pages since they were last given back."""
        self.read_at: float | None = None
        """When a read last began, by the monotonic clock; None where nothing is held for reads."""
        self._database = database
        self.datasets = Datasets(self._change, self._read)
        self.models = Models(self._change, self._read)
        self.registry = Registry(self._change, self._read)
        self.purges = Purges(self._change, self._read, writer, self.artifacts, folder)
        self.imports = Imports(self._submit, self._read, writer)
        self._committer: Committer | None = None

    @classmethod
    async def open(
        cls,
        name: str,
        folder: Path | None,
        *,
        gauge: Gauge,
        max_queue_bytes: int,
        max_journal_bytes: int,
    ) -> "Tenant":
        """Open the tenant in ``folder``, made as needed; None is an empty one in memory."""
        with disk_errors():
            if folder is not None:
                refuse_unfit(folder)
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                _refuse_lost(folder)
                await asyncio.to_thread(keep_damaged, folder / "tenant.db-wal")
            database = await Sqlite.open(folder / "tenant.db" if folder else None)
        writer = Writer(name, database, Events(), max_journal_bytes, gauge.meters)
        try:
            with contradictions(file=folder):
                await writer.recover()
            tenant = cls(name, folder, database, writer)
            if folder is not None:
                await tenant.purges.load()
        except BaseException:  # a second writer would be opened beside it
            await database.close()
            raise
        if folder is not None:
            tenant._committer = Committer(
                name,
                writer.apply,
                max_bytes=max_queue_bytes,
                gauge=gauge,
                pause=writer.backlog.pause_s,
            )
        return tenant

    async def close(self) -> None:
        """Commit what is queued, catch the statistics up, close the file."""
        self.events.close()
        if self._committer is not None:
            with contextlib.suppress(StorageError):  # the next one that opens it catches up
                await self.settle()
            await self._committer.close()
        await self._database.close()

    @property
    def committer(self) -> Committer:
        """Raises NotFound for the empty tenant, which would forget what it were told."""
        if self._committer is None:
            raise NotFound(f"there is no tenant {self.name}")
        return self._committer

    async def _submit(self, job: Job) -> Any:
        return await self.committer.submit(job)

    async def _change(self, work: Callable[[Transaction], Awaitable[T]], size: int = 256) -> T:
        result: T = await self._submit(Change(work, size))
        return result

    @contextlib.asynccontextmanager
    async def _read(self, *, settled: bool = True) -> AsyncIterator[Reader]:
        """A snapshot that holds everything acknowledged so far, statistics included."""
        if settled:
            with contextlib.suppress(Full, Unreadable):  # reads go on; they catch up afterwards
                await self.settle()
        self.read_at = time.monotonic()
        async with self._database.snapshot() as reader:
            with contradictions(tenant=self.name):
                yield reader

    @contextlib.asynccontextmanager
    async def whole(self, timeout_s: float = 86_400.0) -> AsyncIterator[Reader]:
        """A snapshot of everything acknowledged so far, for what reads a tenant whole.

        While it is held the WAL grows; it ends after ``timeout_s`` with Busy.
        """
        await self.settle()
        async with self._database.snapshot(timeout_s) as reader:
            yield reader

    async def settle(self) -> None:
        """Bring what is committed to where reads look for it, if it is not there yet."""
        await self.writer.settle(self._change)

    # --- experiments ---------------------------------------------------------------------------

    async def create_experiment(
        self,
        name: str,
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        artifact_location: str | None = None,
    ) -> Experiment:
        create = self.writer.catalog.create_experiment
        experiment_id = await self._change(
            lambda tx: create(tx, name, description, tags or {}, artifact_location)
        )
        return await self.experiment(experiment_id)

    async def experiment(self, experiment_id: str) -> Experiment:
        async with self._read(settled=False) as reader:
            return await experiments.find(reader, sql.experiment_by_id, experiment_id)

    async def experiment_by_name(self, name: str) -> Experiment:
        async with self._read(settled=False) as reader:
            return await experiments.find(reader, sql.experiment_by_name, name)

    async def experiment_by_number(self, number: int) -> Experiment:
        """Without its run count."""
        async with self._read(settled=False) as reader:
            found = await experiments.numbered(reader, [number])
        if not found:
            raise NotFound(f"there is no experiment {number}")
        return found[0]

    async def experiments(
        self,
        *,
        lifecycle: str = "active",
        limit: int = 50,
        offset: int = 0,
        cursor: str | None = None,
    ) -> ExperimentPage:
        async with self._read(settled=False) as reader:
            return await experiments.page(
                reader, lifecycle=lifecycle, limit=limit, offset=offset, cursor=cursor
            )

    async def search_experiments(self, query: ListQuery) -> tuple[list[Experiment], str | None]:
        """A page in the filter's language, with the next cursor.  Raises Invalid and BadCursor."""
        async with self._read(settled=False) as reader:
            return await experiments.search(reader, query)

    async def change_experiment(self, experiment_id: str, change: ExperimentChange) -> Experiment:
        work = self.writer.catalog.change_experiment
        await self._change(lambda tx: work(tx, experiment_id, change))
        return await self.experiment(experiment_id)

    # --- runs ----------------------------------------------------------------------------------

    async def _state(self, run_id: str) -> RunState:
        runs = self.writer.runs
        state = runs.get(run_id)
        attempts = 0
        while state is None and attempts < 10:
            attempts += 1
            version = runs.version
            async with self._read(settled=False) as reader:
                await runs.load(reader, [run_id])
            state = runs.get(run_id)
            if state is None and version == runs.version:
                break
        if state is None:
            await self._refuse_unknown(run_id)
        assert state is not None
        return state

    async def _states(self, run_ids: Sequence[str]) -> list[RunState]:
        """Those of many runs, of which the unknown are looked up together.  Raises NotFound."""
        runs = self.writer.runs
        if any(runs.get(run_id) is None for run_id in run_ids):
            async with self._read(settled=False) as reader:
                await runs.load(reader, run_ids)
        return [await self._state(run_id) for run_id in run_ids]

    async def _refuse_unknown(self, run_id: str) -> NoReturn:
        """Raises NotFound, or Purged where the run was deleted for good."""
        if self.writer.catalog.any_purged:
            async with self._read(settled=False) as reader:
                if await reader.fetch(in_list(sql.purged, 1), (run_id,)):
                    raise Purged(run_id)
        raise NotFound(f"there is no run {run_id}")

    async def require_run(self, run_id: str) -> None:
        """Raises NotFound where the run does not exist."""
        if self.writer.runs.get(run_id) is None:
            await self._state(run_id)

    async def experiment_of_run(self, run_id: str) -> int:
        """The number of a run's experiment.  Raises NotFound."""
        state = self.writer.runs.get(run_id) or await self._state(run_id)
        return state.experiment

    async def require_active(self, run_id: str) -> None:
        """Raises NotFound where the run does not exist, Conflict where it is deleted."""
        state = self.writer.runs.get(run_id) or await self._state(run_id)
        if state.deleted:
            raise Conflict(f"run {run_id} is deleted; restore it to log into it")

    async def create_run(self, new: NewRun) -> tuple[Run, bool]:
        """The run, and whether it is new: one whose id exists already is returned as it is."""
        job = CreateRun(new)
        created = await self._submit(job)
        if not created:
            return await self.run(new.run_id), False
        assert job.experiment is not None
        return experiments.just_created(new, job.experiment, now_ms()), True

    async def run(self, run_id: str, *, max_keys: int = 1_000, complete: bool = False) -> Run:
        """``complete``: every parameter, last points with their steps, datasets and models."""
        async with self._read() as reader:
            return await search.one(reader, run_id, max_keys=max_keys, complete=complete)

    async def change_run(self, run_id: str, change: RunChange) -> Run:
        work = self.writer.catalog.change_run
        await self._change(lambda tx: work(tx, run_id, change))
        return await self.run(run_id)

    async def revise_tag(self, run_id: str, key: str, revise: Callable[[str | None], str]) -> None:
        """Set a run's tag to what ``revise`` makes of its value (None: it is not set), at once."""
        work = self.writer.catalog.revise_tag
        await self._change(lambda tx: work(tx, run_id, key, revise))

    async def search(self, query: RunQuery) -> RunPage:
        async with self._read() as reader:
            return await search.find(reader, query)

    async def sweep(self, query: RunQuery) -> sweeps.Sweep:
        async with self._read() as reader:
            return await sweeps.find(reader, query)

    # --- logging -------------------------------------------------------------------------------

    async def log(self, run_id: str, batch: Batch) -> Ack:
        """Returns once the batch is on disk, whole; raises with nothing of it written."""
        state = self.writer.runs.get(run_id) or await self._state(run_id)
        ack: Ack = await self.committer.submit(LogJob(state, batch, now_ms()))
        return ack

    async def log_console(self, run_id: str, lines: Sequence[ConsoleLine]) -> int:
        state = await self._state(run_id)
        size = sum(len(line.text) for line in lines) + 64 * len(lines)
        count: int = await self._submit(Append(lambda tx: console.append(tx, state, lines), size))
        data: dict[str, object] = {"lines": count}
        self.events.publish(run_id, "console", data)
        return count

    # --- series --------------------------------------------------------------------------------

    async def series(
        self, run_id: str, *, prefix: str = "", cursor: str | None = None, limit: int = 1_000
    ) -> SeriesPage:
        state = await self._state(run_id)
        async with self._read() as reader:
            return await reading.page(reader, state.id, prefix=prefix, cursor=cursor, limit=limit)

    async def metric_keys(self, run_id: str) -> list[str]:
        state = await self._state(run_id)
        async with self._read() as reader:
            return await reading.keys(reader, state.id)

    async def history(
        self,
        run_id: str,
        key: str,
        *,
        start_step: int | None = None,
        end_step: int | None = None,
        cursor: str | None = None,
        limit: int = 10_000,
    ) -> reading.HistoryPage:
        state = await self._state(run_id)
        async with self._read(settled=False) as reader:
            shared = Shared(reader, [key])
            found = reading.Series(shared, state.id, key, reading.place(self.name, run_id, key))
            return await found.page(Steps.of(start_step, end_step), cursor, limit)

    async def points(
        self,
        run_id: str,
        key: str,
        *,
        start_step: int | None = None,
        end_step: int | None = None,
    ) -> Points:
        state = await self._state(run_id)
        async with self._read(settled=False) as reader:
            shared = Shared(reader, [key])
            found = reading.Series(shared, state.id, key, reading.place(self.name, run_id, key))
            return await found.points(Steps.of(start_step, end_step))

    async def charts(
        self, run_ids: Sequence[str], query: reading.ChartQuery
    ) -> list[reading.Chart]:
        """Every pair of a run and a key that has points."""
        states = await self._states(run_ids)
        read = partial(self._read, settled=False)
        return await reading.charts(read, self.name, states, query)

    async def console(
        self,
        run_id: str,
        *,
        cursor: str | None = None,
        tail: int | None = None,
        limit: int = 1_000,
    ) -> ConsolePage:
        state = await self._state(run_id)
        async with self._read(settled=False) as reader:
            return await console.page(reader, state.id, cursor=cursor, tail=tail, limit=limit)

    # --- the tenant itself ---------------------------------------------------------------------

    async def note(self, name: str) -> str | None:
        """Something that is known of the tenant in words: its ``description``."""
        async with self._read(settled=False) as reader:
            rows = await reader.fetch(sql.note, (name,))
            return rows[0][0] if rows else None

    async def set_note(self, name: str, value: str) -> None:
        await self._change(lambda tx: tx.execute(sql.set_note, (name, value)))

    async def is_empty(self) -> bool:
        """Whether it holds nothing but Default; what is deleted and not purged counts."""
        async with self._read(settled=False) as reader:
            return not any((await reader.fetch(sql.contents))[0])

    # --- compaction ----------------------------------------------------------------------------

    async def seal(self, sealed: Sealed) -> bool:
        """Put a unit's chunks in place; False when it no longer fits and was forgotten."""
        try:
            await self._change(lambda tx: self.writer.seal(tx, sealed), 4 * sealed.points)
        except Stale:
            return False
        return True

    async def rest(self) -> None:
        """Let go of what only reads need, as there were none for a while."""
        self.read_at = None
        await self._database.rest()

    async def maintain(self, *, gently: bool = False) -> bool:
        """Give some freed pages back to the file system; whether there are more."""
        more: bool = await self._submit(Maintain(gently=gently))
        return more


def _refuse_lost(folder: Path) -> None:
    """Make no new file where one was lost: whoever looks for it must hear of it.

    Raises Corrupt where files of the tenant are left that come only after its database.
    """
    path, size = folder / "tenant.db", 0
    with contextlib.suppress(FileNotFoundError):  # and nothing else: a disk may refuse to tell
        size = path.stat().st_size
    if size >= SMALLEST:
        return
    if size:  # SQLite would take it for an empty one
        raise Corrupt(f"the file ends after {size} bytes", file=path)
    for sign in ("artifacts/runs", "artifacts/models"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if any((folder / sign).iterdir()):
                raise Corrupt(f"the file is missing or empty, while {sign} is there", file=path)
