"""What a batch writes: one journal row, and its parameters and tags.

Every batch of a group is checked before anything of it is written, so that one which fails, fails
alone; then the group costs a few statements, however many batches it holds.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite

import numpy as np

from stepwell_storage.committer import Job
from stepwell_storage.database import Transaction, in_list
from stepwell_storage.errors import Conflict, LimitExceeded
from stepwell_storage.names import Names, pages
from stepwell_storage.payloads import Row, encode_all
from stepwell_storage.places import place
from stepwell_storage.points import FLOAT64, INT64, Points, is_increasing, merge, ordered
from stepwell_storage.records import Ack, Batch
from stepwell_storage.runs import RunState
from stepwell_storage.statements import sql
from stepwell_storage.statistics import Entry

MAX_SERIES_PER_RUN = 100_000
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


class LogJob(Job):
    """One batch for one run.  Resolves to an :class:`Ack`."""

    __slots__ = ("at", "batch", "key_ids", "run")

    def __init__(self, run: RunState, batch: Batch, at: int) -> None:
        super().__init__(512 + 3 * len(batch.steps) + 64 * len(batch.keys))
        self.run = run
        self.batch = batch
        self.at = at
        self.key_ids: list[int] = []


def parameter_number(text: str) -> int | None:
    """The ordered integer of a parameter's number; None where its text is no finite number."""
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return ordered(number) if isfinite(number) else None


def param_rows(
    names: Names, run: int, params: Iterable[tuple[str, str]]
) -> list[tuple[int, int, int, str, int | None]]:
    numbered = [(names.known[name], value) for name, value in params]
    return [(place(key, run), key, run, value, parameter_number(value)) for key, value in numbered]


def tag_rows(
    names: Names, run: int, tags: Iterable[tuple[str, str]]
) -> list[tuple[int, int, int, str]]:
    numbered = [(names.known[name], value) for name, value in tags]
    return [(place(key, run), key, run, value) for key, value in numbered]


