"""Deletion for good: of runs, of experiments with their runs, and of models.

What is purged goes out of sight in one small transaction: the run's row makes way for a row of
``purged``, which keeps its id from ever being used again and says that rows of it are left.  Those
are removed after that, and by the committer like every write: a slice of bounded size for each
transaction, so that no other write waits for longer than one slice takes.  Each slice stands for
itself; whatever interrupts the work, ``purged`` and ``purging`` say what is left of it.

The journal goes before the chunks: compaction that is under way finds its rows gone and forgets
what it built.  Artifacts go before the last row, so that no file is left without an owner.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stepwell_storage.artifacts import Artifacts
from stepwell_storage.catalog import DEFAULT_NUMBER, experiment_of
from stepwell_storage.clock import now_ms
from stepwell_storage.database import Reader, Transaction, in_list
from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.records import ExperimentChange
from stepwell_storage.statements import sql
from stepwell_storage.writer import Writer

logger = logging.getLogger(__name__)

MARKER: Final = "purging"
"""A file in the tenant's folder while there is work: who starts need not open it to know."""
SLICE_BYTES: Final = 1024 * 1024
SLICE_ROWS: Final = 500
SLICE_RUNS: Final = 100

Change = Callable[[Callable[[Transaction], Awaitable[Any]]], Awaitable[Any]]
Read = Callable[..., AbstractAsyncContextManager[Reader]]
# What a run has, in the order in which it goes: rows with blobs (how large are they; delete these),
# then rows of a few bytes, then those of which a run has few.
_BLOBS: Final = (
    (sql.journal_lengths, (sql.purge_journal, sql.unlist_journal)),
    (sql.chunk_lengths, (sql.purge_chunks,)),
    (sql.console_lengths, (sql.purge_console,)),
)
_ROWS: Final = (sql.purge_series, sql.purge_params, sql.purge_tags)
_LINKS: Final = (
    sql.purge_journal_list,
    sql.purge_writers,
    sql.purge_dataset_use_tags,
    sql.purge_datasets,
    sql.purge_dataset_uses,
    sql.purge_model_uses,
)


@dataclass(slots=True)
class Expired:
    """How much a call of :meth:`Purges.expired` purged."""

    runs: int = 0
    experiments: int = 0
    models: int = 0


