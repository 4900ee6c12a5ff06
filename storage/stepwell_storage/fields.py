"""What a filter and an order may look at: attributes of a run, and the rows of its keys.

A run stands in a statement as ``r``.  Each metric, parameter or tag that is mentioned is a
:class:`Source`: one row of ``series``, ``param`` or ``tag`` joined to ``r``, all null where the run
has no such key.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from stepwell_storage.database import Bind
from stepwell_storage.errors import LimitExceeded
from stepwell_storage.filters import Aggregate, Entity, Field
from stepwell_storage.places import place, places_of
from stepwell_storage.tokens import invalid

MAX_SOURCES: Final = 50
"""SQLite joins at most 64 tables."""

Meaning = Literal["text", "integer", "double", "seconds"]
_TABLES: Final[dict[Entity, str]] = {"metrics": "series", "params": "param", "tags": "tag"}


class Sql(NamedTuple):
    """A piece of a statement, what its ``?`` stand for, and how deep its parentheses nest."""

    text: str
    binds: tuple[Bind, ...] = ()
    depth: int = 0


class Attribute(NamedTuple):
    """``sql`` is its value in terms of ``r``; ``within`` is what a predicate on it stands in.

    A column that has an index is written ``+r.column``, which keeps SQLite from choosing that
    index by a guess; :func:`indexed` lets it.
    """

    sql: str
    meaning: Meaning
    nullable: bool = False
    within: str = "{}"


_IN_EXPERIMENT: Final = "+r.experiment in (select e.number from experiment e where {})"
_USING: Final = (
    "r.id in (select u.run from dataset_use u join dataset d on d.id = u.dataset where {})"
)
_ARTIFACT_URI: Final = (
    "(coalesce(e.artifact_location, 'mlflow-artifacts:/' || cast(e.number as text))"
    " || '/' || r.run_id || '/artifacts')"
)
_NAME: Final = Attribute("r.name", "text")
_START: Final = Attribute("+r.start_time", "integer")
# The difference of two int64 may be none.  Times of 73 million years and more have no duration.
_FAR: Final = 2**61
_DURATION: Final = Attribute(
    f"(case when r.end_time between -{_FAR} and {_FAR} and r.start_time between -{_FAR} and {_FAR}"
    " then r.end_time - r.start_time end)",
    "seconds",
    nullable=True,
)
ATTRIBUTES: Final = {
    "run_id": Attribute("r.run_id", "text"),
    "name": _NAME,
    "run_name": _NAME,
    "run name": _NAME,
    "Run name": _NAME,
    "Run Name": _NAME,
    "status": Attribute("r.status", "text"),
    "user_id": Attribute("r.user_id", "text", nullable=True),
    "parent_run_id": Attribute("r.parent_run_id", "text", nullable=True),
    "description": Attribute("r.description", "text"),
    "lifecycle": Attribute("r.lifecycle", "text"),
    "experiment": Attribute("e.name", "text", within=_IN_EXPERIMENT),
    "experiment_id": Attribute("e.experiment_id", "text", within=_IN_EXPERIMENT),
    "start_time": _START,
    "created": _START,
    "end_time": Attribute("r.end_time", "integer", nullable=True),
    "artifact_uri": Attribute(_ARTIFACT_URI, "text", within=_IN_EXPERIMENT),
    "heartbeat_at": Attribute("r.heartbeat_at", "integer"),
    "duration": _DURATION,
    "duration_seconds": _DURATION,
}
DATASETS: Final = {
    "name": Attribute("d.name", "text", within=_USING),
    "digest": Attribute("d.digest", "text", within=_USING),
    "context": Attribute(
        "t.value",
        "text",
        within="r.id in (select t.run from dataset_use_tag t"
        " where t.name = 'mlflow.data.context' and {})",
    ),
}
"""True of a run when any of its datasets is so."""
_COLUMNS: Final[dict[Aggregate | None, str]] = {
    None: "last",
    "last": "last",
    "min": "low",
    "max": "high",
    "count": "count",
}
INDEXED: Final = frozenset(
    ("run_id", "parent_run_id", "start_time", "created", "experiment", "experiment_id")
)


def attribute(found: Field, path: str) -> Attribute:
    """Raises Invalid, which lists the attributes."""
    known = ATTRIBUTES.get(found.key)
    if known is None:
        names = ", ".join(name for name in ATTRIBUTES if name.islower() and " " not in name)
        message = f"unknown attribute {found.key[:40]}: the attributes are {names}"
        raise invalid(path, found.position, message)
    return known


def dataset(found: Field, path: str) -> Attribute:
    """Raises Invalid, which lists what can be asked of datasets."""
    known = DATASETS.get(found.key)
    if known is None:
        message = f"unknown key {found.key[:40]} of datasets: there are {', '.join(DATASETS)}"
        raise invalid(path, found.position, message)
    return known


def indexed(condition: Sql) -> Sql:
    """The same condition with leave to use an index of ``run``."""
    return condition._replace(text=condition.text.replace("+r.", "r."))


@dataclass(slots=True)
class Source:
    """One key's row of each run.  A run must have it if ``required``, and fulfil ``where``."""

    entity: Entity
    key: int
    alias: str
    required: bool = False
    where: list[Sql] = field(default_factory=list)

    @property
    def table(self) -> str:
        return _TABLES[self.entity]

    def at_run(self) -> Sql:
        """That it is the row of ``r``."""
        return Sql(f"{self.alias}.id = r.id + ?", (place(self.key, 0),))

    def of_key(self) -> Sql:
        """That it is the row of any run."""
        if self.entity == "metrics":
            return self.by_run()
        return Sql(f"{self.alias}.key = ?", (self.key,))  # what the indexes by value begin with

    def by_run(self) -> Sql:
        """The same, in the order of the runs."""
        return Sql(f"{self.alias}.id between ? and ?", places_of(self.key))

    def beside(self, other: "Source") -> Sql:
        """That it is the row of the same run as ``other``."""
        apart = place(self.key, 0) - place(other.key, 0)
        return Sql(f"{self.alias}.id = {other.alias}.id + ?", (apart,))

    def run_is(self) -> Sql:
        """That ``r`` is the run of its row."""
        return Sql(f"r.id = {self.alias}.id - ?", (place(self.key, 0),))


