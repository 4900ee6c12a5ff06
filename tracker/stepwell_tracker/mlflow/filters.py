"""MLflow's filter and order grammar: what of our parser's language it knows, said in ours.

A filter is parsed by :mod:`stepwell_storage.filters`, each predicate is held against a list of
what MLflow allows, and what remains is written anew in the native language, where a status is in
lower case and a run's name is an attribute.  Everything else is refused with its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stepwell_storage.errors import Invalid
from stepwell_storage.filters import (
    And,
    Comparison,
    Field,
    In,
    IsNull,
    Predicate,
    Value,
    parse,
    parse_order,
)
from stepwell_storage.records import ListOrder
from stepwell_tracker.mlflow.errors import INVALID, Refused
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.spellings import respelt
from stepwell_tracker.mlflow.views import NOTE, RUN_NAME

_NUMBERS: Final = frozenset(("=", "!=", "<", "<=", ">", ">="))
_TEXTS: Final = frozenset(("=", "!=", "like", "ilike"))
_LISTED: Final = _TEXTS | {"in", "not in"}
_NULLABLE: Final = _TEXTS | {"is null"}
PROMPT: Final = "mlflow.prompt.is_prompt"
_RUN_NAMES: Final = ("run_name", "run name", "Run name", "Run Name")
_TIMES: Final = ("start_time", "created", "Created", "end_time")


@dataclass(frozen=True)
class Grammar:
    """Operators by entity and, for attributes and datasets, by key; ``None`` stands for any key."""

    allowed: dict[str, dict[str | None, frozenset[str]]]
    plural: bool = False
    """Whether entities are written in the plural only, and texts in single quotes only."""
    names: dict[str, str] = field(default_factory=dict)
    """Attributes that are called otherwise in the native language."""
    orders: tuple[str, ...] = ()
    """The attributes that a small table is ordered by."""


RUNS: Final = Grammar(
    {
        "metrics": {None: _NUMBERS},
        "params": {None: _NULLABLE},
        "tags": {None: _NULLABLE},
        "datasets": dict.fromkeys(("name", "digest", "context"), _LISTED),
        "attributes": {
            **dict.fromkeys((*_RUN_NAMES, "user_id", "status", "artifact_uri"), _TEXTS),
            "run_id": _LISTED,
            **dict.fromkeys(_TIMES, _NUMBERS),
        },
    },
    names={**dict.fromkeys(_RUN_NAMES, "name"), "Created": "created"},
)
EXPERIMENTS: Final = Grammar(
    {
        "tags": {None: _NULLABLE},
        "attributes": {
            "name": _TEXTS,
            "experiment_id": frozenset(("=", "!=", "in", "not in")),
            "creation_time": _NUMBERS,
            "last_update_time": _NUMBERS,
        },
    },
    orders=("name", "experiment_id", "creation_time", "last_update_time"),
)
REGISTERED_MODELS: Final = Grammar(
    {"tags": {None: _TEXTS}, "attributes": {"name": _LISTED}},
    names={"timestamp": "last_updated_timestamp"},
    orders=("name", "timestamp", "last_updated_timestamp"),
)
MODEL_VERSIONS: Final = Grammar(
    {
        "tags": {None: _TEXTS},
        "attributes": {
            "name": _LISTED,
            "run_id": _LISTED,
            "source_path": _TEXTS,
            "version_number": _NUMBERS,
        },
    },
    orders=("name", "version_number", "creation_timestamp", "last_updated_timestamp"),
)
MODELS: Final = Grammar(
    {
        "metrics": {None: _NUMBERS},
        "params": {None: _LISTED},
        "tags": {None: _LISTED},
        "attributes": {
            **dict.fromkeys(("name", "model_id", "model_type", "status", "source_run_id"), _LISTED),
            **dict.fromkeys(
                ("creation_timestamp", "creation_time", "last_updated_timestamp",
                 "last_updated_time"), _NUMBERS,
            ),
        },
    },
    plural=True,
)  # fmt: skip


def translated(text: str, grammar: Grammar) -> str:
    """The filter in the native language.  Raises Refused."""
    text = respelt(text)
    return " and ".join(_predicate(one, text, grammar) for one in _clauses(text))


def is_prompt(tags: Mapping[str, str]) -> bool:
    """Whether these are the tags of a prompt, and not of a model."""
    return tags.get(PROMPT, "").lower() == "true"


def without_prompts(text: str, grammar: Grammar) -> str:
    """A filter of the registry, in which prompts stand only for those who ask for them.

    MLflow keeps prompts as registered models with a tag, which models do not have at all; so what a
    filter says of that tag is the question itself.  Raises Refused.
    """
    found = []
    wanted = False
    text = respelt(text)
    for one in _clauses(text):
        written = _predicate(one, text, grammar)
        if one.field.entity == "tags" and one.field.key == PROMPT and isinstance(one, Comparison):
            asked = (one.operator, str(one.value.value).lower())
            wanted = wanted or asked in (("=", "true"), ("!=", "false"))
        else:
            found.append(written)
    found.append(f"{'' if wanted else 'not '}tags.\"{PROMPT}\" ilike 'true'")
    return " and ".join(found)


def run_order(items: Sequence[str]) -> tuple[str, ...]:
    """The order of runs, completed by the start time as MLflow does.  Raises Refused."""
    found = []
    for text in items:
        try:
            item = parse_order(respelt(text))
        except Invalid as error:
            raise Refused(INVALID, f"Invalid order_by clause '{text[:200]}': {error}") from None
        of = item.field
        if of.entity == "datasets" or of.aggregate or _operators(of, RUNS) is None:
            raise Refused(INVALID, f"Invalid order_by clause '{text[:200]}': unknown key")
        found.append(f"{_name(of, RUNS)} {'desc' if item.descending else 'asc'}")
    if not any(of.startswith(('attributes."start_time"', 'attributes."created"')) for of in found):
        found.append('attributes."start_time" desc')
    return tuple(found)


def list_order(
    items: Sequence[str], grammar: Grammar, ties: Sequence[str] = ()
) -> tuple[ListOrder, ...]:
    """The order of a small table; ``ties`` are appended where they are not named yet.

    Raises Refused.
    """
    found: dict[str, ListOrder] = {}
    for text in items:
        order = _list_order(text, grammar)
        if order.text in found:
            raise Refused(INVALID, f"Invalid order_by clause '{text[:200]}': it stands twice")
        found[order.text] = order
    for text in ties if items else ():
        order = _list_order(text, grammar)
        found.setdefault(order.text, order)
    return tuple(found.values())


def _list_order(text: str, grammar: Grammar) -> ListOrder:
    try:
        item = parse_order(text)
    except Invalid as error:
        raise Refused(INVALID, f"Invalid order_by clause '{text[:200]}': {error}") from None
    of = item.field
    if of.entity != "attributes" or of.aggregate or of.key not in grammar.orders:
        why = f"unknown key, valid keys are {', '.join(grammar.orders)}"
        raise Refused(INVALID, f"Invalid order_by clause '{text[:200]}': {why}")
    return ListOrder(_name(of, grammar), item.descending)


def model_order(items: Sequence[Fields]) -> tuple[ListOrder, ...]:
    """From objects with ``field_name``, ``ascending`` and a dataset.  Raises Refused."""
    found = []
    for item in items:
        text = item.text("field_name")
        try:
            of = parse_order(text).field
        except Invalid as error:
            raise Refused(INVALID, f"Invalid order by field name: {text[:200]}: {error}") from None
        wrong = of.aggregate or of.entity not in ("attributes", "metrics")
        if wrong or _operators(of, MODELS) is None:
            raise Refused(INVALID, f"Invalid order by field name: {text[:200]}")
        found.append(
            ListOrder(
                _name(of, MODELS),
                descending=item.has("ascending") and not item.flag("ascending"),
                dataset_name=item.optional_text("dataset_name"),
                dataset_digest=item.optional_text("dataset_digest"),
            )
        )
    return tuple(found)


def _clauses(text: str) -> list[Predicate]:
    """Raises Refused."""
    if text and not text.strip():
        raise Refused(INVALID, f"Invalid filter '{text[:500]}'. Could not be parsed.")
    try:
        expression = parse(text)
    except Invalid as error:
        raise _refused(text, str(error)) from None
    if expression is None:
        return []
    parts = expression.parts if isinstance(expression, And) else (expression,)
    found: list[Predicate] = []
    for part in parts:
        if not isinstance(part, Comparison | In | IsNull):
            raise _refused(text, "clauses are connected by AND, without OR, NOT or parentheses")
        found.append(part)
    return found


def _predicate(predicate: Predicate, text: str, grammar: Grammar) -> str:
    of = predicate.field
    operators = _operators(of, grammar)
    if of.aggregate or operators is None:
        raise _refused(text, f"unknown key at character {of.position + 1}")
    if grammar.plural and not _is_plural(of, text):
        raise _refused(text, f"at character {of.position + 1}: write attributes, metrics, params")
    operator = _operator(predicate)
    if operator not in operators:
        shown = operator.upper()
        raise _refused(text, f"{shown} at character {predicate.position + 1} does not apply here")
    numeric = operators is _NUMBERS
    for value in _values(predicate):
        _check(value, text, numeric=numeric, single=grammar.plural)
    if of.entity == "tags" and of.key == NOTE and grammar is RUNS:
        return _note(predicate)
    if of.entity == "tags" and of.key == RUN_NAME and grammar is RUNS and operator == "is null":
        return f"attributes.name is {'not ' if predicate.negated else ''}null"  # type: ignore[union-attr]  # it is IsNull
    return _written(predicate, _name(of, grammar))


def _operators(of: Field, grammar: Grammar) -> frozenset[str] | None:
    keys = grammar.allowed.get(of.entity, {})
    return keys.get(None) or keys.get(of.key)


def _operator(predicate: Predicate) -> str:
    match predicate:
        case IsNull():
            return "is null"
        case In(negated=negated):
            return "not in" if negated else "in"
        case Comparison(operator=operator):
            return operator


def _values(predicate: Predicate) -> Sequence[Value]:
    match predicate:
        case Comparison(value=value):
            return (value,)
        case In(values=values):
            return values
        case IsNull():
            return ()


def _check(value: Value, text: str, *, numeric: bool, single: bool) -> None:
    place = f"at character {value.position + 1}"
    is_text = isinstance(value.value, str)
    if numeric and (is_text or value.text[0] == "+" or not re.search("[0-9]", value.text)):
        raise _refused(text, f"{place}: expected a number without quotes, found {value.text[:60]}")
    if not numeric and not is_text:
        raise _refused(text, f"{place}: expected a text in quotes, found {value.text[:60]}")
    if single and is_text and value.text[0] != "'":
        raise _refused(text, f"{place}: texts stand in single quotes here")


def _is_plural(of: Field, text: str) -> bool:
    written = text[of.position :]
    return (
        of.entity == "attributes"
        and "." not in written.split(maxsplit=1)[0].split("=")[0]
        or (written.startswith(of.entity + "."))
    )


def _written(predicate: Predicate, name: str) -> str:
    """The predicate in the native language, about the field of this name."""
    is_status = name == 'attributes."status"'
    match predicate:
        case IsNull(negated=negated):
            return f"{name} is {'not ' if negated else ''}null"
        case In(values=values, negated=negated):
            listed = ", ".join(_literal(value, is_status=is_status) for value in values)
            return f"{name} {'not ' if negated else ''}in ({listed})"
        case Comparison(operator=operator, value=value):
            is_pattern = operator in ("like", "ilike")
            literal = _literal(value, is_status=is_status, is_pattern=is_pattern)
            return f"{name} {operator} {literal}"


def _literal(value: Value, *, is_status: bool = False, is_pattern: bool = False) -> str:
    """A status is stored in the other case, so that only one in upper case is ever equal.

    A backslash is itself, as in MLflow; a doubled quote is one, which MLflow's language lacks: it
    has no way to write a text with both kinds of quotes.
    """
    if not isinstance(value.value, str):
        return value.text
    text = value.text[1:-1].replace(value.text[0] * 2, value.text[0])
    if is_status:
        text = text.swapcase()
    if is_pattern:
        text = text.replace("\\", "\\\\")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _name(of: Field, grammar: Grammar) -> str:
    if of.entity == "tags" and of.key == RUN_NAME and grammar is RUNS:
        return 'attributes."name"'
    key = grammar.names.get(of.key, of.key) if of.entity == "attributes" else of.key
    return f'{of.entity}."' + key.replace("\\", "\\\\").replace('"', '""') + '"'


def _note(predicate: Predicate) -> str:
    """The note is the run's description, absent where that is empty."""
    if isinstance(predicate, IsNull):
        return f"attributes.description {'!=' if predicate.negated else '='} ''"
    written = _written(predicate, "attributes.description")
    return f"attributes.description != '' and {written}"


def _refused(text: str, why: str) -> Refused:
    return Refused(INVALID, f"Invalid clause(s) in filter string: '{text[:500]}': {why}")
