"""Rows -> runs: what a page of runs shows, by two statements for every 500 runs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from stepwell_storage.database import Bind, Reader
from stepwell_storage.names import pages
from stepwell_storage.points import INT64, from_ordered
from stepwell_storage.records import Run

_RUNS: Final = """
select r.id, r.run_id, e.experiment_id, e.number, r.name, r.description, r.user_id, r.parent_run_id,
       r.status, r.start_time, r.end_time, r.heartbeat_at, r.lifecycle, r.stop_requested, {more}
from run r join experiment e on e.number = r.experiment where r.id in ({runs})
"""
_MORE: Final = """
exists (select 1 from param x where x.run = r.id limit 1 offset ?)
or exists (select 1 from series x where x.run = r.id limit 1 offset ?)
"""
_WRITER, _TAG, _PARAM, _METRIC = range(4)
# One statement, since each costs two switches of threads: what it is, the run, its name, its value.
# What is fresh (labels.py) stands there only where the disk refused to file it, and for readers of
# another process.
_VALUES: Final = """
select 0, w.run, cast(w.rank as text), cast(null as text), w.heartbeat_at
from writer w where w.run in ({runs})
union all
select 1, t.run, n.text, t.value, cast(null as bigint)
from tag t cross join name n where t.run in ({runs}) and n.id = t.key
union all
select 1, f.run, n.text, f.value, cast(null as bigint)
from fresh_tag f cross join name n where f.run in ({runs}) and n.id = f.key
union all
select 2, f.run, n.text, f.value, cast(null as bigint)
from fresh_param f cross join name n where f.run in ({runs}) and {fresh} and n.id = f.key
union all
select 2, p.run, n.text, p.value, cast(null as bigint)
from run r cross join param p cross join name n
where r.id in ({runs}) and p.run = r.id and {params} and n.id = p.key
union all
select 3, s.run, n.text, cast(null as text), s.last
from run r cross join series s cross join name n
where r.id in ({runs}) and s.run = r.id and {metrics} and n.id = s.key
"""
_NAMED: Final = "{row}.key in (select k.id from name k where k.text in ({keys}))"
# The last key wanted bounds each run's stretch of the index, so that a run of 50,000 series costs
# what a run of 100 does.
_FIRST: Final = """{row}.key <= coalesce(
    (select x.key from {table} x where x.run = r.id order by x.key limit 1 offset ?), ?)"""
_ANY_KEY: Final = 2**63 - 1


async def runs(
    reader: Reader, numbers: Sequence[int], keys: Sequence[str] | None, max_keys: int
) -> list[Run]:
    """The runs with these numbers, in their order; one whose row is damaged may be left out.

    With ``keys``, only those metrics and parameters; without, at most ``max_keys`` of each (and at
    least one), the ones that the tenant has had for longest, and ``truncated`` says that there are
    more.
    """
    found = await by_number(reader, numbers, keys, max_keys)
    return [found[number] for number in numbers if number in found]


async def by_number(
    reader: Reader, numbers: Sequence[int], keys: Sequence[str] | None, max_keys: int
) -> dict[int, Run]:
    """The same, each with its number."""
    found: dict[int, Run] = {}
    for some in pages(numbers):
        part = await _bare(reader, some, None if keys is not None else max_keys)
        await _complete(reader, part, keys, max_keys)
        found |= part
    return found


async def _bare(reader: Reader, some: Sequence[int], max_keys: int | None) -> dict[int, Run]:
    text = _filled(_RUNS, runs=_marks(some), more="0" if max_keys is None else _MORE)
    binds = [] if max_keys is None else [max_keys, max_keys]
    found = {}
    for number, *row, truncated in await reader.fetch(text, [*binds, *some]):
        found[number] = run = Run(*row)
        run.stop_requested = bool(run.stop_requested)
        run.truncated = bool(truncated)
    return found


async def _complete(
    reader: Reader, found: Mapping[int, Run], keys: Sequence[str] | None, max_keys: int
) -> None:
    some = list(found)
    binds: list[Bind]
    if keys is None:
        params, metrics = (
            _filled(_FIRST, row="p", table="param"),
            _filled(_FIRST, row="s", table="series"),
        )
        binds = [max_keys - 1, _ANY_KEY]
        fresh, wanted = "1 = 1", []
    else:
        wanted = list(dict.fromkeys(keys))
        params, metrics, fresh = (
            _filled(_NAMED, row=row, keys=_marks(wanted) or "null") for row in "psf"
        )
        binds = list(wanted)
    text = _filled(_VALUES, runs=_marks(some), params=params, metrics=metrics, fresh=fresh)
    rows = await reader.fetch(
        text, [*some, *some, *some, *some, *wanted, *some, *binds, *some, *binds]
    )
    targets = {number: (run.writers, run.tags, run.params) for number, run in found.items()}
    logged: list[tuple[dict[str, float], str]] = []
    last = []
    for kind, number, name, value, integer in rows:
        if number not in found:
            continue  # what an index says of a row that is damaged
        if kind == _METRIC:
            logged.append((found[number].metrics, name))
            last.append(integer)
        else:
            target: dict[str, Any] = targets[number][kind]
            target[name] = integer if kind == _WRITER else value
    for (metrics_of, name), value in zip(
        logged, from_ordered(np.array(last, INT64)).tolist(), strict=True
    ):
        metrics_of[name] = value


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _filled(statement: str, **words: str) -> str:
    """Only marks and words of this file: no value is ever written into a statement."""
    for word, text in words.items():
        statement = statement.replace("{" + word + "}", text)
    return statement
