"""What a unit of compaction hands back to the committer, which puts it in place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stepwell_storage.database import Bind


@dataclass(slots=True)
class NewChunks:
    """The columns of ``insert_chunk`` after its number, one entry a chunk; ``ends`` are six, those
    of the first and the last point."""

    runs: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    ends: list[list[int]] = field(default_factory=lambda: [[] for _ in range(6)])
    summaries: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, numbers: Sequence[int]) -> Iterator[tuple[Bind, ...]]:
        """Whole rows of the table."""
        columns = (self.runs, self.keys, self.points, *self.ends, self.summaries, self.data)
        return zip(numbers, *columns, strict=True)


@dataclass(slots=True)
class Taken:
    """Of one run in a unit: how much of its journal, and up to which row that is all of it but the
    damaged rows."""

    upto: int
    rows: int = 0
    points: int = 0


@dataclass(slots=True)
class Sealed:
    """What a unit built.

    ``corrections`` are (duplicates found, journal row up to which the count is exact now, key,
    run).  ``damaged`` are runs, with what could not be read of them and was left where it is.
    """

    journal: list[int] = field(default_factory=list)
    taken: dict[int, Taken] = field(default_factory=dict)
    """By their runs: those that the unit had room for, also where nothing of them could be read."""
    absorbed: list[int] = field(default_factory=list)
    chunks: NewChunks = field(default_factory=NewChunks)
    corrections: list[tuple[int, int, int, int]] = field(default_factory=list)
    damaged: list[tuple[int, str]] = field(default_factory=list)

    @property
    def points(self) -> int:
        return sum(taken.points for taken in self.taken.values())
