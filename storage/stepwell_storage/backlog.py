"""How much of each run waits in the journal, and whose turn compaction is."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

# A unit is worth its while from here on: several chunks' worth for a narrow run, and for a wide
# one enough points per series that its chunks are no crumbs.
UNIT_POINTS = 131_072
POINTS_PER_SERIES = 256
# A run that went quiet is compacted after this long, so that counts become exact and disk small.
QUIET_S = 5.0
OLD_S = 300.0
# A run that could not be compacted has a rest, and a longer one each time.
FIRST_REST_S = 1.0
LONGEST_REST_S = 30.0
MAX_UNIT_BYTES = 24 * 1024 * 1024
# Runs of so few points are compacted together, up to so many of them and of their series: what is
# put in place by one transaction holds acknowledgements up.
SMALL_POINTS = 4_096
UNIT_RUNS = 256
UNIT_SERIES = 2_048
MAX_JOURNAL_BYTES = 256 * 1024 * 1024
MAX_PAUSE_S = 0.25


@dataclass(slots=True)
class Waiting:
    """One run's share of the journal."""

    points: int = 0
    bytes: int = 0
    rows: int = 0
    keys: set[int] = field(default_factory=set)
    """The series that came since its last unit, as far as they are known."""
    since: float = field(default_factory=time.monotonic)
    touched: float = field(default_factory=time.monotonic)
    rests_until: float = 0.0
    rest_s: float = FIRST_REST_S
    alone: bool = False
    """A unit of it and others failed: it gets one of its own."""

    @property
    def is_small(self) -> bool:
        return self.points <= SMALL_POINTS and not self.alone

    @property
    def series(self) -> int:
        """At most so many, as far as that is known."""
        return len(self.keys) or self.points

    def urgency(self, now: float, pressure: float) -> float:
        """0 while it should wait; the greater, the sooner."""
        worth = self.points / max(UNIT_POINTS, POINTS_PER_SERIES * len(self.keys))
        full = self.bytes / MAX_UNIT_BYTES
        if worth >= 1 or full >= 1:
            return max(worth, full)
        if now - self.touched >= QUIET_S or now - self.since >= OLD_S:
            return 0.5
        return full if pressure > 0.5 else 0.0


class Backlog:
    """The journal's size, bounded: near the bound acknowledgements slow down."""

    def __init__(self, max_bytes: int = MAX_JOURNAL_BYTES) -> None:
        self._max_bytes = max_bytes
        self._runs: dict[int, Waiting] = {}
        self._stuck: set[int] = set()
        self.bytes = 0
        self.points = 0

    def load(self, rows: Iterable[tuple[int, int, int, int]]) -> None:
        """What the journal held at opening: (run, rows, points, bytes)."""
        for run, count, points, size in rows:
            self._runs[run] = Waiting(points=points, bytes=size, rows=count, touched=0.0)
            self.bytes += size
            self.points += points

    def add(self, run: int, *, rows: int, points: int, size: int, keys: Iterable[int]) -> None:
        waiting = self._runs.get(run)
        if waiting is None:
            waiting = self._runs[run] = Waiting()
        waiting.rows += rows
        waiting.points += points
        waiting.bytes += size
        waiting.keys.update(keys)
        waiting.touched = time.monotonic()
        self.bytes += size
        self.points += points
        self._stuck.discard(run)

    def forget(self, run: int) -> None:
        """A run is gone for good."""
        if waiting := self._runs.pop(run, None):
            self.bytes -= waiting.bytes
            self.points -= waiting.points
        self._stuck.discard(run)

    def remove(self, run: int, *, rows: int, points: int, size: int) -> None:
        """A unit became chunks."""
        waiting = self._runs.get(run)
        if waiting is None:  # forgotten while the unit was being put in place
            return
        waiting.rows -= rows
        waiting.points -= points
        waiting.bytes -= size
        waiting.since = time.monotonic()
        waiting.keys.clear()
        waiting.rest_s = FIRST_REST_S
        waiting.alone = False
        self.bytes -= size
        self.points -= points
        if waiting.rows <= 0:
            self.forget(run)  # and what sizes were estimated wrongly

    def give_up(self, run: int) -> None:
        """Nothing of this run can be compacted as it is (damage): leave it until more comes."""
        self._stuck.add(run)

    def part(self, runs: Sequence[int]) -> None:
        """A unit of these together failed: each gets one of its own, so that what is wrong with
        one of them is not in the others' way."""
        for run in runs:
            if waiting := self._runs.get(run):
                waiting.alone = True

    def postpone(self, run: int) -> None:
        """A unit of this run failed: others have their turn, and it is tried again later."""
        if waiting := self._runs.get(run):
            waiting.rests_until = time.monotonic() + waiting.rest_s
            waiting.rest_s = min(2 * waiting.rest_s, LONGEST_REST_S)

    def most_urgent(self, *, everything: bool = False) -> tuple[float, int] | None:
        """How urgent which run is, for the one whose turn it is; ``everything``: any with rows."""
        return max(self._due(everything), key=itemgetter(0), default=None)

    def unit(self, run: int, *, everything: bool = False) -> list[int]:
        """The run whose turn it is, and if it is a small one, others like it whose turn it is."""
        waiting = self._runs.get(run)
        if waiting is None or not waiting.is_small:
            return [run]
        chosen, series = [run], waiting.series
        for _, other in self._due(everything):
            one = self._runs[other]
            if other == run or not one.is_small or series + one.series > UNIT_SERIES:
                continue
            chosen.append(other)
            series += one.series
            if len(chosen) == UNIT_RUNS:
                break
        return chosen

    def _due(self, everything: bool) -> Iterator[tuple[float, int]]:
        """How urgent each run is whose turn it may be."""
        now = time.monotonic()
        pressure = self.bytes / self._max_bytes
        for run, waiting in self._runs.items():
            if run in self._stuck or (now < waiting.rests_until and not everything):
                continue
            urgency = waiting.urgency(now, pressure) + (1e-9 if everything else 0.0)
            if urgency > 0:
                yield urgency, run

    def pause_s(self) -> float:
        """What an append waits before its commit: nothing up to three quarters of the bound."""
        pressure = self.bytes / self._max_bytes
        return min(MAX_PAUSE_S, (pressure - 0.75) * 4 * MAX_PAUSE_S) if pressure > 0.75 else 0.0
