"""What MLflow's API shows of a run beyond the native one: every parameter, whole last points, the
datasets and models that it used.  By a number of statements that does not grow with the page."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stepwell_storage import hydration
from stepwell_storage.database import Reader, in_list
from stepwell_storage.names import pages
from stepwell_storage.points import unordered
from stepwell_storage.records import Dataset, DatasetUse, LastPoint, ModelUse, Run
from stepwell_storage.statements import sql

_NAMES: Final = "select id, text from name where id in (?*)"


async def runs(reader: Reader, numbers: Sequence[int]) -> list[Run]:
    """The runs with these numbers, in their order, complete."""
    found = await hydration.by_number(reader, numbers, (), 0)
    numbers = [number for number in numbers if number in found]
    params = await _rows(reader, sql.params_of, numbers)
    points = await _rows(reader, sql.last_points_of_runs, numbers)
    names = await _names(reader, {row[1] for row in (*params, *points)})
    for run, key, value in params:
        if key in names:  # else its row is damaged: the rest of the page is not
            found[run].params[names[key]] = value
    for run, key, step, timestamp, last in points:
        if key in names:
            found[run].last_points[names[key]] = LastPoint(step, timestamp, unordered(last))
    for run, *model in await _rows(reader, sql.models_of_runs, numbers):
        found[run].models.append(ModelUse(*model))
    await _add_datasets(reader, found)
    for one in found.values():
        one.metrics = {key: point.value for key, point in one.last_points.items()}
        one.truncated = False
    return [found[number] for number in numbers]


async def _add_datasets(reader: Reader, found: Mapping[int, Run]) -> None:
    tags: dict[tuple[int, int], dict[str, str]] = {}
    uses = await _rows(reader, sql.datasets_of_runs, list(found))
    if uses:
        rows = await _rows(reader, sql.dataset_use_tags_of_runs, list(found))
        for run, dataset, name, value in rows:
            tags.setdefault((run, dataset), {})[name] = value
    for run, number, *dataset in uses:
        use = DatasetUse(Dataset(*dataset), tags.get((run, number), {}))
        found[run].datasets.append(use)


async def _rows(reader: Reader, statement: str, numbers: Sequence[int]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for some in pages(numbers):
        rows += await reader.fetch(in_list(statement, len(some)), some)
    wanted = set(numbers)
    return [row for row in rows if row[0] in wanted]  # an index may say so of a damaged row


async def _names(reader: Reader, keys: set[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for some in pages(sorted(keys)):
        names.update(await reader.fetch(in_list(_NAMES, len(some)), some))
    return names
