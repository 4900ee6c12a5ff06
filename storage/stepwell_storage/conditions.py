"""The filter language's meaning: syntax tree -> bound SQL over the rows of a run.

Comparisons with null are null, and a null counts as false in WHERE and under AND and OR; only NOT
has to be told so, and it is carried down to the predicates.  Every value is bound: the text of a
condition is made of the words below and of nothing that a caller sent.

SQLite's parser has a stack of 100 symbols and its expressions a depth of 1,000, so a condition
stands as wide and as shallow as it can, its deepest part first.
"""

from collections.abc import Callable, Sequence
from typing import Final

from stepwell_storage import ranges
from stepwell_storage.errors import LimitExceeded
from stepwell_storage.fields import INDEXED, Meaning, Operand, Sources, Sql, operand
from stepwell_storage.filters import (
    And,
    Comparison,
    Expression,
    Group,
    In,
    IsNull,
    Not,
    Or,
    Predicate,
    Value,
)
from stepwell_storage.ranges import Number, Range
from stepwell_storage.tokens import invalid

FALSE: Final = Sql("false")
TRUE: Final = Sql("true")
_RANGES: Final[dict[Meaning, Callable[[ranges.Ordering, Number], list[Range]]]] = {
    "integer": ranges.of_integers,
    "double": ranges.of_doubles,
    "seconds": ranges.of_seconds,
}
MAX_NESTING: Final = 40
_WIDTH: Final = 8
_ESCAPE: Final = r"escape '\'"


class Compiler:
    """Conditions of one statement; ``sources`` collects the rows that they need joined."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.conditions: list[Sql] = []
        self.run_conditions: list[Sql] = []
        """Conditions for which ``run`` has an index."""

    def require(self, expression: Expression) -> None:
        """Every run found fulfils it.  Raises Invalid where a comparison makes no sense."""
        waiting = [expression]
        while waiting:
            part = waiting.pop()
            if isinstance(part, Group):
                waiting.append(part.inner)
            elif isinstance(part, And):
                waiting += reversed(part.parts)
            elif isinstance(part, Comparison | In | IsNull):
                self._require_predicate(part)
            else:
                self.conditions.append(self._condition(part))

    def _require_predicate(self, predicate: Predicate) -> None:
        condition = self._predicate(predicate)
        source = operand(predicate.field, self.sources, "filter").source
        asks_absence = isinstance(predicate, IsNull) and not predicate.negated
        if source is not None and not asks_absence:
            source.required = True
            source.where.append(condition)
        elif predicate.field.entity == "attributes" and predicate.field.key in INDEXED:
            self.run_conditions.append(condition)
        else:
            self.conditions.append(condition)

    def _condition(self, expression: Expression, *, negated: bool = False) -> Sql:
        """True of the runs that fulfil it, or do not; false or null of the others."""
        match expression:
            case Group(inner=inner):
                return self._condition(inner, negated=negated)
            case Not(inner=inner):
                return self._condition(inner, negated=not negated)
            case And(parts=parts) | Or(parts=parts):
                conditions = [self._condition(part, negated=negated) for part in parts]
                is_all = isinstance(expression, And) != negated
                return _all(conditions) if is_all else _any(conditions)
            case _:
                condition = self._predicate(expression)
                return _negation(condition) if negated else condition

    def _predicate(self, predicate: Predicate) -> Sql:
        return of_operand(operand(predicate.field, self.sources, "filter"), predicate)


def of_operand(of: Operand, predicate: Predicate) -> Sql:
    """A predicate on some columns.  Raises Invalid where they are of another type."""
    match predicate:
        case IsNull(negated=negated):
            return _null(of, negated)
        case In(values=values, negated=negated):
            parts = _membership(of, values, negated)
            condition = _all(parts) if negated else _any(parts)
        case Comparison(operator="=" | "!=" | "<" | "<=" | ">" | ">=", value=value):
            condition = _comparison(of, predicate.operator, value)
        case Comparison(operator=operator, value=value):
            condition = _pattern(of, operator, value)
    if of.absent:
        return FALSE
    return condition._replace(text=of.within.replace("{}", condition.text))


def _null(of: Operand, negated: bool) -> Sql:
    if of.absent or not of.nullable:
        return TRUE if negated != of.absent else FALSE
    return Sql(f"{of.text or of.number} is {'not ' if negated else ''}null")


def _comparison(of: Operand, operator: str, value: Value) -> Sql:
    if isinstance(value.value, str):
        sign = "<>" if operator == "!=" else operator
        return Sql(f"{_text(of, value)} {sign} ?", (value.value,))
    column = _number(of, value)
    if operator == "!=":
        return _within(column, _RANGES[of.meaning]("=", value.value), negated=True)
    ordering: ranges.Ordering = operator  # type: ignore[assignment]  # the rest are orderings
    return _within(column, _RANGES[of.meaning](ordering, value.value), negated=False)


def _membership(of: Operand, values: Sequence[Value], negated: bool) -> list[Sql]:
    parts = []
    texts = [value for value in values if isinstance(value.value, str)]
    if texts:
        word = "not in" if negated else "in"
        binds = tuple(value.value for value in texts)
        parts.append(Sql(f"{_text(of, texts[0])} {word} ({_marks(len(binds))})", binds))
    numbers = [value for value in values if not isinstance(value.value, str)]
    if numbers:
        column = _number(of, numbers[0])
        equal = _RANGES[of.meaning]
        found = {r for v in numbers if not isinstance(v.value, str) for r in equal("=", v.value)}
        parts.append(_within(column, sorted(found), negated=negated))
    return parts


def _pattern(of: Operand, operator: str, value: Value) -> Sql:
    column = _text(of, value)
    pattern = portable_pattern(str(value.value))
    negation = "not " if operator.startswith("not") else ""
    if operator.endswith("ilike"):
        column, pattern = f"lower({column})", fold(pattern)
    return Sql(f"{column} {negation}like ? {_ESCAPE}", (pattern,))


def portable_pattern(pattern: str) -> str:
    """The same pattern with every backslash that escapes nothing doubled: PostgreSQL refuses one
    at the end, and SQLite then matches nothing."""
    parts = []
    position = 0
    while position < len(pattern):
        two = pattern[position : position + 2]
        if two in ("\\%", "\\_", "\\\\"):
            parts.append(two)
            position += 2
        else:
            parts.append("\\\\" if two[0] == "\\" else two[0])
            position += 1
    return "".join(parts)


def fold(text: str) -> str:
    """Lower case as SQL's ``lower`` makes it: of the letters A to Z only."""
    return text.translate({upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)})


