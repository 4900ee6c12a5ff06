"""What a training prints, as the run's console: ``STEPWELL_CONSOLE=1``, or ``capture(run)``.

Python's own stdout and stderr are passed through a :class:`Tee`; what a C library writes past them
is not seen.  Lines go the way of everything else: memory, spool, server.  The core does not import
this module.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Any, Final

from stepwell.records import Console
from stepwell.run import ActiveRun
from stepwell.wire import MAX_TEXT_CHARS, Stream

STREAMS: Final[tuple[Stream, ...]] = ("stdout", "stderr")


class Tee:
    """A stream that also tells ``console``; everything else is the stream's own."""

    def __init__(self, stream: Any, name: Stream, console: Capture) -> None:
        self._stream = stream
        self._name = name
        self._console = console

    def write(self, text: str) -> Any:
        written = self._stream.write(text)
        self._console.take(self._name, text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Capture:
    """Both streams of this process, until the run ends or :meth:`close` is called."""

    def __init__(self, run: ActiveRun) -> None:
        self._run = run
        self._pid = os.getpid()
        rank = run.rank
        self._prefix = f"[{rank}] " if rank else ""
        self._open = True
        # A line belongs to one thread, which may write it in pieces.
        self._begun = threading.local()
        self._tees: dict[Stream, Tee] = {}
        for name in STREAMS:
            stream = getattr(sys, name)
            if stream is not None:
                self._tees[name] = tee = Tee(stream, name, self)
                setattr(sys, name, tee)
        run.closers.append(self.close)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, name: Stream, text: str) -> None:
        """Some of a stream; whole lines are logged.  Raises nothing, and a forked child's is not
        the run's.
        """
        if not self._open or self._pid != os.getpid():
            return
        with contextlib.suppress(Exception):
            *whole, rest = (getattr(self._begun, name, "") + text).split("\n")
            # A line without an end is kept as long as a console takes.
            setattr(self._begun, name, rest[-MAX_TEXT_CHARS:])
            self._log(name, whole)

    def close(self) -> None:
        """Let the streams go, with a last line that has no end.  May be called twice."""
        if not self._open:
            return
        for name in STREAMS:
            rest = getattr(self._begun, name, "")
            self._log(name, [rest] if rest else [])
        self._open = False
        for name, tee in self._tees.items():
            if getattr(sys, name) is tee:  # else somebody put another one over it, and may be back
                setattr(sys, name, tee._stream)

    def _log(self, name: Stream, whole: list[str]) -> None:
        now = time.time_ns() // 1_000_000
        lines = [(name, now, piece) for line in whole for piece in _pieces(self._prefix + line)]
        if lines:
            self._run.put(Console(lines))


def capture(run: ActiveRun) -> Capture:
    """Log what is printed from now on, in a ``with`` block or until the run ends."""
    return Capture(run)


def _pieces(line: str) -> list[str]:
    """As a terminal shows it in the end (a progress bar's last state), cut where it is long."""
    shown = line.rstrip("\r").rpartition("\r")[2].replace("\0", "\ufffd")
    shown = shown.encode("utf-8", "replace").decode()
    cuts = range(0, max(1, len(shown)), MAX_TEXT_CHARS)
    return [shown[at : at + MAX_TEXT_CHARS] for at in cuts]
