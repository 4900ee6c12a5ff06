"""What the engine counts about itself: plain numbers, for whoever wants to show them.

One :class:`Meters` belongs to a store and outlives its tenants' eviction, so that its numbers only
grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Distribution:
    """How often values fell at or below each of ``bounds`` (ascending), and above them all.

    ``counts`` are those of the stretches between the bounds, not cumulated.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class Meters:
    """Counters of one store since it was opened."""

    commit_seconds: Distribution = field(default_factory=lambda: Distribution(SECONDS))
    """Of each commit group, from its first statement to the end of its sync."""
    group_jobs: Distribution = field(default_factory=lambda: Distribution(SIZES))
    """Requests in each commit group."""
    points: int = 0
    """Accepted, duplicates included."""
    refused_busy: int = 0
    unit_seconds: Distribution = field(default_factory=lambda: Distribution(SECONDS))
    """Of each unit of compaction."""
    unit_points: int = 0
