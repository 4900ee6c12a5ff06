"""What the committer writes of experiments and runs.

Every function runs inside the committer's transaction and checks before it writes, so that one
which raises leaves nothing behind.  What it learns is remembered by effects that run once the
transaction is committed.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

from stepwell_storage.clock import now_ms
from stepwell_storage.committer import Job
from stepwell_storage.database import Reader, Transaction, in_list
from stepwell_storage.errors import Conflict, NotFound, Purged
from stepwell_storage.events import Events
from stepwell_storage.journal import tag_rows
from stepwell_storage.labels import Labels
from stepwell_storage.names import Counter, Names
from stepwell_storage.records import (
    DEFAULT_EXPERIMENT,
    Experiment,
    ExperimentChange,
    NewRun,
    RunChange,
)
from stepwell_storage.runs import Runs, RunState
from stepwell_storage.statements import sql

DEFAULT_NUMBER = 0
ENDED = frozenset(("finished", "failed", "killed"))
_LIFE_EVENT = {"deleted": "deleted", "active": "restored"}


class CreateRun(Job):
    """A run to be made.  Resolves to whether it is new; ``experiment`` is where it went."""

    __slots__ = ("experiment", "new")

    def __init__(self, new: NewRun) -> None:
        super().__init__(1_024 + 64 * (len(new.params) + len(new.tags)))
        self.new = new
        self.experiment: Experiment | None = None


def default_experiment_id(tenant: str) -> str:
    """The same on every machine, so that an empty tenant answers with the id it will have."""
    digest = hashlib.sha256(f"stepwell/{tenant}/{DEFAULT_EXPERIMENT}".encode()).digest()
    number = int.from_bytes(digest[:16])
    number = number & ~(0xF << 76) | 0x8 << 76  # version 8 and variant 10 of RFC 9562,
    number = number & ~(0b11 << 62) | 0b10 << 62  # which uuid.UUID makes only from Python 3.14 on
    return str(uuid.UUID(int=number))


class Catalog:
    def __init__(
        self,
        names: Names,
        runs: Runs,
        labels: Labels,
        events: Events,
        after_commit: Callable[[Callable[[], None]], None],
    ) -> None:
        self._names = names
        self._runs = runs
        self._labels = labels
        self._events = events
        self._after_commit = after_commit
        self._by_name: dict[str, Experiment] = {}
        self._by_id: dict[str, Experiment] = {}
        self.run_ids = Counter("run")
        self.any_purged = False

    # --- experiments ---------------------------------------------------------------------------

    async def make_default(self, tx: Transaction, tenant: str) -> None:
        self.any_purged = bool(await tx.fetch(sql.any_purged))
        if not await tx.fetch(sql.experiment_by_number, (DEFAULT_NUMBER,)):
            await self._insert(tx, DEFAULT_EXPERIMENT, experiment_id=default_experiment_id(tenant))

    async def create_experiment(
        self,
        tx: Transaction,
        name: str,
        description: str,
        tags: Mapping[str, str],
        artifact_location: str | None,
    ) -> str:
        """The new experiment's id.  Raises Conflict, with the id of the one that has the name."""
        taken = await self._find(tx, sql.experiment_by_name, name)
        if taken:
            raise Conflict(
                f"an experiment named {name!r} exists already"
                + (", deleted" if taken.lifecycle == "deleted" else ""),
                existing=taken.experiment_id,
            )
        made = await self._insert(tx, name, description=description, location=artifact_location)
        rows = [(made.number, key, value) for key, value in sorted(tags.items())]
        await tx.executemany(sql.set_experiment_tag, rows)
        return made.experiment_id

    async def _insert(
        self,
        tx: Transaction,
        name: str,
        *,
        description: str = "",
        location: str | None = None,
        experiment_id: str | None = None,
    ) -> Experiment:
        number = (await tx.fetch(sql.next_experiment_number))[0][0]
        now = now_ms()
        experiment_id = experiment_id or str(uuid.uuid4())
        row = (number, experiment_id, name, description, now, now, location)
        await tx.execute(sql.insert_experiment, row)
        made = Experiment(experiment_id, number, name, description, "active", now, now)
        self._after_commit(lambda: self._remember(made))
        return made

    def _remember(self, experiment: Experiment) -> None:
        self._by_name[experiment.name] = experiment
        self._by_id[experiment.experiment_id] = experiment

    async def _find(self, reader: Reader, statement: str, what: str | int) -> Experiment | None:
        rows = await reader.fetch(statement, (what,))
        return experiment_of(rows[0]) if rows else None

    async def change_experiment(
        self, tx: Transaction, experiment_id: str, change: ExperimentChange
    ) -> None:
        old = await self._find(tx, sql.experiment_by_id, experiment_id)
        if old is None:
            raise NotFound(f"there is no experiment {experiment_id}")
        name = old.name if change.name is None else change.name
        if name != old.name:
            taken = await self._find(tx, sql.experiment_by_name, name)
            if taken:
                raise Conflict(
                    f"an experiment named {name!r} exists already", existing=taken.experiment_id
                )
        description = old.description if change.description is None else change.description
        lifecycle = change.lifecycle or old.lifecycle
        if await tx.fetch(sql.is_purging, (old.number,)):
            raise Conflict(f"experiment {old.name!r} is being deleted for good")
        await self._check_tags(tx, old.number, change.expected_tags)
        now = now_ms()
        await tx.execute(sql.update_experiment, (name, description, lifecycle, now, old.number))
        await self._set_experiment_tags(tx, old.number, change.tags)
        if lifecycle != old.lifecycle:
            await self._cascade(tx, old.number, lifecycle, now)
        self.forget(old)

    async def _check_tags(
        self, tx: Transaction, number: int, expected: Mapping[str, str | None]
    ) -> None:
        if not expected:
            return
        rows = await tx.fetch(in_list(sql.experiment_tags, 1), (number,))
        tags = {key: value for _, key, value in rows}
        for key, value in sorted(expected.items()):
            if tags.get(key) != value:
                raise Conflict(f"the tag {key!r} is not what it was expected to be")

    async def _set_experiment_tags(
        self, tx: Transaction, number: int, tags: Mapping[str, str | None]
    ) -> None:
        for key, value in sorted(tags.items()):
            if value is None:
                await tx.execute(sql.delete_experiment_tag, (number, key))
            else:
                await tx.execute(sql.set_experiment_tag, (number, key, value))

    async def _cascade(self, tx: Transaction, number: int, lifecycle: str, now: int) -> None:
        if lifecycle == "deleted":
            await tx.execute(sql.delete_runs_of, (now, number))
        else:
            await tx.execute(sql.restore_runs_of, (number,))

        def mark() -> None:
            self._runs.changed()
            for state in self._runs.in_experiment(number):
                state.deleted = lifecycle == "deleted"
                self._events.publish(state.run_id, _LIFE_EVENT[lifecycle], {})

        self._after_commit(mark)

    def forget(self, experiment: Experiment) -> None:
        """It changes: what is remembered of it is old, for the rest of the group and after it.

        Now, as a run that is made behind this looks it up; and again after the commit, as one that
        was made in front of this has it remembered there.
        """

        def drop() -> None:
            self._by_name.pop(experiment.name, None)
            self._by_id.pop(experiment.experiment_id, None)

        drop()
        self._after_commit(drop)

    async def _experiment_for(
        self, tx: Transaction, new: NewRun, fresh: dict[str, Experiment]
    ) -> Experiment:
        """Where a new run goes; an experiment named for the first time is made."""
        if new.experiment_id is not None:
            found = self._by_id.get(new.experiment_id) or await self._find(
                tx, sql.experiment_by_id, new.experiment_id
            )
            if found is None:
                raise NotFound(f"there is no experiment {new.experiment_id}")
        else:
            name = DEFAULT_EXPERIMENT if new.experiment_name is None else new.experiment_name
            found = (
                fresh.get(name)
                or self._by_name.get(name)
                or await self._find(tx, sql.experiment_by_name, name)
            )
            if found is None:
                found = fresh[name] = await self._insert(tx, name)
        if found.lifecycle == "deleted":
            raise Conflict(
                f"experiment {found.name!r} is deleted; restore it to add runs to it",
                existing=found.experiment_id,
            )
        self._after_commit(lambda: self._remember(found))
        return found

    # --- runs ----------------------------------------------------------------------------------

    async def create_runs(self, tx: Transaction, jobs: Sequence[CreateRun]) -> None:
        """Make the runs of a group; one whose id exists already is left as it is."""
        told = [job.new.run_id for job in jobs if not job.new.fresh]
        there = await self._runs.existing(tx, told)
        purged = await self._purged(tx, told)
        made: dict[str, CreateRun] = {}
        fresh: dict[str, Experiment] = {}
        for job in jobs:
            job.result = False
            if job.new.run_id in purged:
                job.fail(Purged(job.new.run_id))
                continue
            if job.new.run_id in there or job.new.run_id in made:
                continue
            try:
                job.experiment = await self._experiment_for(tx, job.new, fresh)
            except (NotFound, Conflict) as error:
                job.fail(error)
                continue
            made[job.new.run_id] = job
            job.result = True
        if made:
            await self._insert_runs(tx, list(made.values()))

    async def _purged(self, tx: Transaction, run_ids: Sequence[str]) -> set[str]:
        """Which of the ids were those of runs that are deleted for good."""
        if not self.any_purged or not run_ids:
            return set()
        rows = await tx.fetch(in_list(sql.purged, len(run_ids)), run_ids)
        return {run_id for (run_id,) in rows}

    async def _insert_runs(self, tx: Transaction, jobs: Sequence[CreateRun]) -> None:
        await self._names.learn(tx, [k for j in jobs for k in (*j.new.params, *j.new.tags)])
        now = now_ms()
        rows, states = [], []
        numbers = await self.run_ids.take(tx, len(jobs))
        for number, job in zip(numbers, jobs, strict=True):
            new, experiment = job.new, job.experiment
            assert experiment is not None
            rows.append(
                (number, new.run_id, experiment.number, new.name, new.description, new.user_id,
                 new.parent_run_id, new.status, new.start_time, now)
            )  # fmt: skip
            state = RunState(number, new.run_id, experiment.number)
            state.keys = set()
            states.append(state)
        await tx.executemany(sql.insert_run, rows)
        await self._labels.add(tx, zip(numbers, [job.new for job in jobs], strict=True))
        self._after_commit(lambda: self._created(states))

    def _created(self, states: Iterable[RunState]) -> None:
        for state in states:
            self._runs.put(state)
            self._events.publish(state.run_id, "created", {})

    async def change_run(self, tx: Transaction, run_id: str, change: RunChange) -> None:
        rows = await tx.fetch(sql.run_row, (run_id,))
        if not rows:
            raise NotFound(f"there is no run {run_id}")
        number, name, description, status, end, stop, lifecycle, heartbeat = rows[0]
        if lifecycle == "deleted" and change.lifecycle is None:
            raise Conflict(f"run {run_id} is deleted; restore it to change it")
        now = now_ms()
        new_status = change.status or status
        new_end = _end_time(change, status, end, now)
        if change.stop_requested is not None:
            stop = change.stop_requested
        elif new_status == "running" and status != "running":
            stop = False  # a resumed run was not asked to stop
        new_lifecycle = change.lifecycle or lifecycle
        values = (
            name if change.name is None else change.name,
            description if change.description is None else change.description,
            new_status,
            new_end,
            int(stop),
            new_lifecycle,
            now if new_lifecycle == "deleted" else None,
            now if new_status == "running" and status != "running" else heartbeat,
            number,
        )
        await tx.execute(sql.update_run, values)
        await self._set_tags(tx, number, change.tags)

        def effect() -> None:
            self._runs.changed()
            state = self._runs.get(run_id)
            if state:
                state.deleted = new_lifecycle == "deleted"
                state.stop_requested = bool(stop)
            self._publish(run_id, change, (status, new_status, new_end))

        self._after_commit(effect)

    async def _set_tags(self, tx: Transaction, run: int, tags: Mapping[str, str | None]) -> None:
        if not tags:
            return
        await self._names.learn(tx, tags)
        kept = [(key, value) for key, value in tags.items() if value is not None]
        await tx.executemany(sql.set_tag, sorted(tag_rows(self._names, run, kept)))
        gone = [(self._names.known[key], run) for key, value in tags.items() if value is None]
        await tx.executemany(sql.delete_tag, sorted(gone))

    async def revise_tag(
        self, tx: Transaction, run_id: str, key: str, revise: Callable[[str | None], str]
    ) -> None:
        """Set a tag to what ``revise`` makes of its value (None: it is not set)."""
        number = await self._active_run(tx, run_id)
        await self._names.learn(tx, [key])
        old = await tx.fetch(sql.tag_value, (self._names.known[key], number))
        change = RunChange(tags={key: revise(old[0][0] if old else None)})
        await self.change_run(tx, run_id, change)

    async def _active_run(self, reader: Reader, run_id: str) -> int:
        rows = await reader.fetch(in_list(sql.runs_by_ids, 1), (run_id,))
        if not rows:
            raise NotFound(f"there is no run {run_id}")
        if rows[0][3] == "deleted":
            raise Conflict(f"run {run_id} is deleted; restore it to change it")
        number: int = rows[0][1]
        return number

    def _publish(self, run_id: str, change: RunChange, status: tuple[str, str, int | None]) -> None:
        publish = self._events.publish
        old, new, end_time = status
        if change.status is not None and new != old:
            publish(run_id, "status", {"status": new, "end_time": end_time})
        if change.tags:
            publish(run_id, "tags", {"tags": dict(change.tags)})
        if change.name is not None or change.description is not None:
            publish(run_id, "changed", {})
        if change.stop_requested:
            publish(run_id, "stop", {})
        if change.lifecycle is not None:
            publish(run_id, _LIFE_EVENT[change.lifecycle], {})

    def commit(self) -> None:
        self.run_ids.commit()

    def rollback(self) -> None:
        self.run_ids.rollback()


def _end_time(change: RunChange, status: str, end: int | None, now: int) -> int | None:
    """A status says when the run ended; the same status again changes nothing."""
    if change.clear_end_time:
        return None
    if change.status is None or (change.status == status and not change.ending):
        return end if change.end_time is None else change.end_time
    if change.status == status:
        return end
    if change.status not in ENDED:
        return None
    if change.end_time is None:
        return end if change.keeps_end_time else now
    return change.end_time


def experiment_of(row: Sequence[object]) -> Experiment:
    """An experiment from its row, without its tags and run count."""
    number, experiment_id, name, description, lifecycle, created, updated, location = row
    return Experiment(
        experiment_id=str(experiment_id),
        number=int(str(number)),
        name=str(name),
        description=str(description),
        lifecycle=str(lifecycle),
        created_at=int(str(created)),
        updated_at=int(str(updated)),
        artifact_location=None if location is None else str(location),
    )