class Sources:
    """The rows that a statement joins.  ``names`` holds the numbers of the keys that exist."""

    def __init__(self, names: Mapping[str, int]) -> None:
        self._names = names
        self._found: dict[tuple[Entity, int], Source] = {}

    def __iter__(self) -> Iterator[Source]:
        return iter(self._found.values())

    def find(self, found: Field, path: str) -> Source | None:
        """None where no run can have such a key.  Raises LimitExceeded."""
        number = self._names.get(found.key)
        if number is None:
            return None
        place = (found.entity, number)
        if place not in self._found:
            if len(self._found) == MAX_SOURCES:
                raise LimitExceeded(path, f"more than {MAX_SOURCES} different keys")
            self._found[place] = Source(*place, alias=f"{found.entity[0]}{len(self._found)}")
        return self._found[place]


class Operand(NamedTuple):
    """The values of a field: ``text``, ``number`` or both are SQL.  ``what`` names it in errors.

    ``absent``: no run can have it, whatever the SQL says.
    """

    what: str
    text: str | None
    number: str | None
    meaning: Meaning
    nullable: bool = True
    within: str = "{}"
    source: Source | None = None
    absent: bool = False


_NO_TEXT: Final = "cast(null as text)"
_NO_NUMBER: Final = "cast(null as bigint)"


def operand(found: Field, sources: Sources, path: str) -> Operand:
    """Raises Invalid, which names the character, and LimitExceeded."""
    if found.entity == "attributes":
        known = attribute(found, path)
        is_text = known.meaning == "text"
        text, number = (known.sql, None) if is_text else (None, known.sql)
        return Operand(found.key, text, number, known.meaning, known.nullable, known.within)
    if found.entity == "datasets":
        known = dataset(found, path)
        return Operand(found.key, known.sql, None, "text", False, known.within)
    source = sources.find(found, path)
    absent = source is None
    value = f"{source.alias}.value" if source else _NO_TEXT
    if found.entity == "metrics":
        column = f"{source.alias}.{_COLUMNS[found.aggregate]}" if source else _NO_NUMBER
        meaning: Meaning = "integer" if found.aggregate == "count" else "double"
        return Operand("a metric", None, column, meaning, source=source, absent=absent)
    if found.entity == "tags":
        return Operand("a tag", value, None, "text", source=source, absent=absent)
    number = f"{source.alias}.number" if source else _NO_NUMBER
    return Operand("a parameter", value, number, "double", source=source, absent=absent)