def _text(of: Operand, value: Value) -> str:
    if of.text is None:
        message = f"{of.what} is a number and is compared with numbers, which stand without quotes"
        raise invalid("filter", value.position, message)
    return of.text


def _number(of: Operand, value: Value) -> str:
    if of.number is None:
        message = f"{of.what} is text and is compared with text: write '{value.text[:40]}'"
        raise invalid("filter", value.position, message)
    return of.number


def _within(column: str, found: Sequence[Range], *, negated: bool) -> Sql:
    """That a column lies in one of some ranges; negated: that it has a value, in none of them."""
    if not found:
        return Sql(f"{column} is not null") if negated else FALSE
    single = tuple(low for low, high in found if low == high)
    spans = [span for span in found if span[0] < span[1]]
    parts = [Sql(f"{column} between ? and ?", span) for span in spans]
    if single:
        parts.append(Sql(f"{column} in ({_marks(len(single))})", single))
    condition = _any(parts)
    return condition._replace(text=f"not ({condition.text})") if negated else condition


def _marks(count: int) -> str:
    return ",".join("?" * count)


def _negation(condition: Sql) -> Sql:
    if condition in (TRUE, FALSE):
        return TRUE if condition == FALSE else FALSE
    return condition._replace(text=f"not coalesce({condition.text}, false)")


def _all(parts: Sequence[Sql]) -> Sql:
    return FALSE if FALSE in parts else _joined("and", [p for p in parts if p != TRUE]) or TRUE


def _any(parts: Sequence[Sql]) -> Sql:
    return TRUE if TRUE in parts else _joined("or", [p for p in parts if p != FALSE]) or FALSE


def _joined(word: str, parts: list[Sql]) -> Sql | None:
    """None of no parts."""
    while len(parts) > 1:
        parts.sort(key=lambda part: part.depth)
        some, parts = parts[:_WIDTH], parts[_WIDTH:]
        depth = some[-1].depth + 1
        if depth > MAX_NESTING:
            raise LimitExceeded("filter", f"AND and OR nested deeper than {MAX_NESTING}")
        some.insert(0, some.pop())
        text = f" {word} ".join(part.text for part in some)
        parts.append(Sql(f"({text})", tuple(b for part in some for b in part.binds), depth))
    return parts[0] if parts else None
