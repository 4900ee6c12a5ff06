"""The filter language a second time: pairs of a text and the plain Python that it must mean.

Nothing here is shared with the product: texts are written by hypothesis, and each comes with a
function that decides about one :class:`~tests.storage.run_sets.Logged`.
"""

import math
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.storage.run_sets import (
    EXPERIMENTS,
    METRICS,
    PARAMS,
    STATUSES,
    TAGS,
    TEXTS,
    TIMES,
    VALUES,
    Logged,
)

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
Get = Callable[[Logged], Any]


class Case(NamedTuple):
    """``level``: 0 binds tightest (a predicate), 1 NOT, 2 AND, 3 OR."""

    text: str
    holds: Callable[[Logged], bool]
    level: int = 0


# --- what a run has ------------------------------------------------------------------------------


def metric(run: Logged, key: str, aggregate: str) -> float | int | None:
    values = run.metrics.get(key)
    if values is None:
        return None
    if aggregate == "last":
        return values[-1]
    if aggregate == "count":
        return len(values)
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return None
    pick = min if aggregate == "min" else max
    return pick(numbers, key=lambda number: (number, math.copysign(1, number)))


def as_number(text: str | None) -> float | None:
    """A parameter's number: what is written like one, and is finite."""
    if text is None or not NUMBER.fullmatch(text) or math.isinf(float(text)):
        return None
    return float(text)


def seconds(run: Logged) -> float | None:
    """Milliseconds / 1000, as the API says it; none where the times are beyond all sense."""
    if run.end_time is None or max(abs(run.start_time), abs(run.end_time)) > 2**61:
        return None
    return (run.end_time - run.start_time) / 1000


def compare(sign: str, have: Any, wanted: Any) -> bool:
    """A comparison with nothing is false; NaN equals NaN, and is not ordered."""
    if have is None:
        return False
    both_nan = have != have and wanted != wanted
    if sign == "=":
        return both_nan or bool(have == wanted)
    if sign == "!=":
        return not both_nan and bool(have != wanted)
    return COMPARE[sign](have, wanted)


