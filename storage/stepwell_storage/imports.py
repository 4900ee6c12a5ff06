"""Runs that were logged elsewhere, written whole: with their own ids, times, end and lifecycle.

A run is written in one transaction together with a record of what it was (the ledger), so that an
import that was killed left whole runs and nothing of the others, and one that is run again knows
what it did.  A run too large for one transaction is marked unfinished until its last part.  The
points go through the journal as logged ones do.

What was deleted elsewhere is deleted here from now on: the time for which it is kept begins anew.

The ledger stands in ``meta``: ``imported run <id>`` is the fingerprint of the source's run, 0 while
unfinished, and so it is for models of both kinds; ``imported experiment <number> <name>`` is the
number that it has here; ``imported file of <run or model>/<path>`` is the beginning of its SHA-256,
0 while it is copied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from stepwell_storage import registry_imports
from stepwell_storage.catalog import experiment_of
from stepwell_storage.clock import now_ms
from stepwell_storage.committer import Job
from stepwell_storage.database import Reader, Transaction, in_list
from stepwell_storage.datasets import numbers_of
from stepwell_storage.errors import Conflict, StorageError
from stepwell_storage.journal import LogJob
from stepwell_storage.models import metric_row
from stepwell_storage.names import pages
from stepwell_storage.points import Points
from stepwell_storage.records import (
    Batch,
    Dataset,
    DatasetUse,
    Experiment,
    Model,
    ModelVersion,
    RegisteredModel,
    Run,
)
from stepwell_storage.runs import RunState
from stepwell_storage.statements import sql
from stepwell_storage.writer import Append, Writer

Submit = Callable[[Job], Awaitable[Any]]
Read = Callable[..., AbstractAsyncContextManager[Reader]]

ROW_POINTS: Final = 65_536
UNFINISHED: Final = 0
RUN: Final = "run"
LOGGED_MODEL: Final = "logged model"
REGISTERED_MODEL: Final = "registered model"


@dataclass(slots=True)
class Imported:
    """A run, or a part of one: ``points`` are pieces of series, each in any order.

    ``run.experiment_number`` is the one that it goes to here.  ``fingerprint`` is what the ledger
    will say: UNFINISHED while there are further parts.
    """

    run: Run
    fingerprint: int
    points: list[tuple[str, Points]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Of the queue's bound, in bytes."""
        return 2_048 + 24 * sum(len(points) for _, points in self.points)


