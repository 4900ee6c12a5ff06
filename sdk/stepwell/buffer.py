"""What a run has logged and nobody has written down yet.  A logging call ends here.

The hot path makes no object that the garbage collector tracks, takes no lock and does no I/O: the
values are packed by one C call, which also refuses what is no number, and one more C call appends
the row.  Both are atomic: a signal handler, another thread or a KeyboardInterrupt finds whole rows
only.  Rows of the same keys lie together, so turning them into columns is a strided copy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from operator import index
from struct import Struct as Layout
from typing import Any, Final

from msgspec import Struct

from stepwell import checks
from stepwell.courtesy import writers
from stepwell.errors import WrongUse
from stepwell.records import (
    CELL,
    AnyRecord,
    Console,
    File,
    Points,
    count,
    frame,
    frame_of_rows,
)

MAX_SHAPES: Final = 512
MAX_LOOSE: Final = 1_000
BULKY: Final = (Points, Console, File)
"""What the spool's bound stops."""
STALL_S: Final = 0.1
"""How long a full buffer waits for a write that is under way; a longer stall is not waited for."""


class RunMetrics(Struct, frozen=True):
    """Metrics with the step and time they belong to; accepted wherever a dict of metrics is."""

    values: Mapping[str, Any]
    step: int | None = None
    timestamp: Any = None


class Shape:
    """The rows of one tuple of keys."""

    __slots__ = ("keys", "pack", "rows", "width")

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.width = len(keys)
        self.pack = Layout(f"<qq{len(keys)}d").pack
        self.rows = bytearray()

    def count_of(self, rows: bytes | bytearray) -> int:
        """How many points some rows of this shape are."""
        return len(rows) // (CELL * (self.width + 2)) * self.width


Write = Callable[[list[bytes], int, bool], bool]
"""Takes whole frames in pieces, how many things they hold, and whether they are essential."""