class Purges:
    """Of one tenant.  Every call may be made again, and goes on where it was interrupted."""

    def __init__(
        self,
        change: Change,
        read: Read,
        writer: Writer,
        artifacts: Artifacts,
        folder: Path | None,
    ) -> None:
        self._change = change
        self._read = read
        self._writer = writer
        self._artifacts = artifacts
        self._folder = folder
        self.pending = False
        """Whether rows of something purged may be left: :meth:`dispose` has work."""

    async def load(self) -> None:
        """Find out what an earlier process left to be done."""
        async with self._read(settled=False) as reader:
            runs = await reader.fetch(sql.next_purged_run)
            experiments = await reader.fetch(sql.next_purging)
        if runs or experiments:
            self._begin()
        else:
            self._end()

    # --- out of sight --------------------------------------------------------------------------

    async def run(self, run_id: str) -> None:
        """Delete a run for good.  On return it is out of sight, and its id is used up.

        Raises NotFound.
        """

        async def work(tx: Transaction) -> None:
            rows = await tx.fetch(in_list(sql.runs_by_ids, 1), (run_id,))
            if not rows:
                raise NotFound(f"there is no run {run_id}")
            await self._bury(tx, [(run_id, rows[0][1])])

        await self._change(work)

    async def experiment(self, experiment_id: str) -> None:
        """Delete an experiment for good with all its runs, datasets and models.

        On return all of them are out of sight, and the name may be used again.  Raises NotFound,
        and Conflict for ``Default``, which every tenant has.
        """
        number = await self._change(lambda tx: self._condemn(tx, experiment_id))
        while await self._empty(number):
            pass

    async def expired(self, before_ms: int) -> Expired:
        """Purge what was deleted before a time (ms since the epoch) and not restored since."""
        found = Expired()
        async with self._read(settled=False) as reader:
            experiments = await reader.fetch(sql.expired_experiments, (before_ms, before_ms))
        for (experiment_id,) in experiments:
            try:
                await self.experiment(experiment_id)
            except NotFound:  # somebody else was faster
                continue
            found.experiments += 1
        while runs := await self._change(lambda tx: self._expire_runs(tx, before_ms)):
            found.runs += runs
        async with self._read(settled=False) as reader:
            models = await reader.fetch(sql.expired_models, (before_ms,))
        for number, model_id in models:
            await self._drop_model(number, model_id)
            found.models += 1
        return found

    async def _expire_runs(self, tx: Transaction, before_ms: int) -> int:
        rows = await tx.fetch(sql.expired_runs, (before_ms, SLICE_RUNS))
        await self._bury(tx, rows)
        return len(rows)

    async def _bury(self, tx: Transaction, runs: list[tuple[str, int]]) -> None:
        """Rows of ``purged`` in the place of runs (id, number)."""
        now = now_ms()
        await tx.executemany(sql.insert_purged, [(*run, now) for run in runs])
        await tx.executemany(sql.delete_run_row, [(number,) for _, number in runs])
        self._writer.catalog.any_purged = True  # for a creation that waits behind this already
        self._writer.after_commit(lambda: self._buried(runs))

    def _buried(self, runs: list[tuple[str, int]]) -> None:
        """From now on nothing is written into these any more.

        What the same group wrote behind this went in nevertheless; it is removed with the rest.
        """
        self._begin()
        for run_id, number in runs:
            self._writer.runs.drop(run_id)
            self._writer.backlog.forget(number)
            self._writer.events.publish(run_id, "deleted", {})

    async def _condemn(self, tx: Transaction, experiment_id: str) -> int:
        rows = await tx.fetch(sql.experiment_by_id, (experiment_id,))
        if not rows:
            raise NotFound(f"there is no experiment {experiment_id}")
        number: int = rows[0][0]
        if await tx.fetch(sql.is_purging, (number,)):
            return number
        if number == DEFAULT_NUMBER:
            raise Conflict("every tenant has the experiment Default: purge its runs instead")
        change = ExperimentChange(lifecycle="deleted")
        await self._writer.catalog.change_experiment(tx, experiment_id, change)
        await tx.execute(sql.insert_purging, (number,))
        self._writer.after_commit(self._begin)
        return number

    def _begin(self) -> None:
        self.pending = True
        if self._folder is not None:
            with _unmarked():
                (self._folder / MARKER).touch(mode=0o600)

    def _end(self) -> None:
        self.pending = False
        if self._folder is not None:
            with _unmarked():
                (self._folder / MARKER).unlink(missing_ok=True)

    # --- what is left --------------------------------------------------------------------------

    async def dispose(self) -> bool:
        """Remove one slice of what is purged; whether there is more."""
        async with self._read(settled=False) as reader:
            condemned = await reader.fetch(sql.next_purging)
            buried = await reader.fetch(sql.next_purged_run)
        if condemned:
            await self._empty(condemned[0][0])
        elif buried:
            await self._remove(*buried[0])
        else:
            self._end()
        return self.pending

    async def _empty(self, experiment: int) -> bool:
        """Take some runs or models out of an experiment, the last time itself; more to do?"""
        async with self._read(settled=False) as reader:
            models = await reader.fetch(sql.some_models, (experiment, SLICE_RUNS))
        for number, model_id in models:
            await self._drop_model(number, model_id)
        more: bool = await self._change(lambda tx: self._empty_slice(tx, experiment))
        return more

    async def _empty_slice(self, tx: Transaction, experiment: int) -> bool:
        runs = await tx.fetch(sql.some_runs, (experiment, SLICE_RUNS))
        if runs:
            await self._bury(tx, runs)
            return True
        rows = await tx.fetch(sql.experiment_by_number, (experiment,))
        await tx.execute(sql.purge_experiment_tags, (experiment,))
        await tx.execute(sql.purge_experiment_datasets, (experiment,))
        await tx.execute(sql.purge_experiment, (experiment,))
        await tx.execute(sql.keep_experiment_number, ("purged_experiment", experiment))
        await tx.execute(sql.delete_purging, (experiment,))
        for row in rows:
            self._writer.catalog.forget(experiment_of(row))
        return False

    async def _drop_model(self, number: int, model_id: str) -> None:
        await self._artifacts.of_model(model_id).delete_all()

        async def work(tx: Transaction) -> None:
            for statement in (sql.purge_model_params, sql.purge_model_tags, sql.purge_model_metrics,
                              sql.purge_model):  # fmt: skip
                await tx.execute(statement, (number,))

        await self._change(work)

    async def _remove(self, run_id: str, run: int) -> None:
        """One slice of a run that is out of sight; at its end its files and what says so."""
        if await self._change(lambda tx: _remove_slice(tx, run)):
            return
        await self._writer.settle(self._change)  # what was logged last; nothing comes after that
        if await self._change(lambda tx: _remove_slice(tx, run)):
            return
        await self._artifacts.of_run(run_id).delete_all()
        await self._change(lambda tx: tx.execute(sql.finish_purged, (run,)))
        self._writer.backlog.forget(run)


@contextlib.contextmanager
def _unmarked() -> Iterator[None]:
    """The marker is a hint: a disk that refuses a name refuses no purge, whose record is in the
    tables.  Without it the rest waits until the tenant is used, with it a start looks in vain."""
    try:
        yield
    except OSError as error:
        logger.warning("the marker of a purge: %s", error)


async def _remove_slice(tx: Transaction, run: int) -> bool:
    """Whether anything was there to be removed."""
    for lengths, deletes in _BLOBS:
        if numbers := _slice(await tx.fetch(lengths, (run, SLICE_ROWS))):
            for statement in deletes:
                await tx.execute(in_list(statement, len(numbers)), (run, *numbers))
            return True
    for statement in _ROWS:
        if await tx.execute(statement, (run, SLICE_ROWS)):
            return True
    for statement in _LINKS:
        await tx.execute(statement, (run,) * statement.count("?"))
    return False


def _slice(rows: list[tuple[int, int]]) -> list[int]:
    """The first of some (number, bytes), up to the bound of a slice; at least one if any."""
    numbers: list[int] = []
    total = 0
    for number, size in rows:
        if numbers and total + size > SLICE_BYTES:
            break
        numbers.append(number)
        total += size
    return numbers
