"""The statement of a search: conditions and an order -> the page's rows.

It joins to each run the rows of the keys that the filter and the order mention, in an order of our
choosing (``cross join`` keeps SQLite to it; PostgreSQL chooses for itself).  It begins in one of
three ways:

- *With a driver*: one condition that few runs fulfil, and that an index answers.  Its rows come
  first, and everything else is looked up for them.  Which condition, if any, is decided by counting
  what each one finds, up to a bound.
- *With the newest runs*, where the newest come first in the order: enough of them for a page if
  one in ``_WINDOW`` is found.
- *By number*: every run in the order of its number.  The rows of one key lie in the same order, so
  each look-up finds its row beside the one before it.

Where the total is asked for too, the found runs are gathered, counted and sorted in one statement.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from stepwell_storage import ordering
from stepwell_storage.conditions import FALSE, TRUE, Compiler
from stepwell_storage.database import Bind, Reader
from stepwell_storage.fields import Source, Sources, Sql, indexed
from stepwell_storage.filters import Expression
from stepwell_storage.ranges import INT64_MAX
from stepwell_storage.records import RunQuery

_SELECTIVE: Final = "(select coalesce(max(id), 0) / 10 from run)"
"""A driver finds fewer runs than this."""

_WINDOW: Final = 20
_MAX_WINDOW_RUNS: Final = 20_000
_NEWEST: Final = """r.start_time >= (select w.start_time from run w where w.start_time <= ?
order by w.start_time desc limit 1 offset ?)"""

Driver = Source | Sql | None
"""The rows of a key; a condition on ``run`` that has an index; or None: the runs by number."""


class Page(NamedTuple):
    """``rows``: the number of the run, then the columns of the order."""

    rows: list[tuple[Any, ...]]
    total: int | None


class Plan:
    """One search.  ``names`` are the numbers of the keys that exist, ``experiments`` those of the
    experiments asked for.  Raises Invalid where filter or order make no sense."""

    def __init__(
        self,
        query: RunQuery,
        expression: Expression | None,
        names: Mapping[str, int],
        experiments: Sequence[int] | None,
    ) -> None:
        self._query = query
        self._is_filtered = expression is not None
        sources = Sources(names)
        compiler = Compiler(sources)
        if expression is not None:
            compiler.require(expression)
        self._columns = ordering.columns(
            query.order_by, sources, params_as_text=query.params_as_text
        )
        self._sources = list(sources)
        self._conditions = _of_run(query) + compiler.conditions
        self._run_conditions = compiler.run_conditions
        if experiments is not None:
            self._run_conditions.append(_one_of("+r.experiment", experiments))

    async def page(self, reader: Reader, place: Sequence[Bind] | None, limit: int) -> Page:
        """Up to ``limit`` rows, after ``place``.  Raises BadCursor where it fits no such order."""
        after = ordering.after(self._columns, place) if place is not None else TRUE
        wants_total = self._query.total
        if self._finds_nothing():
            return Page([], 0 if wants_total else None)
        text = f"{_where([after])} order by {ordering.order_clause(self._columns)} limit ? offset ?"
        rest = Sql(text, (*after.binds, limit, self._query.offset))
        driver, others = await self._driver(reader)
        found = self._found(driver, others)
        window = self._window(driver, place, limit)
        if window is not None:
            rows = await self._rows(reader, self._found(window, others), rest)
            if len(rows) == limit:
                return Page(rows, await self._count(reader, found) if wants_total else None)
        if wants_total and self._is_filtered:
            return await self._gather(reader, found, rest)
        rows = await self._rows(reader, found, rest)
        return Page(rows, await self._count(reader, found) if wants_total else None)

    def _finds_nothing(self) -> bool:
        conditions = [*self._conditions, *self._run_conditions]
        return FALSE in conditions or any(FALSE in source.where for source in self._sources)

    async def _rows(self, reader: Reader, found: Sql, rest: Sql) -> list[tuple[Any, ...]]:
        names = ", ".join(column.name for column in self._columns)
        text = f"select id, {names} from ({found.text}) hit {rest.text}"  # noqa: S608  # our own words, values bound
        return await reader.fetch(text, found.binds + rest.binds)

    async def _gather(self, reader: Reader, found: Sql, rest: Sql) -> Page:
        names = ", ".join(column.name for column in self._columns)
        text = (
            f"with hit as materialized ({found.text}) "  # noqa: S608  # as above
            f"select (select count(*) from hit), id, {names} from hit {rest.text}"
        )
        rows = await reader.fetch(text, found.binds + rest.binds)
        if rows:
            return Page([row[1:] for row in rows], rows[0][0])
        return Page([], await self._count(reader, found))

    async def _count(self, reader: Reader, found: Sql) -> int:
        if not self._is_filtered:  # then what the order joins is of no matter
            conditions = [*self._conditions, *map(indexed, self._run_conditions)]
            found = _sql("select r.id from run r", [], conditions)
        text = f"select count(*) from ({found.text}) hit"  # noqa: S608  # as above
        count: int = (await reader.fetch(text, found.binds))[0][0]
        return count

    # --- where to begin --------------------------------------------------------------------------

    async def _driver(self, reader: Reader) -> tuple[Driver, list[Source]]:
        """Where to begin, and the other rows that a run must have, the rarest first."""
        required = [source for source in self._sources if source.required]
        candidates: list[tuple[Source | Sql, Sql]] = [(s, _rows_of(s)) for s in required]
        for condition in map(indexed, self._run_conditions):
            candidates.append((condition, _sql("select 1 from run r", [], [condition])))
        if not candidates or not self._sources:
            return None, required
        counts = [
            f"(select count(*) from ({rows.text} limit {_SELECTIVE}) c{number})"  # noqa: S608  # as above
            for number, (_, rows) in enumerate(candidates)
        ]
        binds = [bind for _, rows in candidates for bind in rows.binds]
        bound, *found = (
            await reader.fetch(f"select {_SELECTIVE}, {', '.join(counts)}", binds)  # as above
        )[0]
        rarest = sorted(range(len(found)), key=lambda number: found[number])
        driver = candidates[rarest[0]][0] if found[rarest[0]] < bound else None
        in_order = [candidates[number][0] for number in rarest]
        return driver, [s for s in in_order if isinstance(s, Source) and s is not driver]

    def _window(self, driver: Driver, place: Sequence[Bind] | None, limit: int) -> Sql | None:
        """The newest runs, or those after ``place``, where trying them first is worth it."""
        runs = _WINDOW * (limit + self._query.offset)
        is_apt = ordering.is_newest_first(self._columns) and driver is None
        if not is_apt or not self._sources or runs > _MAX_WINDOW_RUNS:
            return None
        return Sql(_NEWEST, (place[0] if place else INT64_MAX, runs))

    # --- the found runs --------------------------------------------------------------------------

    def _found(self, driver: Driver, others: Sequence[Source]) -> Sql:
        """Every run found: its number and the columns of the order."""
        joins, conditions = self._joins(driver, others)
        conditions += self._conditions
        for condition in self._run_conditions:
            if not self._sources:  # a statement on runs alone is SQLite's to plan
                condition = indexed(condition)
            if indexed(condition) != driver:
                conditions.append(condition)
        columns = [Sql(f"{c.sql.text} as {c.name}", c.sql.binds) for c in self._columns]
        selected = ", ".join(["r.id as id", *[column.text for column in columns]])
        binds = tuple(bind for column in columns for bind in column.binds)
        found = _sql(f"select {selected}", joins, conditions)
        return Sql(found.text, binds + found.binds)

    def _joins(self, driver: Driver, others: Sequence[Source]) -> tuple[list[Sql], list[Sql]]:
        """FROM, and the conditions that go with it."""
        joins = [Sql("from run r")]
        where = []
        if isinstance(driver, Source):
            joins = [Sql(f"from {driver.table} {driver.alias} cross join run r")]
            where += [driver.of_key(), driver.run_is(), *driver.where]
        elif driver is not None:
            where.append(driver)
        elif self._sources:
            where.append(Sql("r.id >= 0"))  # has SQLite take the runs by number
        for source in others:
            joins.append(Sql(f"cross join {source.table} {source.alias}"))
            where += [source.at_run(), *source.where]
        if ordering.needs_experiment(self._columns):
            joins.append(Sql("cross join experiment e"))
            where.append(Sql("e.number = r.experiment"))
        for source in self._sources:
            if not source.required:
                at_run = source.at_run()
                text = f"left join {source.table} {source.alias} on {at_run.text}"
                joins.append(Sql(text, at_run.binds))
        return joins, where


def _of_run(query: RunQuery) -> list[Sql]:
    conditions = []
    if query.lifecycle != "all":
        conditions.append(Sql("r.lifecycle = ?", (query.lifecycle,)))
    if query.statuses:
        conditions.append(_one_of("r.status", query.statuses))
    return conditions


def _one_of(column: str, values: Sequence[Bind]) -> Sql:
    """A single value is compared by ``=``, so that an index can hold the runs in order."""
    if not values:
        return FALSE
    if len(values) == 1:
        return Sql(f"{column} = ?", tuple(values))
    return Sql(f"{column} in ({','.join('?' * len(values))})", tuple(values))


def _rows_of(source: Source) -> Sql:
    """The rows of a key, as far as an index can tell which ones: metrics have none by value."""
    where = [] if source.entity == "metrics" else source.where
    return _sql(f"select 1 from {source.table} {source.alias}", [], [source.of_key(), *where])  # noqa: S608  # as above


def _sql(head: str, joins: Iterable[Sql], conditions: Iterable[Sql]) -> Sql:
    joins, conditions = list(joins), list(conditions)
    text = " ".join([head, *[join.text for join in joins], _where(conditions)])
    return Sql(text, tuple(bind for part in (*joins, *conditions) for bind in part.binds))


def _where(conditions: Iterable[Sql]) -> str:
    texts = [condition.text for condition in conditions if condition != TRUE]
    return "where " + " and ".join(texts) if texts else ""
