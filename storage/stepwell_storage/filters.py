"""The filter language: text -> a small syntax tree.  docs/filters.md describes it for users.

::

    filter     = [ any ]                                          nothing: every run
    any        = all { OR all }
    all        = factor { AND factor }
    factor     = NOT factor | "(" any ")" | predicate
    predicate  = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
               | field [ NOT ] ( LIKE | ILIKE ) string
               | field [ NOT ] IN "(" value { "," value } ")"
               | field IS [ NOT ] NULL
    field      = name | ( MIN | MAX | LAST | COUNT ) "(" name ")"
    name       = [ entity "." ] key                               no entity: an attribute
    value      = string | number | NAN | INF | INFINITY

The tree holds what was written, places included, so that a front with a smaller language (MLflow's)
can walk it and refuse what it does not know; :mod:`stepwell_storage.conditions` gives it meaning.
Parsing takes time linear in the text, and its recursion is bounded by ``MAX_DEPTH``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from stepwell_storage.errors import Invalid, LimitExceeded
from stepwell_storage.tokens import Token, invalid, tokens, unquote

MAX_DEPTH: Final = 100

Entity = Literal["metrics", "params", "tags", "attributes", "datasets"]
Aggregate = Literal["last", "min", "max", "count"]
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "like", "not like", "ilike", "not ilike"]

ENTITIES: Final[dict[str, Entity]] = {
    "metrics": "metrics",
    "metric": "metrics",
    "params": "params",
    "param": "params",
    "parameters": "params",
    "parameter": "params",
    "tags": "tags",
    "tag": "tags",
    "attributes": "attributes",
    "attribute": "attributes",
    "attr": "attributes",
    "run": "attributes",
    "datasets": "datasets",
    "dataset": "datasets",
}
_AGGREGATES: Final[tuple[Aggregate, ...]] = ("last", "min", "max", "count")
_SIGNS: Final[tuple[Operator, ...]] = ("=", "!=", "<", "<=", ">", ">=")
_RESERVED: Final = frozenset(("and", "or", "not", "in", "like", "ilike", "is", "null"))
_NON_FINITE: Final = frozenset(("nan", "inf", "infinity"))
_A_FIELD: Final = "a field such as metrics.loss, params.lr, tags.team or status"


@dataclass(frozen=True, slots=True)
class Field:
    """What a predicate looks at.  ``aggregate`` is None where none was written."""

    entity: Entity
    key: str
    aggregate: Aggregate | None
    position: int


@dataclass(frozen=True, slots=True)
class Value:
    """A number or a string; ``text`` is how it was written, quotes included."""

    value: str | int | float
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Comparison:
    field: Field
    operator: Operator
    value: Value
    position: int


@dataclass(frozen=True, slots=True)
class In:
    field: Field
    values: tuple[Value, ...]
    negated: bool
    position: int


@dataclass(frozen=True, slots=True)
class IsNull:
    field: Field
    negated: bool
    position: int


@dataclass(frozen=True, slots=True)
class Not:
    inner: "Expression"
    position: int


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Expression", ...]
    position: int


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple["Expression", ...]
    position: int


@dataclass(frozen=True, slots=True)
class Group:
    """Parentheses, as they were written."""

    inner: "Expression"
    position: int


Predicate = Comparison | In | IsNull
Expression = Predicate | Not | And | Or | Group


@dataclass(frozen=True, slots=True)
class OrderItem:
    field: Field
    descending: bool


def parse(text: str) -> Expression | None:
    """The tree of a filter; None where it is empty.  Raises Invalid, which names the character."""
    parser = _Parser(text, "filter")
    if parser.token.kind == "end":
        return None
    expression = parser.any_of()
    parser.finish("AND, OR or the end")
    return expression


def parse_order(text: str) -> OrderItem:
    """One item of an order: a field, then ASC (the default) or DESC.  Raises Invalid."""
    parser = _Parser(text, "order_by")
    field = parser.field()
    descending = parser.token.keyword == "desc"
    if parser.token.keyword in ("asc", "desc"):
        parser.advance()
    parser.finish("ASC, DESC or the end")
    return OrderItem(field, descending)


def predicates(expression: Expression) -> Iterator[Predicate]:
    """Every predicate of a tree, in the order of the text."""
    match expression:
        case Not(inner=inner) | Group(inner=inner):
            yield from predicates(inner)
        case And(parts=parts) | Or(parts=parts):
            for part in parts:
                yield from predicates(part)
        case _:
            yield expression


class _Parser:
    def __init__(self, text: str, path: str) -> None:
        self._path = path
        self._tokens = tokens(text, path)
        self._next = 0
        self._depth = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._next]

    def advance(self) -> Token:
        token = self.token
        if token.kind != "end":
            self._next += 1
        return token

    def finish(self, expected: str) -> None:
        if self.token.kind != "end":
            raise self._expected(expected)

    def _expected(self, what: str) -> Invalid:
        return invalid(self._path, self.token.start, f"expected {what}, found {self.token}")

    def _take_sign(self, sign: str, expected: str) -> None:
        if not self._is_sign(sign):
            raise self._expected(expected)
        self.advance()

    def _is_sign(self, sign: str) -> bool:
        return self.token.kind == "sign" and self.token.text == sign

    def _take_word(self, word: str) -> bool:
        if self.token.keyword != word:
            return False
        self.advance()
        return True

    # --- and, or, not, parentheses ---------------------------------------------------------------

    def any_of(self) -> Expression:
        start = self.token.start
        parts = [self._all_of()]
        while self._take_word("or"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else Or(tuple(parts), start)

    def _all_of(self) -> Expression:
        start = self.token.start
        parts = [self._factor()]
        while self._take_word("and"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else And(tuple(parts), start)

    def _factor(self) -> Expression:
        start = self.token.start
        if self.token.keyword != "not" and not self._is_sign("("):
            return self._predicate()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise LimitExceeded(self._path, f"nested deeper than {MAX_DEPTH}")
        expression: Expression
        if self._take_word("not"):
            expression = Not(self._factor(), start)
        else:
            self.advance()
            expression = Group(self.any_of(), start)
            self._take_sign(")", "AND, OR or )")
        self._depth -= 1
        return expression

    # --- predicates ------------------------------------------------------------------------------

    def _predicate(self) -> Predicate:
        field = self.field()
        token = self.token
        if token.kind == "sign" and token.text in _SIGNS:
            operator = _SIGNS[_SIGNS.index(token.text)]
            self.advance()
            return Comparison(field, operator, self._value(), token.start)
        if self._take_word("is"):
            negated = self._take_word("not")
            if not self._take_word("null"):
                raise self._expected("NULL" if negated else "NULL or NOT NULL")
            return IsNull(field, negated, token.start)
        negated = self._take_word("not")
        if self._take_word("in"):
            return In(field, self._list(), negated, token.start)
        if self._take_word("like"):
            return Comparison(field, "not like" if negated else "like", self._string(), token.start)
        if self._take_word("ilike"):
            operator = "not ilike" if negated else "ilike"
            return Comparison(field, operator, self._string(), token.start)
        raise self._expected(
            "IN, LIKE or ILIKE" if negated else "a comparison such as =, < or LIKE"
        )

    def _list(self) -> tuple[Value, ...]:
        self._take_sign("(", "( and a list of values")
        values = [self._value()]
        while self._is_sign(","):
            self.advance()
            values.append(self._value())
        self._take_sign(")", ", or )")
        return tuple(values)

    def _string(self) -> Value:
        if self.token.kind != "quoted" or self.token.text[0] == "`":
            raise self._expected("a pattern in quotes")
        return self._value()

    def _value(self) -> Value:
        token = self.token
        if token.kind == "quoted" and token.text[0] != "`":
            self.advance()
            return Value(unquote(token), token.text, token.start)
        if token.kind == "number" or token.keyword in _NON_FINITE:
            self.advance()
            return Value(self._number(token), token.text, token.start)
        hint = " (text stands in quotes)" if token.kind == "word" else ""
        raise self._expected(f"a number or a text in quotes{hint}")

    def _number(self, token: Token) -> int | float:
        """An integer exactly, anything else as the nearest double, as Python reads it."""
        if not token.text.lstrip("+-").isdigit():
            return float(token.text)
        if len(token.text) > 400:  # beyond every double, and slow
            raise invalid(self._path, token.start, "a number of more than 400 digits")
        return int(token.text)

    # --- fields ----------------------------------------------------------------------------------

    def field(self) -> Field:
        token = self.token
        is_call = self._tokens[min(self._next + 1, len(self._tokens) - 1)].text == "("
        if token.kind != "word" or not is_call or token.keyword in _RESERVED:
            return self._name(None)
        if token.keyword not in _AGGREGATES:
            raise invalid(
                self._path,
                token.start,
                f"unknown function {token}: the functions are {', '.join(_AGGREGATES)}",
            )
        self.advance()
        self.advance()
        field = self._name(_AGGREGATES[_AGGREGATES.index(token.keyword)])
        if field.entity != "metrics":
            raise invalid(self._path, field.position, f"{token}() is of metrics only")
        self._take_sign(")", ")")
        return field

    def _name(self, aggregate: Aggregate | None) -> Field:
        token = self.token
        if token.kind == "quoted" and token.text[0] != "'":
            self.advance()
            return Field("attributes", unquote(token), aggregate, token.start)
        if token.kind != "word" or token.keyword in _RESERVED:
            raise self._expected(_A_FIELD)
        self.advance()
        prefix, dot, key = token.text.partition(".")
        if not dot:
            return Field("attributes", token.text, aggregate, token.start)
        entity = ENTITIES.get(prefix)
        if entity is None:
            raise invalid(
                self._path,
                token.start,
                f"unknown entity {prefix[:40]}: expected metrics, params, tags, attributes"
                " or datasets",
            )
        return Field(entity, self._key(token, key), aggregate, token.start)

    def _key(self, token: Token, key: str) -> str:
        """The key after the first dot: the rest of the word, or what is quoted right behind it."""
        following = self.token
        quoted = following.kind == "quoted" and following.start == token.end
        if quoted and not key and following.text[0] != "'":
            self.advance()
            key = unquote(following)
            if not key:
                raise invalid(self._path, following.start, "an empty key")
        elif quoted:
            raise invalid(self._path, following.start, 'quote the whole key, in " or `')
        elif not key:
            raise invalid(self._path, token.end, f'expected a key after "{token}"')
        return key
