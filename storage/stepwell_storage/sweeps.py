"""Many runs as columns: what a chart of a whole sweep needs, one statement for each key.

Ten thousand runs as objects are ten thousand dicts, and three times the bytes on their way; a chart
wants each parameter and each metric as one array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stepwell_storage import search
from stepwell_storage.database import Reader, in_list
from stepwell_storage.errors import LimitExceeded
from stepwell_storage.names import pages
from stepwell_storage.places import place
from stepwell_storage.points import INT64, Floats, Ints, from_ordered
from stepwell_storage.records import RunQuery
from stepwell_storage.statements import sql
from stepwell_storage.stretches import Mask

MAX_WORD_CHARS: Final = 250
"""A parameter's text comes cut to this: longer ones are no categories."""
MAX_TEXT_CHARS: Final = 32 * 1024 * 1024
"""Of all different texts together."""

_RUNS: Final = "select id, run_id, name from run where {which}"
_PARAMS: Final = f"select run, substr(value, 1, {MAX_WORD_CHARS}) from param where {{which}}"  # noqa: S608  # a number of this file
_METRICS: Final = "select run, last from series where {which}"
_BETWEEN: Final = "id between ? and ?"
_AMONG: Final = "id in (?*)"
_SPARSE: Final = 4
"""Where fewer than one run in so many is wanted, their rows are looked up one by one."""


@dataclass(frozen=True, slots=True)
class Texts:
    """A parameter: ``words[places[i]]`` is what run i has, -1 where it has none."""

    words: list[str]
    places: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Numbers:
    """The last values of a metric; ``present`` tells a run without it from a last value of NaN."""

    values: Floats
    present: Mask


@dataclass(frozen=True, slots=True)
class Sweep:
    """Runs in the order of their search; a key that none of them has is not there."""

    run_ids: list[str]
    names: list[str]
    params: dict[str, Texts]
    metrics: dict[str, Numbers]
    total: int | None


async def find(reader: Reader, query: RunQuery) -> Sweep:
    """The runs of a search with the parameters and metrics named by its ``keys``.

    Raises Invalid, and LimitExceeded where the texts are too much.
    """
    page = await search.matching(reader, query, query.limit)
    sweep = Sweep([], [], {}, {}, page.total)
    if not page.rows:
        return sweep
    found = _Found(reader, [row[0] for row in page.rows])
    heads = {row[0]: row[1:] for row in await found.rows(_RUNS, 0)}
    for number in found.numbers:
        run_id, name = heads[number]
        sweep.run_ids.append(run_id)
        sweep.names.append(name)
    left = MAX_TEXT_CHARS
    for key, number in await _keys(reader, query.keys or ()):
        texts = found.texts(await found.rows(_PARAMS, number))
        if texts.words:
            sweep.params[key] = texts
            left -= sum(map(len, texts.words))
        if left < 0:
            raise LimitExceeded("keys", f"these parameters have over {MAX_TEXT_CHARS} characters")
        values = found.values(await found.rows(_METRICS, number))
        if values.present.any():
            sweep.metrics[key] = values
    return sweep


async def _keys(reader: Reader, keys: Sequence[str]) -> list[tuple[str, int]]:
    """The keys that exist, each once, with their numbers."""
    wanted = list(dict.fromkeys(keys))
    known: dict[str, int] = {}
    for some in pages(wanted):
        known.update(await reader.fetch(in_list(sql.names_by_text, len(some)), some))
    return [(key, known[key]) for key in wanted if key in known]


class _Found:
    """The found runs by their numbers: reads their rows, and puts each where its run stands."""

    def __init__(self, reader: Reader, numbers: list[int]) -> None:
        self.numbers = numbers
        self._reader = reader
        self._order = np.argsort(np.array(numbers, INT64), kind="stable")
        self._sorted: Ints = np.array(numbers, INT64)[self._order]
        self._first, self._last = int(self._sorted[0]), int(self._sorted[-1])

    async def rows(self, statement: str, key: int) -> list[tuple[Any, ...]]:
        """The rows of these runs, and perhaps of some that stand between them."""
        low, high = place(key, self._first), place(key, self._last)
        if high - low < _SPARSE * len(self.numbers):
            return await self._reader.fetch(statement.replace("{which}", _BETWEEN), (low, high))
        text = statement.replace("{which}", _AMONG)
        found = []
        for some in pages(self._sorted.tolist()):
            ids = [place(key, number) for number in some]
            found += await self._reader.fetch(in_list(text, len(ids)), ids)
        return found

    def texts(self, rows: Sequence[tuple[int, str]]) -> Texts:
        at, ours = self._places(rows)
        words: dict[str, int] = {}
        numbers = [
            words.setdefault(row[1], len(words))
            for row, is_ours in zip(rows, ours.tolist(), strict=True)
            if is_ours
        ]
        places = np.full(len(self.numbers), -1, np.int32)
        places[at] = numbers
        return Texts(list(words), places)

    def values(self, rows: Sequence[tuple[int, int]]) -> Numbers:
        at, ours = self._places(rows)
        values = np.full(len(self.numbers), np.nan)
        values[at] = from_ordered(np.array([row[1] for row in rows], INT64)[ours])
        present = np.zeros(len(self.numbers), np.bool_)
        present[at] = True
        return Numbers(values, present)

    def _places(self, rows: Sequence[tuple[int, Any]]) -> tuple[Ints, Mask]:
        """Where the rows' runs stand among the found, and which rows are of a found one."""
        runs = np.array([row[0] for row in rows], INT64)
        at = np.minimum(np.searchsorted(self._sorted, runs), len(self._sorted) - 1)
        ours: Mask = self._sorted[at] == runs
        return self._order[at[ours]], ours