class Imports:
    """Of one tenant."""

    def __init__(self, submit: Submit, read: Read, writer: Writer) -> None:
        self._submit = submit
        self._read = read
        self._writer = writer

    async def ledger(self, kind: str, names: Sequence[str]) -> dict[str, int]:
        """What was said of those that were imported: of runs, or models of either kind."""
        found = await self._meta([_said(kind, name) for name in names])
        return {name.removeprefix(_said(kind, "")): value for name, value in found.items()}

    async def existing(self, run_ids: Sequence[str]) -> set[str]:
        """Those of the runs that are here."""
        found: set[str] = set()
        async with self._read(settled=False) as reader:
            for some in pages(run_ids):
                rows = await reader.fetch(in_list(sql.runs_by_ids, len(some)), some)
                found.update(row[0] for row in rows)
        return found

    async def purged(self, run_ids: Sequence[str]) -> set[str]:
        """Those of the runs that were here and were deleted for good."""
        found: set[str] = set()
        if self._writer.catalog.any_purged:
            async with self._read(settled=False) as reader:
                for some in pages(run_ids):
                    rows = await reader.fetch(in_list(sql.purged, len(some)), some)
                    found.update(run_id for (run_id,) in rows)
        return found

    async def place_of(self, number: int, name: str) -> tuple[int, int | None] | None:
        """Where an experiment of a source went, if it was imported, and what it was then.

        The second is None where its runs went to one that was here already, and stayed as it was.
        """
        place, described = _place(number, name), _description(number, name)
        found = await self._meta([place, described])
        return (found[place], found.get(described)) if place in found else None

    async def noted_file(self, owner: str, path: str) -> int | None:
        """What was noted of a file of a run's or model's."""
        name = _file(owner, path)
        return (await self._meta([name])).get(name)

    async def note_file(self, owner: str, path: str, said: int) -> None:
        """Remember what was copied, or 0: that it is about to be."""
        row = (_file(owner, path), said)
        await self._submit(Append(lambda tx: tx.execute(sql.set_meta, row)))

    async def _meta(self, names: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        async with self._read(settled=False) as reader:
            for some in pages(names):
                found.update(await reader.fetch(in_list(sql.metas, len(some)), some))
        return found

    async def experiment(
        self, source: Experiment, number: int, fingerprint: int, *, fresh: bool
    ) -> None:
        """Make an experiment with this number, or describe the one that has it anew.

        Raises Conflict where the number or the name is another one's.
        """

        async def work(tx: Transaction) -> None:
            await self._describe(tx, source, number, fresh=fresh)
            await tx.execute(sql.set_meta, (_place(source.number, source.name), number))
            row = (_description(source.number, source.name), fingerprint)
            await tx.execute(sql.set_meta, row)

        await self._submit(Append(work))

    async def keep_files_here(self, here: Experiment) -> None:
        """The files of an experiment that was imported came here, and are not elsewhere now."""
        moved = replace(here, artifact_location=None)
        await self._submit(Append(lambda tx: self._describe(tx, moved, here.number, fresh=False)))

    async def map_experiment(self, source: Experiment, number: int) -> None:
        """Remember that an experiment of the source goes to one that is here, as it is."""

        async def work(tx: Transaction) -> None:
            await tx.execute(sql.set_meta, (_place(source.number, source.name), number))

        await self._submit(Append(work))

    async def _describe(
        self, tx: Transaction, source: Experiment, number: int, *, fresh: bool
    ) -> None:
        named = await tx.fetch(sql.experiment_by_name, (source.name,))
        there = await tx.fetch(sql.experiment_by_number, (number,))
        if (named and named[0][0] != number) or (there and fresh) or not (there or fresh):
            raise Conflict(f"experiment {number}, or the name {source.name!r}, is another one's")
        row = (source.name, source.description, source.lifecycle, source.created_at,
               source.updated_at, source.artifact_location, number)  # fmt: skip
        if fresh:
            await tx.execute(sql.import_experiment, (*row, source.experiment_id))
        else:
            await tx.execute(sql.describe_experiment, row)
            self._writer.catalog.forget(experiment_of(there[0]))
        tags = [(number, name, value) for name, value in sorted(source.tags.items())]
        await tx.execute(sql.clear_experiment_tags, (number,))
        await tx.executemany(sql.set_experiment_tag, tags)

    # --- runs ----------------------------------------------------------------------------------

    async def create(self, imported: Sequence[Imported]) -> None:
        """Write runs that are new, in one transaction.  Raises Conflict where one is not."""

        async def work(tx: Transaction) -> None:
            ids = [one.run.run_id for one in imported]
            for some in pages(ids):
                if rows := await tx.fetch(in_list(sql.runs_by_ids, len(some)), some):
                    raise Conflict(f"there is a run {rows[0][0]} already", existing=rows[0][0])
            numbers = await self._writer.catalog.run_ids.take(tx, len(imported))
            rows = [_row(one, number) for number, one in zip(numbers, imported, strict=True)]
            await tx.executemany(sql.import_run, rows)
            states = []
            for number, one in zip(numbers, imported, strict=True):
                state = RunState(number, one.run.run_id, one.run.experiment_number)
                state.keys = set()
                states.append(state)
            await self._fill(tx, imported, states)

        await self._submit(Append(work, sum(one.size for one in imported)))

    async def extend(self, imported: Imported) -> None:
        """Bring a run that was imported up to the source's: what it has more, and what changed.

        Points, parameters and links are added, never taken away.  Raises Conflict, with nothing
        written, where a parameter has another value here.
        """

        async def work(tx: Transaction) -> None:
            run = imported.run
            rows = await tx.fetch(in_list(sql.runs_by_ids, 1), (run.run_id,))
            if not rows:
                raise Conflict(f"run {run.run_id} is gone")
            number = rows[0][1]
            await self._refuse_changed_params(tx, run, number)
            state = RunState(number, run.run_id, run.experiment_number)
            await tx.execute(sql.reimport_run, (*_row(imported, number)[3:], number))
            tags = await tx.fetch(sql.tags_of_run, (number,))
            gone = [(key, number) for key, name in tags if name not in run.tags]
            await tx.executemany(sql.delete_tag, gone)
            await self._fill(tx, [imported], [state])

        await self._submit(Append(work, imported.size))

    async def _refuse_changed_params(self, tx: Transaction, run: Run, number: int) -> None:
        await self._writer.names.learn(tx, run.params)
        known = self._writer.names.known
        wanted = {known[name]: (name, value) for name, value in run.params.items()}
        for _, key, value in await tx.fetch(in_list(sql.params_of, 1), (number,)):
            name, new = wanted.get(key, ("", value))
            if new != value:
                raise Conflict(f"parameter {name!r} is {value!r} here and {new!r} in the source")

    async def _fill(
        self, tx: Transaction, imported: Sequence[Imported], states: Sequence[RunState]
    ) -> None:
        """Everything of the runs beside their rows, and the ledger's."""
        pairs = zip(imported, states, strict=True)
        jobs = [job for one, state in pairs for job in _jobs(one, state)]
        await self._writer.log(tx, jobs)
        for job in jobs:
            if job.error is not None:  # of another kind than what one job may fail by: roll back
                raise StorageError(str(job.error)) from job.error
        await _link(tx, imported, states)
        ledger = [(_said(RUN, one.run.run_id), one.fingerprint) for one in imported]
        await tx.executemany(sql.set_meta, ledger)
        self._writer.after_commit(lambda: self._remember(imported))

    def _remember(self, imported: Sequence[Imported]) -> None:
        """What is cached of runs that were here before."""
        runs = self._writer.runs
        runs.changed()
        for one in imported:
            if known := runs.get(one.run.run_id):
                known.deleted = one.run.lifecycle == "deleted"

    # --- models --------------------------------------------------------------------------------

    async def models(self, models: Sequence[tuple[Model, bool, int]]) -> None:
        """Logged models, whether each is deleted, and what the ledger will say of it.

        One that is here becomes as the source's; parameters and metrics are only added.
        """

        async def work(tx: Transaction) -> None:
            known: dict[str, int] = {}
            for some in pages([model.model_id for model, _, _ in models]):
                known.update(await tx.fetch(in_list(sql.models_by_ids, len(some)), some))
            number = (await tx.fetch(sql.next_model))[0][0]
            for model, deleted, said in models:
                state = _state(model, deleted=deleted)
                here = known.get(model.model_id)
                if here is None:
                    here, number = number, number + 1
                    row = (here, model.model_id, model.experiment_number, model.name,
                           model.model_type, model.source_run_id)  # fmt: skip
                    await tx.execute(sql.import_model, (*row, *state))
                else:
                    await tx.execute(sql.reimport_model, (*state, here))
                await _fill_model(tx, here, model)
                await tx.execute(sql.set_meta, (_said(LOGGED_MODEL, model.model_id), said))

        await self._submit(Append(work, 4_096 * len(models)))

    async def registered(
        self, model: RegisteredModel, versions: Sequence[ModelVersion], said: int
    ) -> None:
        """A registered model with all of its versions; one that is here becomes as it."""

        async def work(tx: Transaction) -> None:
            await registry_imports.write(tx, model, versions)
            await tx.execute(sql.set_meta, (_said(REGISTERED_MODEL, model.name), said))

        await self._submit(Append(work, 1_024 * len(versions)))


def _said(kind: str, name: str) -> str:
    return f"imported {kind} {name}"


def _place(number: int, name: str) -> str:
    return f"imported experiment {number} {name}"


def _file(owner: str, path: str) -> str:
    return f"imported file of {owner}/{path}"


def _description(number: int, name: str) -> str:
    return f"described experiment {number} {name}"


def _row(one: Imported, number: int) -> tuple[Any, ...]:
    """The columns of ``import_run``; those of ``reimport_run`` begin with the fourth."""
    run = one.run
    heard = run.heartbeat_at
    return (number, run.run_id, run.experiment_number, run.name, run.description, run.user_id,
            run.parent_run_id, run.status, run.start_time, run.end_time, heard, run.lifecycle,
            _deleted_at(run.lifecycle == "deleted"))  # fmt: skip


class _Packer:
    """Packs pieces of series into batches of at most ``ROW_POINTS`` points: a journal row each."""

    def __init__(self, run: Run) -> None:
        self.batches = [Batch(params=dict(run.params), tags=dict(run.tags))]
        self._held: list[Points] = []

    def add(self, key: str, points: Points) -> None:
        for start in range(0, len(points), ROW_POINTS):
            piece = points[start : start + ROW_POINTS]
            if sum(map(len, self._held)) + len(piece) > ROW_POINTS:
                self.close()
                self.batches.append(Batch())
            self._held.append(piece)
            self.batches[-1].keys.append(key)
            self.batches[-1].counts.append(len(piece))

    def close(self) -> None:
        batch, whole = self.batches[-1], Points.concat(self._held)
        batch.steps, batch.timestamps = whole.steps.tobytes(), whole.timestamps.tobytes()
        batch.values = whole.values.tobytes()
        self._held = []


def _jobs(one: Imported, state: RunState) -> list[LogJob]:
    """The first brings the parameters and tags."""
    packer = _Packer(one.run)
    for key, points in one.points:
        packer.add(key, points)
    packer.close()
    return [LogJob(state, batch, one.run.heartbeat_at) for batch in packer.batches]


async def _link(tx: Transaction, imported: Sequence[Imported], states: Sequence[RunState]) -> None:
    """The datasets and models of the runs, by a few statements for all of them."""
    used: dict[int, list[DatasetUse]] = {}
    for one in imported:
        if one.run.datasets:
            used.setdefault(one.run.experiment_number, []).extend(one.run.datasets)
    numbers = {number: await numbers_of(tx, number, uses) for number, uses in used.items()}
    links, tags, models = [], [], []
    for one, state in zip(imported, states, strict=True):
        for use in one.run.datasets:
            dataset = numbers[one.run.experiment_number][_known_by(use.dataset)]
            links.append((state.id, dataset))
            tags += [(state.id, dataset, name, value) for name, value in use.tags.items()]
        models += [(state.id, *use) for use in one.run.models]
    await tx.executemany(sql.use_dataset, links)
    await tx.executemany(sql.set_dataset_use_tag, tags)
    await tx.executemany(sql.use_model, models)


def _known_by(dataset: Dataset) -> tuple[str, str]:
    return dataset.name, dataset.digest


def _deleted_at(deleted: bool) -> int | None:
    return now_ms() if deleted else None


def _state(model: Model, *, deleted: bool) -> tuple[str | int | None, ...]:
    """The columns that ``import_model`` and ``reimport_model`` share."""
    return (
        model.status,
        model.status_message,
        model.created_at,
        model.updated_at,
        _deleted_at(deleted),
    )


async def _fill_model(tx: Transaction, number: int, model: Model) -> None:
    """Its parameters that are not here yet, its tags in the place of those here, its metrics."""
    known = dict(await tx.fetch(sql.model_params_of, (number,)))
    new = sorted(model.params.items())
    params = [(number, name, value) for name, value in new if name not in known]
    await tx.executemany(sql.insert_model_param, params)
    tags = [(number, name, value) for name, value in sorted(model.tags.items())]
    await tx.execute(sql.clear_model_tags, (number,))
    await tx.executemany(sql.set_model_tag, tags)
    await tx.executemany(sql.insert_model_metric, [metric_row(number, m) for m in model.metrics])