class Journal:
    """The append of one tenant.  ``keys_of`` tells a run's series when they are first needed."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._grown: list[tuple[RunState, set[int]]] = []

    async def check(self, tx: Transaction, jobs: Sequence[LogJob]) -> list[LogJob]:
        """The jobs that may be written, their keys numbered; the others have failed."""
        for job in jobs:
            if job.run.deleted:
                job.fail(Conflict(f"run {job.run.run_id} is deleted; restore it to log into it"))
        live = [job for job in jobs if job.error is None]
        known = self._names.known
        for _ in range(2):
            try:
                for job in live:
                    job.key_ids = list(map(known.__getitem__, job.batch.keys))
                    for texts in (job.batch.params, job.batch.tags):
                        for key in texts:
                            known[key]
                break
            except KeyError:
                await self._learn(tx, live)
        self._bound_series(live)
        if any(job.batch.params for job in live):
            await self._check_params(tx, live)
        return [job for job in live if job.error is None]

    async def _learn(self, tx: Transaction, jobs: Iterable[LogJob]) -> None:
        texts: dict[str, None] = {}
        for job in jobs:
            for group in (job.batch.keys, job.batch.params, job.batch.tags):
                texts.update(dict.fromkeys(group))
        await self._names.learn(tx, texts)

    def _bound_series(self, jobs: Iterable[LogJob]) -> None:
        for job in jobs:
            keys = job.run.keys
            assert keys is not None, "the writer loads a run's series first"
            if keys.issuperset(job.key_ids):
                continue
            new = set(job.key_ids) - keys
            if len(keys) + len(new) > MAX_SERIES_PER_RUN:
                job.fail(LimitExceeded("metrics", f"a run has at most {MAX_SERIES_PER_RUN} series"))
                continue
            keys |= new
            self._grown.append((job.run, new))

    async def _check_params(self, tx: Transaction, jobs: Sequence[LogJob]) -> None:
        """By a select, before any write: a failed statement would spoil the transaction."""
        runs = list({job.run.id for job in jobs if job.batch.params})
        known = self._names.known
        present: dict[tuple[int, int], str] = {}
        for page in pages(runs):
            rows = await tx.fetch(in_list(sql.params_of, len(page)), page)
            present.update(((run, key), value) for run, key, value in rows)
        for job in jobs:
            wanted = {(job.run.id, known[key]): value for key, value in job.batch.params.items()}
            for key, value in job.batch.params.items():
                old = present.get((job.run.id, known[key]), value)
                if old != value:
                    job.fail(
                        Conflict(
                            f"parameter {key!r} is {old!r} already and cannot become {value!r}"
                        )
                    )
                    break
            else:
                present.update(wanted)

    async def write(self, tx: Transaction, jobs: Sequence[LogJob], numbers: range) -> list[Entry]:
        """Write checked jobs; ``numbers`` has one for each that brings points."""
        with_points = [job for job in jobs if job.batch.steps]
        _repair(with_points)
        payloads = encode_all([_row(job) for job in with_points])
        entries = []
        rows = []
        for number, job, payload in zip(numbers, with_points, payloads, strict=True):
            run = job.run.id
            rows.append((number, run, len(job.batch.steps) // 8, payload))
            entries.append(Entry(number, run, *_row(job)))
        if rows:
            await tx.executemany(sql.append_journal, rows)
        names = self._names
        params = [r for j in jobs for r in param_rows(names, j.run.id, j.batch.params.items())]
        if params:
            params.sort(key=lambda row: row[0])
            await tx.executemany(sql.insert_param, params)
        tags = {r[0]: r for j in jobs for r in tag_rows(names, j.run.id, j.batch.tags.items())}
        if tags:
            await tx.executemany(sql.set_tag, [tags[at] for at in sorted(tags)])
        for job in jobs:
            job.result = Ack(job.run.stop_requested)
        return entries

    def commit(self) -> None:
        self._grown.clear()

    def rollback(self) -> None:
        for run, new in self._grown:
            if run.keys is not None:
                run.keys -= new
        self._grown.clear()


def _row(job: LogJob) -> Row:
    batch = job.batch
    return job.key_ids, batch.counts, batch.steps, batch.timestamps, batch.values


def _repair(jobs: Sequence[LogJob]) -> None:
    """Make each stretch of one key ascending and free of duplicates; one look at all of them."""
    jobs = [job for job in jobs if len(job.batch.steps) > 8 * len(job.batch.counts)]
    if not jobs:
        return
    steps = np.frombuffer(b"".join([job.batch.steps for job in jobs]), INT64)
    rising = steps[1:] > steps[:-1]
    counts = np.concatenate([job.batch.counts for job in jobs])
    rising[np.cumsum(counts)[:-1] - 1] = True  # where one stretch ends and the next begins
    if rising.all():
        return
    ends = np.cumsum([len(job.batch.steps) // 8 for job in jobs])
    for row in np.unique(np.searchsorted(ends, np.flatnonzero(~rising), "right")):
        job = jobs[row]
        job.batch = _ascending(job.batch)


def _ascending(batch: Batch) -> Batch:
    whole = Points.of(
        np.frombuffer(batch.steps, INT64),
        np.frombuffer(batch.timestamps, INT64),
        np.frombuffer(batch.values, FLOAT64),
    )
    ends = np.cumsum(batch.counts).tolist()
    parts = [whole[low:high] for low, high in pairwise([0, *ends])]
    parts = [part if is_increasing(part) else merge([part]) for part in parts]
    joined = Points.concat(parts)
    return Batch(
        keys=batch.keys,
        counts=[len(part) for part in parts],
        steps=joined.steps.tobytes(),
        timestamps=joined.timestamps.tobytes(),
        values=joined.values.tobytes(),
        params=batch.params,
        tags=batch.tags,
        rank=batch.rank,
    )
