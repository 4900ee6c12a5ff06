"""Models logged through MLflow's API: made pending, filled, then ready; with metrics and labels."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from stepwell_storage import listing
from stepwell_storage.clock import now_ms
from stepwell_storage.database import Reader, Transaction, in_list
from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.names import pages
from stepwell_storage.points import ordered, unordered
from stepwell_storage.records import (
    ListQuery,
    Model,
    ModelMetric,
    ModelPage,
    NewModel,
)
from stepwell_storage.statements import sql

Change = Callable[[Callable[[Transaction], Awaitable[Any]]], Awaitable[Any]]
Read = Callable[..., AbstractAsyncContextManager[Reader]]


class Models:
    """Of one tenant.  Every call raises NotFound where the model is unknown or deleted."""

    def __init__(self, change: Change, read: Read) -> None:
        self._change = change
        self._read = read

    async def create(self, new: NewModel) -> Model:
        """Raises NotFound and Conflict where the experiment is unknown or deleted."""
        await self._change(lambda tx: _create(tx, new))
        return await self.get(new.model_id)

    async def get(self, model_id: str, *, deleted: bool = False) -> Model:
        """``deleted`` finds it even when it was deleted."""
        async with self._read(settled=False) as reader:
            number = await _number(reader, model_id, deleted=deleted)
            return (await hydrate(reader, [number]))[0]

    async def search(self, query: ListQuery) -> ModelPage:
        async with self._read(settled=False) as reader:
            numbers, cursor = await listing.find(reader, listing.MODELS, query)
            return ModelPage(await hydrate(reader, numbers), cursor)

    async def require(self, model_ids: Sequence[str]) -> None:
        """Raises NotFound, which names the first of them that does not exist."""
        async with self._read(settled=False) as reader:
            found = await _known(reader, model_ids)
        for model_id in model_ids:
            if model_id not in found:
                raise NotFound(model_id)

    async def set_status(self, model_id: str, status: str) -> Model:
        async def work(tx: Transaction) -> None:
            await tx.execute(sql.set_model_status, (status, now_ms(), await _number(tx, model_id)))

        await self._change(work)
        return await self.get(model_id)

    async def add_params(self, model_id: str, params: Mapping[str, str]) -> None:
        """Raises Conflict where one is set already, with nothing written."""

        async def work(tx: Transaction) -> None:
            number = await _number(tx, model_id)
            known = dict(await tx.fetch(sql.model_params_of, (number,)))
            for name in params:
                if name in known:
                    raise Conflict(f"parameter {name!r} of the model is {known[name]!r} already")
            rows = [(number, name, value) for name, value in sorted(params.items())]
            await tx.executemany(sql.insert_model_param, rows)
            await tx.execute(sql.touch_model, (now_ms(), number))

        await self._change(work)

    async def set_tags(self, model_id: str, tags: Mapping[str, str]) -> Model:
        async def work(tx: Transaction) -> None:
            number = await _number(tx, model_id)
            rows = [(number, name, value) for name, value in sorted(tags.items())]
            await tx.executemany(sql.set_model_tag, rows)
            await tx.execute(sql.touch_model, (now_ms(), number))

        await self._change(work)
        return await self.get(model_id)

    async def delete_tag(self, model_id: str, name: str) -> bool:
        """False where there was no such tag."""

        async def work(tx: Transaction) -> bool:
            number = await _number(tx, model_id)
            return await tx.execute(sql.delete_model_tag, (number, name)) > 0

        deleted: bool = await self._change(work)
        return deleted

    async def delete(self, model_id: str) -> None:
        async def work(tx: Transaction) -> None:
            now = now_ms()
            await tx.execute(sql.delete_model, (now, now, await _number(tx, model_id)))

        await self._change(work)

    async def log(self, metrics: Sequence[tuple[str, ModelMetric]]) -> None:
        """Metrics of models, by model id.  The same again changes nothing."""

        async def work(tx: Transaction) -> None:
            numbers = await _known(tx, [model_id for model_id, _ in metrics])
            rows = []
            for model_id, m in metrics:
                if model_id not in numbers:
                    raise NotFound(model_id)
                rows.append(metric_row(numbers[model_id], m))
            await tx.executemany(sql.insert_model_metric, rows)

        await self._change(work)


def metric_row(model: int, m: ModelMetric) -> tuple[int | str, ...]:
    """The columns of ``insert_model_metric``."""
    return (model, m.key, m.timestamp, m.step, m.run_id, ordered(m.value),
            m.dataset_name, m.dataset_digest)  # fmt: skip


async def _create(tx: Transaction, new: NewModel) -> None:
    rows = await tx.fetch(sql.experiment_by_number, (new.experiment_number,))
    if not rows:
        raise NotFound(f"there is no experiment {new.experiment_number}")
    if rows[0][4] == "deleted":
        raise Conflict(f"experiment {new.experiment_number} is deleted")
    now = now_ms()
    number = (await tx.fetch(sql.next_model))[0][0]
    row = (number, new.model_id, new.experiment_number, new.name, new.model_type,
           new.source_run_id, "pending", now, now)  # fmt: skip
    await tx.execute(sql.insert_model, row)
    params = [(number, name, value) for name, value in sorted(new.params.items())]
    await tx.executemany(sql.insert_model_param, params)
    tags = [(number, name, value) for name, value in sorted(new.tags.items())]
    await tx.executemany(sql.set_model_tag, tags)


async def _number(reader: Reader, model_id: str, *, deleted: bool = False) -> int:
    rows = await reader.fetch(sql.model_row, (model_id,))
    if not rows or (rows[0][1] is not None and not deleted):
        raise NotFound(model_id)
    number: int = rows[0][0]
    return number


async def _known(reader: Reader, model_ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in pages(list(dict.fromkeys(model_ids))):
        found.update(await reader.fetch(in_list(sql.model_numbers, len(some)), some))
    return found


async def hydrate(reader: Reader, numbers: Sequence[int]) -> list[Model]:
    found: dict[int, Model] = {}
    for some in pages(numbers):
        for number, *row in await reader.fetch(in_list(sql.models, len(some)), some):
            found[number] = Model(*row)
        for number, name, value in await reader.fetch(in_list(sql.model_params, len(some)), some):
            found[number].params[name] = value
        for number, name, value in await reader.fetch(in_list(sql.model_tags, len(some)), some):
            found[number].tags[name] = value
        metrics = await reader.fetch(in_list(sql.model_metrics, len(some)), some)
        for number, key, timestamp, step, run_id, value, dataset, digest in metrics:
            metric = ModelMetric(key, unordered(value), step, timestamp, run_id, dataset, digest)
            found[number].metrics.append(metric)
        for number, name, version in await reader.fetch(
            in_list(sql.registrations, len(some)), some
        ):
            found[number].registrations.append((name, version))
    return [found[number] for number in numbers]