class Buffer:
    """Any thread adds; whoever holds the lock drains.  ``spill`` is called when it is full."""

    __slots__ = (
        "_begun",
        "_loose",
        "_shapes",
        "_spill",
        "_stalled",
        "_taken",
        "_wrong",
        "busy",
        "lock",
        "next_step",
        "points",
        "room",
    )

    def __init__(
        self, room: int, spill: Callable[[], object], wrong: Callable[[WrongUse], None]
    ) -> None:
        self.room = room
        self.points = 0
        self.next_step = 0
        self._spill = spill
        self._wrong = wrong
        self._begun = False
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._loose: list[AnyRecord] = []
        # Reentrant, since an interrupt may hit its holder anywhere; a handler on top sees ``busy``.
        self.lock = threading.RLock()
        self.busy = False
        self._stalled = False
        self._taken = 0

    def successor(self) -> Buffer:
        """An empty one that counts on, for a forked child, where nobody would free the lock."""
        buffer = Buffer(0, self._spill, self._wrong)
        buffer.next_step, buffer._begun = self.next_step, self._begun
        return buffer

    def add(self, metrics: Any, step: Any = None, timestamp: Any = None) -> None:
        """Log some values.  Raises nothing that it finds wrong: that goes to ``wrong``."""
        at = None
        try:
            shape = self._shapes[tuple(metrics)]
            if step is None:
                at = self.next_step
                self.next_step = at + 1  # at once, so that another thread takes the next one
            now = time.time_ns() // 1_000_000 if timestamp is None else timestamp
            row = shape.pack(at if step is None else step, now, *metrics.values())
            if step is not None and step >= self.next_step:
                self.next_step = index(step) + 1
        except Exception:  # noqa: BLE001 - new keys, or wrong use of any kind: the slow path tells
            if at is not None and self.next_step == at + 1:
                self.next_step = at
            self._add_checked(metrics, step, timestamp)
            return
        shape.rows += row
        self.points += shape.width
        if self.points >= self.room:
            self._spill()

    def put(self, record: AnyRecord) -> None:
        """Log parameters, tags or an artifact: kept in order."""
        self._loose.append(record)
        if self.room <= 0 or len(self._loose) >= MAX_LOOSE:
            self._spill()

    def put_quietly(self, record: AnyRecord) -> None:
        """The same for the next drain, whoever does that."""
        self._loose.append(record)

    @property
    def pending(self) -> int:
        return self.points + sum(map(count, self._loose[:]))

    def drain(self, write: Write) -> bool:
        """Hand everything to ``write``.  False: another thread's write stalls, or a signal handler
        asks on top of a drain; try again later.

        Nothing leaves the buffer before it is written, so an interrupt costs a duplicate at worst.
        """
        if not self.lock.acquire(timeout=0 if self._stalled else STALL_S):
            self._stalled = True
            return False
        nested = self.busy
        try:
            if nested:
                return False
            self._hand_over(write)
            self._stalled = False
        finally:
            self.busy = nested  # again, as an interrupt may have come in the middle of the first
            self.lock.release()
        return True

    @property
    def is_busy_here(self) -> bool:
        """Whether this is a signal handler on top of a drain."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            return self.busy
        finally:
            self.lock.release()

    def _hand_over(self, write: Write) -> None:
        try:
            self.busy = True
            writers.add(self)
            shapes = [shape for shape in list(self._shapes.values()) if shape.rows]
            taken = [(shape, bytes(shape.rows)) for shape in shapes]
            loose = self._loose[:]
            pieces = [piece for shape, rows in taken for piece in frame_of_rows(shape.keys, rows)]
            self._taken = sum(shape.count_of(rows) for shape, rows in taken)
            if pieces:
                write(pieces, self._taken, False)
            for shape, rows in taken:
                del shape.rows[: len(rows)]
            for record in loose:
                write([frame(record)], count(record), not isinstance(record, BULKY))
            del self._loose[: len(loose)]
        finally:
            writers.discard(self)
            self.busy = False
            self.points = sum(shape.count_of(shape.rows) for shape in list(self._shapes.values()))

    def shed(self) -> int:
        """Drop all that no drain has taken, for a disk that hangs.  How many points that was."""
        dropped = max(0, self.points - self._taken)
        self._shapes = {}
        self.points = self._taken = 0
        return dropped

    def _add_checked(self, metrics: Any, step: Any, timestamp: Any) -> None:
        if isinstance(metrics, RunMetrics):
            step = metrics.step if step is None else step
            timestamp = metrics.timestamp if timestamp is None else timestamp
            metrics = metrics.values
        good: dict[str, float] = {}
        try:
            metrics = checks.mapping("metric", metrics)
            step = checks.step(self.next_step if step is None else step)
            now = time.time_ns() // 1_000_000
            timestamp = now if timestamp is None else checks.millis(timestamp)
        except WrongUse as error:
            self._wrong(error)
            return
        for key, value in metrics.items():
            try:
                good[checks.key(key)] = checks.number(key, value)
            except WrongUse as error:
                self._wrong(error)
        if good:
            self._append(good, step, timestamp)

    def _append(self, values: dict[str, float], step: int, timestamp: int) -> None:
        keys = tuple(values)
        shape = self._shapes.get(keys) or Shape(keys)
        row = shape.pack(step, timestamp, *values.values())
        if len(self._shapes) < MAX_SHAPES:
            self._shapes.setdefault(keys, shape).rows += row
        elif keys in self._shapes:
            shape.rows += row
        else:  # keys that change all the time: not worth remembering
            self._loose.append(Points(keys, row))
        self.next_step = max(self.next_step, step + 1) if self._begun else step + 1
        self._begun = True
        self.points += shape.width
        if self.points >= self.room:
            self._spill()


class Nothing(Buffer):
    """Where a disabled run logs to."""

    __slots__ = ()

    def add(self, metrics: Any, step: Any = None, timestamp: Any = None) -> None: ...

    def put(self, record: AnyRecord) -> None: ...

    def put_quietly(self, record: AnyRecord) -> None: ...
