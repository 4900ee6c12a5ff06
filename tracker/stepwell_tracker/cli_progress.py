"""How far a long command is: a bar on a terminal, elsewhere one line every 10 s.  On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

BAR_CHARS = 30
TERMINAL_EVERY_S = 0.1
ELSEWHERE_EVERY_S = 10.0


class Progress:
    """``with Progress("checking", total) as progress: progress.advance("what")``

    ``total`` None is unknown: the count alone is shown.  Nothing stays on a terminal at the end.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._every = TERMINAL_EVERY_S if self._terminal else ELSEWHERE_EVERY_S
        self._started = self._shown = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def advance(self, what: str = "", count: int = 1) -> None:
        """One more is done; ``what`` names it."""
        self.done += count
        now = self._clock()
        if now - self._shown >= self._every:
            self._shown = now
            self._show(self._line(what, now - self._started))

    def begin(self, label: str, total: int | None = None) -> None:
        """The next part of a command: counted from nothing."""
        self.label, self.total, self.done = label, total, 0
        self._started = self._clock()

    def clear(self) -> None:
        """Take the bar away, so that a line can be printed in its place."""
        if self._terminal:
            self._show("")

    def _line(self, what: str, seconds: float) -> str:
        if self.total is None:
            return f"{self.label}: {self.done} in {seconds:.0f} s  {what}".rstrip()
        share = min(1.0, self.done / self.total) if self.total else 1.0
        text = f"{self.label}: {self.done} of {self.total}, {share:.0%}, {seconds:.0f} s  {what}"
        if not self._terminal:
            return text.rstrip()
        full = round(share * BAR_CHARS)
        return f"[{'#' * full}{' ' * (BAR_CHARS - full)}] {text}".rstrip()

    def _show(self, line: str) -> None:
        # \x1b[K: clear to the end of the line, since the one before may have been longer.
        self._stream.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        self._stream.flush()
