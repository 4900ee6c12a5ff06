"""What is not acknowledged yet: a folder of append-only segments, one folder a writer.

A segment is the magic, then frames (records.py), a Head first.  Points reach the file at the
latest when they leave the buffer, so a killed process loses only what its buffer held; a power cut
may lose what the system had not written yet (nothing here calls fsync).

One thread appends (whoever holds the buffer's lock), one thread reads and acknowledges; they share
no lock.  Where the disk refuses, segments lie in memory, bounded, and the disk is tried again.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

from msgspec import Struct

from stepwell.config import Config
from stepwell.folders import Folder, Position, size_of
from stepwell.records import MAGIC, AnyRecord, Head, Parsed, count, frame, parse
from stepwell.segments import FileSegment, MemorySegment, Segment

SEGMENT_BYTES: Final = 8 * 1024**2
LEAST_BYTES: Final = 4_096
ESSENTIAL_BYTES: Final = 16 * 1024**2
"""How far parameters, tags and the end of a run may exceed a bound that stops points."""
RETRY_DISK_S: Final = 5.0


class Window(Struct):
    """Some records in order, and the place after them."""

    records: list[AnyRecord]
    end: Position
    items: int


class Spool:
    """``trouble`` says why memory is used, if it is; ``dropped`` counts what met the bound."""

    def __init__(self, config: Config, head: Head) -> None:
        self.config = config
        self.head = head
        self.trouble = ""
        self.dropped = self.damaged = 0
        self.appended = self.acknowledged = 0
        self._folder: Folder | None = None
        self._segments: dict[int, Segment] = {}
        self._last = 0
        self._acked = Position(0, 0)
        # What all writers' spools take: one thread counts up, the other one down.
        self._written = self._removed = 0
        self._retry_disk = 0.0
        self._measured = -RETRY_DISK_S

    # --- the writer's side -----------------------------------------------------------------------

    @classmethod
    def create(cls, config: Config, head: Head) -> Spool:
        """A new one; in memory, with ``trouble`` set, where the disk refuses."""
        spool = cls(config, head)
        try:
            spool._folder = Folder.create(config.spool_dir, head.run_id)
            spool._measure()
        except OSError as error:
            spool._distrust(error)
        spool._rotate()
        spool._acked = Position(1, len(MAGIC))
        return spool

    def append(self, frames: list[bytes], items: int, essential: bool) -> bool:
        """Whole frames, in pieces, with ``items`` things in them.  False: over the bound, dropped,
        counted.
        """
        size = sum(map(len, frames))
        current = self._segments[self._last]
        full = current.size >= SEGMENT_BYTES or current.gone
        if full or (isinstance(current, MemorySegment) and self._disk_is_due()):
            current = self._rotate()
        written = self._put(current, frames, size, ESSENTIAL_BYTES if essential else 0)
        if written:
            self.appended += items
        else:
            self.dropped += items
        return written

    def _put(self, segment: Segment, frames: list[bytes], size: int, slack: int) -> bool:
        """Into the disk's bound, or where the disk refuses into that of memory."""
        if isinstance(segment, FileSegment):
            if not self._fits(size, slack):
                return False
            try:
                segment.append(frames, size)
            except OSError as error:
                self._distrust(error)
                segment = self._rotate()
            else:
                self._written += size
                return True
        used = sum(s.size for s in list(self._segments.values()) if type(s) is MemorySegment)
        if used + size > self.config.memory_bytes + slack:
            return False
        segment.append(frames, size)
        return True

    @property
    def folder(self) -> Path | None:
        """None where the disk refused one."""
        return self._folder.path if self._folder else None

    @property
    def pending(self) -> int:
        return self.appended - self.acknowledged

    @property
    def is_in_memory(self) -> bool:
        """Whether some of what waits would not outlive the process."""
        segments = list(self._segments.values())
        return any(isinstance(s, MemorySegment) and s.size > len(MAGIC) for s in segments)

    @property
    def unsent_bytes(self) -> int:
        """About how much is left to acknowledge."""
        number, offset = self._acked
        sizes = [(n, segment.size) for n, segment in list(self._segments.items())]
        return sum(size - (offset if n == number else 0) for n, size in sizes if n >= number)

    @property
    def end(self) -> Position:
        return Position(self._last, self._segments[self._last].size)

    def _rotate(self) -> Segment:
        """A new segment: a file, or memory while the disk is in trouble."""
        number = self._last + 1
        start = MAGIC + frame(self.head)
        segment: Segment = MemorySegment(start)
        if self._folder is not None and self._disk_is_due():
            try:
                segment = FileSegment(self._folder.segment(number), start)
                self._written += len(start)
                self.trouble = ""
            except OSError as error:
                self._distrust(error)
        if self._last:
            self._segments[self._last].seal()
        self._segments[number] = segment
        self._last = number
        return segment

    def _distrust(self, error: OSError) -> None:
        self.trouble = error.strerror or str(error)
        self._retry_disk = time.monotonic() + RETRY_DISK_S

    def _disk_is_due(self) -> bool:
        return self._folder is not None and time.monotonic() >= self._retry_disk

    def _fits(self, size: int, slack: int) -> bool:
        limit = self.config.spool_bytes + slack - size
        if self._written - self._removed > limit:
            self._measure()
        return self._written - self._removed <= limit

    def _measure(self) -> None:
        """What everybody's spools take of the common bound: others come and go."""
        if time.monotonic() - self._measured >= RETRY_DISK_S:
            self._measured = time.monotonic()
            # In this order: what goes meanwhile is counted as there, never the reverse.
            self._written = size_of(self.config.spool_dir) + self._removed

    # --- the reader's side -----------------------------------------------------------------------

    @classmethod
    def adopt(cls, folder: Path, config: Config) -> Spool | None:
        """A dead process's spool, for sending what it left; None while its process lives.

        Raises OSError where it cannot be read.
        """
        owned = Folder.adopt(folder)
        if owned is None:
            return None
        spool = cls(config, Head("", "", ""))
        spool._folder = owned
        try:
            starts = [spool._add(*segment) for segment in owned.segments().items()]
        except (OSError, ValueError) as error:
            spool.forget()
            raise OSError(f"{folder}: {error}") from error
        if not all(MAGIC.startswith(start) for start in starts):
            spool.forget()  # a newer client's, or no spool at all: never touched
            return None
        first = min(spool._segments, default=1)
        spool._last = max(spool._segments, default=1)
        spool._segments.setdefault(spool._last, MemorySegment(MAGIC))
        spool._acked = max(Position(first, len(MAGIC)), owned.acknowledged())
        heads = (spool._head_of(number) for number in sorted(spool._segments))
        spool.head = next((head for head in heads if head), spool.head)
        return spool

    def _add(self, number: int, path: Path) -> bytes:
        """A segment that is there; returns how it starts."""
        segment = FileSegment(path)
        self._segments[number] = segment
        start = segment.read(0, len(MAGIC))
        segment.close()
        return start

    def read(self, budget: int) -> Window:
        """What follows the acknowledged place, about ``budget`` bytes; no records: nothing yet."""
        number, offset = self._acked
        while True:
            last = self._last  # before the size is read: a sealed segment no longer grows
            parsed = self._parse(number, offset, budget)
            self.damaged += parsed.damaged
            offset += parsed.consumed
            records: list[AnyRecord] = [r for r in parsed.records if not isinstance(r, Head)]
            if records:
                return Window(records, Position(number, offset), sum(map(count, records)))
            if parsed.consumed:
                continue
            if number >= last:
                return Window([], Position(number, offset), 0)
            number, offset = number + 1, len(MAGIC)  # what is left here is a torn tail, or nothing

    def has_more(self) -> bool:
        return bool(self.read(LEAST_BYTES).records)

    def acknowledge(self, window: Window) -> None:
        """The server has it all: segments that are done go, and the place is noted."""
        self._acked = window.end
        self.acknowledged += window.items
        for number in [n for n in list(self._segments) if n < window.end.segment]:
            segment = self._segments.pop(number)
            if isinstance(segment, FileSegment):
                self._removed += segment.size
            segment.remove()
        if self._folder is not None:
            self._folder.note(window.end)

    @property
    def acked(self) -> Position:
        return self._acked

    def close(self) -> None:
        """Give the folder up: removed if all is acknowledged, else left for another process."""
        drained = not self.has_more()
        if not drained:
            self._save_memory()
        for segment in self._segments.values():
            segment.remove() if drained and not self.damaged else segment.close()
        if self._folder is not None:
            self._folder.release()
            if drained:
                self._folder.remove(keep=self.damaged > 0)

    def forget(self) -> None:
        """In a forked child: close what was inherited and touch nothing; the parent owns it."""
        for segment in self._segments.values():
            segment.close()
        if self._folder is not None:
            self._folder.release()

    def _save_memory(self) -> None:
        """The last try to bring what only memory holds to the disk, before the process ends."""
        if self._folder is None:
            return
        for number, segment in list(self._segments.items()):
            if isinstance(segment, MemorySegment):
                with contextlib.suppress(OSError):
                    whole = segment.read(0, segment.size)
                    self._segments[number] = FileSegment(self._folder.segment(number), whole)

    def _parse(self, number: int, offset: int, budget: int) -> Parsed:
        segment = self._segments.get(number)
        if segment is None:
            return Parsed([], 0, 0)
        available = max(0, segment.size - offset)
        budget = max(budget, LEAST_BYTES)
        parsed = parse(segment.read(offset, min(budget, available)))
        if not parsed.consumed and budget < parsed.wanted <= available:
            parsed = parse(segment.read(offset, parsed.wanted))
        return parsed

    def _head_of(self, number: int) -> Head | None:
        segment = self._segments[number]
        if segment.read(0, len(MAGIC)) != MAGIC:
            return None
        records = self._parse(number, len(MAGIC), 65_536).records
        return next((record for record in records if isinstance(record, Head)), None)
