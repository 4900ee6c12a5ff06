"""Rows -> runs: what a page of runs shows, by a number of statements that does not grow with it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stepwell_storage.database import Reader, in_list
from stepwell_storage.names import pages
from stepwell_storage.points import unordered
from stepwell_storage.records import Run
from stepwell_storage.statements import sql

_RUNS: Final = """
select r.id, r.run_id, e.experiment_id, e.number, r.name, r.description, r.user_id, r.parent_run_id,
       r.status, r.start_time, r.end_time, r.heartbeat_at, r.lifecycle, r.stop_requested
from run r join experiment e on e.number = r.experiment where r.id in (?*)
"""
_WRITERS: Final = "select run, rank, heartbeat_at from writer where run in (?*) order by run, rank"
_TAGS: Final = "select run, key, value from tag where run in (?*)"
_PARAMS: Final = "select run, key, value from param where run in (?*) and key in (?keys)"
_METRICS: Final = "select run, key, last from series where run in (?*) and key in (?keys)"
# The key behind the last one wanted bounds each run's stretch of the index, so that a run of 50,000
# series costs what a run of 100 does.
_FIRST_PARAMS: Final = """
select p.run, p.key, p.value from run r cross join param p
where r.id in (?*) and p.run = r.id and p.key <= coalesce(
    (select x.key from param x where x.run = r.id order by x.key limit 1 offset ?), ?)
"""
_FIRST_METRICS: Final = """
select s.run, s.key, s.last from run r cross join series s
where r.id in (?*) and s.run = r.id and s.key <= coalesce(
    (select x.key from series x where x.run = r.id order by x.key limit 1 offset ?), ?)
"""
_NAMES: Final = "select id, text from name where id in (?*)"
_ANY_KEY: Final = 2**63 - 1

Values = dict[int, dict[int, Any]]
"""Run -> key -> value."""


async def runs(
    reader: Reader, numbers: Sequence[int], keys: Sequence[str] | None, max_keys: int
) -> list[Run]:
    """The runs with these numbers, in their order.

    With ``keys``, only those metrics and parameters; without, at most ``max_keys`` of each, the
    ones that the tenant has had for longest, and ``truncated`` says that there are more.
    """
    found = await _rows(reader, numbers)
    tags = await _values(reader, _TAGS, numbers)
    if keys is None:
        first = (max_keys, _ANY_KEY)
        params = await _values(reader, _FIRST_PARAMS, numbers, first)
        metrics = await _values(reader, _FIRST_METRICS, numbers, first)
    else:
        chosen = await _key_numbers(reader, keys)
        params = await _values(reader, _with_keys(_PARAMS, chosen), numbers, chosen)
        metrics = await _values(reader, _with_keys(_METRICS, chosen), numbers, chosen)
    names = await _names(reader, (tags, params, metrics))
    bound = _ANY_KEY if keys is not None else max_keys
    for number, run in found.items():
        run.tags = _named(tags.get(number, {}), names, _ANY_KEY)
        run.params = _named(params.get(number, {}), names, bound)
        last = _named(metrics.get(number, {}), names, bound)
        run.metrics = {key: unordered(value) for key, value in last.items()}
        run.truncated = any(len(values.get(number, ())) > bound for values in (params, metrics))
    return [found[number] for number in numbers]


async def _rows(reader: Reader, numbers: Sequence[int]) -> dict[int, Run]:
    found = {}
    for some in pages(numbers):
        for number, *row in await reader.fetch(in_list(_RUNS, len(some)), some):
            found[number] = run = Run(*row)
            run.stop_requested = bool(run.stop_requested)
        for number, rank, at in await reader.fetch(in_list(_WRITERS, len(some)), some):
            found[number].writers[str(rank)] = at
    return found


async def _values(
    reader: Reader, statement: str, numbers: Sequence[int], binds: Sequence[int] = ()
) -> Values:
    found: Values = {}
    for some in pages(numbers):
        for run, key, value in await reader.fetch(in_list(statement, len(some)), [*some, *binds]):
            found.setdefault(run, {})[key] = value
    return found


def _with_keys(statement: str, keys: Sequence[int]) -> str:
    return statement.replace("?keys", ",".join("?" * len(keys)) or "null")


async def _key_numbers(reader: Reader, keys: Sequence[str]) -> list[int]:
    found = []
    for some in pages(list(dict.fromkeys(keys))):
        found += await reader.fetch(in_list(sql.names_by_text, len(some)), some)
    return [number for _, number in found]


async def _names(reader: Reader, parts: Sequence[Values]) -> dict[int, str]:
    keys = {key for values in parts for of_run in values.values() for key in of_run}
    names: dict[int, str] = {}
    for some in pages(sorted(keys)):
        names.update(await reader.fetch(in_list(_NAMES, len(some)), some))
    return names


def _named(values: Mapping[int, Any], names: Mapping[int, str], bound: int) -> dict[str, Any]:
    """By name, those with the lowest numbers first and at most ``bound`` of them."""
    return {names[key]: values[key] for key in sorted(values)[:bound]}