def like(text: str | None, pattern: str, *, fold: bool) -> bool:
    if text is None:
        return False
    if fold:
        text, pattern = ascii_lower(text), ascii_lower(pattern)
    parts = re.findall(r"\\[%_\\]|.", pattern, re.DOTALL)
    meaning = {"%": ".*", "_": "."}
    regex = "".join(meaning.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(regex, text, re.DOTALL) is not None


def ascii_lower(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)


# --- how it is written ---------------------------------------------------------------------------


@st.composite
def quoted(draw: st.DrawFn, text: str, quotes: str) -> str:
    """Any of the ways to write a text in quotes."""
    quote = draw(st.sampled_from(quotes))
    inner = ""
    for char in text:
        if char == quote:
            inner += draw(st.sampled_from([char * 2, f"\\{char}"]))
        elif char == "\\":
            inner += "\\\\"
        else:
            inner += char
    return quote + inner + quote


@st.composite
def any_case(draw: st.DrawFn, word: str) -> str:
    return draw(st.sampled_from([word.lower(), word.upper(), word.capitalize()]))


@st.composite
def keyed(draw: st.DrawFn, entity: str, key: str) -> str:
    aliases = {
        "metrics": ["metrics", "metric"],
        "params": ["params", "param", "parameters", "parameter"],
        "tags": ["tags", "tag"],
        "attributes": ["attributes", "attribute", "attr", "run"],
    }
    plain = re.fullmatch(r"[\w.\-/:]+", key) is not None
    is_plain = plain and draw(st.booleans())
    return f"{draw(st.sampled_from(aliases[entity]))}." + (
        key if is_plain else draw(quoted(key, '"`'))
    )


def number_text(value: float) -> st.SearchStrategy[str]:
    if value != value or value in (math.inf, -math.inf):
        spellings = {"nan": ["nan", "NaN"], "inf": ["inf", "Infinity", "+inf"], "-inf": ["-inf"]}
        return st.sampled_from(spellings[str(value)])
    texts = [repr(value)]
    if isinstance(value, float):
        texts += [f"{value:.17e}", f"+{value!r}" if math.copysign(1, value) > 0 else repr(value)]
    return st.sampled_from(texts)


NUMBERS = st.sampled_from([*VALUES, 0, 1, 3, 10, 9, 2**53 + 1, -(2**53) - 1, 10**30, 0.29999]) | (
    st.integers(-3, 3) | st.floats()
)
STRINGS = st.sampled_from(TEXTS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3
)
PATTERNS = STRINGS | st.text("aA%_\\éx0 ", max_size=6)


# --- predicates ----------------------------------------------------------------------------------


@st.composite
def numeric(draw: st.DrawFn, field: str, get: Get, numbers: st.SearchStrategy[Any]) -> Case:
    """Comparisons, lists and null tests of something that is a number."""
    if draw(st.booleans()):
        sign, wanted = draw(st.sampled_from(list(COMPARE))), draw(numbers)
        space = draw(st.sampled_from(["", " "]))
        text = f"{field}{space}{sign}{space}{draw(number_text(wanted))}"
        return Case(text, lambda run: compare(sign, get(run), wanted))
    some = draw(st.lists(numbers, min_size=1, max_size=4))
    return draw(listed(field, get, [(draw(number_text(n)), n) for n in some]))


@st.composite
def listed(draw: st.DrawFn, field: str, get: Get, values: list[tuple[str, Any]]) -> Case:
    negated = draw(st.booleans())
    word = draw(any_case("not")) + " " if negated else ""
    text = f"{field} {word}{draw(any_case('in'))} ({', '.join(text for text, _ in values)})"
    sign, combine = ("!=", all) if negated else ("=", any)
    return Case(text, lambda run: combine(compare(sign, get(run), value) for _, value in values))


@st.composite
def textual(draw: st.DrawFn, field: str, get: Get, strings: st.SearchStrategy[str]) -> Case:
    """The same of something that is a text, and patterns."""
    kind = draw(st.sampled_from(["compare", "in", "like"]))
    if kind == "compare":
        sign, wanted = draw(st.sampled_from(list(COMPARE))), draw(strings)
        text = f"{field} {sign} {draw(quoted(wanted, chr(39) + chr(34)))}"
        return Case(text, lambda run: compare(sign, get(run), wanted))
    if kind == "in":
        some = draw(st.lists(strings, min_size=1, max_size=4))
        return draw(listed(field, get, [(draw(quoted(s, "'\"")), s) for s in some]))
    pattern, fold = draw(PATTERNS), draw(st.booleans())
    negated = draw(st.booleans())
    words = [draw(any_case("not"))] if negated else []
    words.append(draw(any_case("ilike" if fold else "like")))
    text = f"{field} {' '.join(words)} {draw(quoted(pattern, chr(39) + chr(34)))}"

    def holds(run: Logged) -> bool:
        have = get(run)
        return have is not None and like(have, pattern, fold=fold) != negated

    return Case(text, holds)


@st.composite
def null_test(draw: st.DrawFn, field: str, get: Get) -> Case:
    negated = draw(st.booleans())
    words = [
        draw(any_case(word)) for word in (["is", "not", "null"] if negated else ["is", "null"])
    ]
    return Case(f"{field} {' '.join(words)}", lambda run: (get(run) is None) != negated)


@st.composite
def of_metric(draw: st.DrawFn) -> Case:
    key = draw(st.sampled_from([*METRICS, "unknown"]))
    aggregate = draw(st.sampled_from(["", "last", "min", "max", "count"]))
    name = draw(keyed("metrics", key))
    field = f"{draw(any_case(aggregate))}({name})" if aggregate else name

    def get(run: Logged) -> float | None:
        return metric(run, key, aggregate or "last")

    return draw(st.one_of(numeric(field, get, NUMBERS), null_test(field, get)))


@st.composite
def of_param(draw: st.DrawFn) -> Case:
    key = draw(st.sampled_from([*PARAMS, "unknown"]))
    field = draw(keyed("params", key))

    def text(run: Logged) -> str | None:
        return run.params.get(key)

    def number(run: Logged) -> float | None:
        return as_number(run.params.get(key))

    cases = [textual(field, text, STRINGS), numeric(field, number, NUMBERS), null_test(field, text)]
    return draw(st.one_of(cases))


@st.composite
def of_tag(draw: st.DrawFn) -> Case:
    key = draw(st.sampled_from([*TAGS, "unknown"]))
    field = draw(keyed("tags", key))

    def get(run: Logged) -> str | None:
        return run.tags.get(key)

    return draw(st.one_of(textual(field, get, STRINGS), null_test(field, get)))


TEXT_ATTRIBUTES: dict[str, tuple[Get, list[str]]] = {
    "run_id": (lambda run: run.run_id, [f"{1:032x}"]),
    "name": (lambda run: run.name, TEXTS),
    "run_name": (lambda run: run.name, TEXTS),
    "Run Name": (lambda run: run.name, TEXTS),
    "status": (lambda run: run.status, STATUSES),
    "user_id": (lambda run: run.user_id, TEXTS),
    "parent_run_id": (lambda run: run.parent_run_id, [f"{1:032x}", f"{2:032x}"]),
    "description": (lambda run: run.description, TEXTS),
    "lifecycle": (lambda run: run.lifecycle, ["active", "deleted"]),
    "experiment": (lambda run: run.experiment, EXPERIMENTS),
    "experiment_id": (lambda run: run.experiment_id, TEXTS),
}
NUMBER_ATTRIBUTES: dict[str, tuple[Get, list[int] | list[float]]] = {
    "start_time": (lambda run: run.start_time, TIMES),
    "created": (lambda run: run.start_time, TIMES),
    "end_time": (lambda run: run.end_time, TIMES),
    "heartbeat_at": (lambda run: run.heartbeat_at, TIMES),
    "duration": (seconds, [0.001, 0.999, 1, 0, -1, 1_707_723_599.001, 1_707_723_600]),
    "duration_seconds": (seconds, [0.001, 0.999, 1, 0, -1, 1_707_723_599.001]),
}


@st.composite
def of_attribute(draw: st.DrawFn) -> Case:
    key = draw(st.sampled_from([*TEXT_ATTRIBUTES, *NUMBER_ATTRIBUTES]))
    bare = key if key.isidentifier() else f"`{key}`"
    field = draw(st.one_of(st.just(bare), keyed("attributes", key)))
    if key in TEXT_ATTRIBUTES:
        get, texts = TEXT_ATTRIBUTES[key]
        return draw(st.one_of(textual(field, get, st.sampled_from(texts)), null_test(field, get)))
    get, numbers = NUMBER_ATTRIBUTES[key]
    likely = st.one_of(st.sampled_from(numbers), NUMBERS)
    return draw(st.one_of(numeric(field, get, likely), null_test(field, get)))


PREDICATES = st.one_of(of_metric(), of_param(), of_tag(), of_attribute())


# --- trees ---------------------------------------------------------------------------------------


@st.composite
def _combined(draw: st.DrawFn, inner: st.SearchStrategy[Case]) -> Case:
    """NOT, AND and OR with parentheses where they are needed, and now and then where not."""
    level = draw(st.integers(1, 3))
    parts = draw(st.lists(inner, min_size=1 if level == 1 else 2, max_size=1 if level == 1 else 4))
    texts = []
    for part in parts:
        needs = part.level > level or (part.level == level and level > 1)
        texts.append(f"({part.text})" if needs or draw(st.booleans()) else part.text)
    if level == 1:
        first = parts[0]
        return Case(f"{draw(any_case('not'))} {texts[0]}", lambda run: not first.holds(run), 1)
    word, combine = ("and", all) if level == 2 else ("or", any)
    text = texts[0]
    for another in texts[1:]:
        text += f"{draw(st.sampled_from([' ', chr(10)]))}{draw(any_case(word))} {another}"
    return Case(text, lambda run: combine(part.holds(run) for part in parts), level)


FILTERS = st.recursive(PREDICATES, _combined, max_leaves=8)
