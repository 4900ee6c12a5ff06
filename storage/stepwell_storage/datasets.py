"""Datasets that runs used, and models that they read and made: what the committer writes of them.

A dataset belongs to an experiment and is known by name and digest; the first description of it
stays.  Linking one to a run again changes nothing, its tags included.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from stepwell_storage.database import Reader, Transaction, in_list
from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.names import pages
from stepwell_storage.records import DatasetUse, ModelUse
from stepwell_storage.statements import sql

Change = Callable[[Callable[[Transaction], Awaitable[Any]]], Awaitable[Any]]
Read = Callable[..., AbstractAsyncContextManager[Reader]]


UsedDataset = tuple[int, str, str, str | None]
"""Experiment, name, digest, role."""


class Datasets:
    """Of one tenant."""

    def __init__(self, change: Change, read: Read) -> None:
        self._change = change
        self._read = read

    async def link(
        self, run_id: str, datasets: Sequence[DatasetUse], models: Sequence[ModelUse]
    ) -> None:
        """Raises NotFound, and Conflict where the run is deleted, with nothing written."""
        await self._change(lambda tx: _link(tx, run_id, datasets, models))

    async def of_experiments(self, numbers: Sequence[int]) -> list[UsedDataset]:
        """Distinct ones, at most 1,000."""
        async with self._read(settled=False) as reader:
            statement = in_list(sql.datasets_of_experiments, len(numbers))
            return await reader.fetch(statement, tuple(numbers))


async def _link(
    tx: Transaction, run_id: str, datasets: Sequence[DatasetUse], models: Sequence[ModelUse]
) -> None:
    rows = await tx.fetch(in_list(sql.runs_by_ids, 1), (run_id,))
    if not rows:
        raise NotFound(f"there is no run {run_id}")
    _, run, experiment, lifecycle, _ = rows[0]
    if lifecycle == "deleted":
        raise Conflict(f"run {run_id} is deleted; restore it to log into it")
    numbers = await numbers_of(tx, experiment, datasets)
    linked = {number for (number,) in await tx.fetch(sql.datasets_of_run, (run,))}
    for use in datasets:
        number = numbers[use.dataset.name, use.dataset.digest]
        if number in linked:
            continue
        linked.add(number)
        await tx.execute(sql.use_dataset, (run, number))
        tags = [(run, number, name, value) for name, value in sorted(use.tags.items())]
        await tx.executemany(sql.set_dataset_use_tag, tags)
    uses = [(run, use.kind, use.model_id, use.step) for use in models]
    await tx.executemany(sql.use_model, uses)


async def numbers_of(
    tx: Transaction, experiment: int, uses: Sequence[DatasetUse]
) -> dict[tuple[str, str], int]:
    """Each dataset's number; one that is new to the experiment is made."""
    known: dict[tuple[str, str], int] = {}
    for names in pages(list({use.dataset.name for use in uses})):
        statement = in_list(sql.dataset_numbers, len(names))
        for name, digest, number in await tx.fetch(statement, (experiment, *names)):
            known[name, digest] = number
    for use in uses:
        d = use.dataset
        if (d.name, d.digest) not in known:
            number = (await tx.fetch(sql.next_dataset))[0][0]
            told = (d.source_type, d.source, d.schema, d.profile)
            await tx.execute(sql.insert_dataset, (number, experiment, d.name, d.digest, *told))
            known[d.name, d.digest] = number
    return known
