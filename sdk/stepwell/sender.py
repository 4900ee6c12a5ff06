"""The thread that sends: a run's own spool first, then what dead processes left for this server.

When the run has ended it stays for the latter, and the process's exit waits for that a little.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from stepwell.config import Config
from stepwell.delivery import Delivery, Trouble
from stepwell.folders import Position, folders, remove_remnant
from stepwell.lifecycle import LIFECYCLE
from stepwell.notices import Notices
from stepwell.spool import Spool
from stepwell.transport import Brief, Transport

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
POLL_S: Final = 0.002
LONGEST_PATIENCE_S: Final = 600.0
"""How far a Retry-After is believed."""
LEFTOVERS_S: Final = 2.0
"""How long the process's exit waits, at most, for what others left; and a run for an answer to what
another one left, however long an answer of its own may take."""
LATE_S: Final = 1.0
"""How long an end waits, at most, while other threads go on logging after it."""
WATCHED_PAUSE_S: Final = 1.0
"""The longest pause between two tries while somebody waits for a flush."""

MAKING_S: Final = 3.0
"""A run that is not there may be on its way from the process that started it; after so long without
it, that is an outage like any other."""


class Backoff:
    """Pauses that double from half a second to half a minute, with full jitter."""

    def __init__(self) -> None:
        self._ceiling = FIRST_PAUSE_S

    def next_s(self) -> float:
        jitter = int.from_bytes(os.urandom(4)) / 2**32  # importing random is slow
        pause = self._ceiling * (1 + jitter) / 2
        self._ceiling = min(self._ceiling * 2, LONGEST_PAUSE_S)
        return pause

    def reset(self) -> None:
        self._ceiling = FIRST_PAUSE_S


class Sent(Protocol):
    """What a sender tells the run that it sends for."""

    def retire(self, spool: Spool) -> bool:
        """Whether nothing more will come; the run lets go of spool and sender then."""

    def heard(self, name: str | None, stop_requested: bool) -> None: ...


class Sender:
    """One daemon thread; :meth:`finish` says that nothing more will come."""

    def __init__(self, run: Sent, spool: Spool, transport: Transport, notices: Notices) -> None:
        self._run = run
        self._spool = spool
        self._config = spool.config
        self._transport = transport
        self._brief = Brief(transport, min(LEFTOVERS_S, self._config.read_timeout_s))
        self._notices = notices
        self._own = Delivery(spool, transport, self._refused, run.heard)
        self._ours: deque[Delivery] = deque()
        self._other: Delivery | None = None
        self._folders: deque[Path] = deque()
        # A signal handler may wake it in the middle of a wake: no lock of Python's own does that.
        self._work: SimpleQueue[None] = SimpleQueue()
        self._backoff = Backoff()
        self._failed = self._not_before = self._patience = self._leisure = 0.0
        self._missing_since = 0.0
        self._watchers = 0
        self._finishing = self._swept = self._done = self._closed = False
        self._beat = _now()
        self._thread = threading.Thread(target=self._send, name="stepwell-sender", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new in the spool."""
        self._work.put(None)

    def wait(self, target: Position, deadline: float) -> bool:
        """Until the server has everything before ``target``, or ``time.monotonic()`` is later."""
        self._watchers += 1
        self.wake()
        try:
            while self._spool.acked < target and self._thread.is_alive():
                left = deadline - _now()
                if left <= 0:
                    break
                time.sleep(min(left, POLL_S))
        finally:
            self._watchers -= 1
        return self._spool.acked >= target

    def finish(self, deadline: float) -> None:
        """Nothing more is expected: end once all is acknowledged.  Waits for that until then, but
        not for those who log without a pause.
        """
        self._finishing = True
        self._work.put(None)
        if threading.current_thread() is self._thread:
            return
        expected, late = self._spool.end, _now() + LATE_S
        while not self._closed and self._thread.is_alive() and _now() < deadline:
            if self._spool.end != expected and _now() >= late:
                break
            time.sleep(POLL_S)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout_s)

    # --- the thread ------------------------------------------------------------------------------

    def _send(self) -> None:
        with contextlib.suppress(Exception):
            self._find_leftovers()
        while not self._done:
            pause = self._pause()
            if pause > 0:
                self._rest(pause)
                continue
            try:
                if not (self._advance() or self._is_done() or self._ours):
                    self._rest(max(0.05, self._beat + self._config.heartbeat_s - _now()))
                self._backoff.reset()
                self._missing_since = 0.0
            except Trouble as trouble:
                self._postpone(str(trouble), trouble.after_s, missing=trouble.missing)
            except Exception as error:  # noqa: BLE001 - a bug here must not end the sending
                self._postpone(f"{type(error).__name__}: {error}", 0.0)
        with contextlib.suppress(OSError):
            self._spool.close()
        self._linger()
        self._transport.close()

    def _linger(self) -> None:
        """The run is over.  A process may be too short for what others left: its exit waits for
        this, a little, and nobody else does.
        """
        LIFECYCLE.lingering[self] = min(LEFTOVERS_S, self._config.exit_timeout_s)
        self._brief.read_timeout_s = None  # no run waits any more
        self._closed = True
        with contextlib.suppress(Exception):
            while self._send_other():
                pass
        with contextlib.suppress(Exception):
            if self._other is not None:
                self._other.spool.close()
        LIFECYCLE.lingering.pop(self, None)

    def _rest(self, seconds: float) -> None:
        """Until somebody wakes us, at most so long."""
        with contextlib.suppress(Empty):
            self._work.get(timeout=seconds)
            while True:
                self._work.get_nowait()

    def _is_done(self) -> bool:
        if not self._finishing or self._spool.acked < self._spool.end:
            return False
        if not self._swept:  # a forked child may have died with something in its spool
            self._swept = True
            self._find_leftovers()
        if self._ours:
            return False
        self._done = self._run.retire(self._spool)
        return self._done

    def _advance(self) -> bool:
        """One exchange of whatever is most urgent.  False: nothing to do."""
        moved = self._send_ours() or self._own.step(haste=self._watchers > 0)
        if moved or (not self._finishing and self._send_other()):
            moved = True
            self._beat = _now()
            self._notices.recovered()
        elif _now() - self._beat >= self._config.heartbeat_s:
            self._beat = _now()
            self._own.heartbeat()
            self._find_leftovers()
        return moved

    def _send_ours(self) -> bool:
        """One exchange for a dead process of this run: before anything new."""
        if not self._ours:
            return False
        if not self._ours[0].step():
            self._ours.popleft().spool.close()
        return True

    def _send_other(self) -> bool:
        """One exchange for a dead process of another run, at leisure.  Its trouble is not ours."""
        if _now() < self._leisure:
            return False
        while self._other is None and self._folders:
            spool = leftover(self._folders.popleft(), self._config)
            if spool is not None:
                self._other = Delivery(spool, self._brief, self._refused)
        if self._other is None:
            return False
        try:
            if self._other.step(haste=self._finishing):
                return True
        except Trouble as trouble:
            if not trouble.refused:
                self._leisure = _now() + LONGEST_PAUSE_S
        self._other.spool.close()
        self._other = None
        return _now() >= self._leisure

    def _find_leftovers(self) -> None:
        """Of this run, at once; of others only the folders: there may be thousands."""
        found = [path for path in folders(self._config.spool_dir) if path != self._spool.folder]
        ours = [path for path in found if path.name.startswith(self._spool.head.run_id)]
        for path in ours:
            spool = leftover(path, self._config)
            if spool is not None:
                self._ours.append(Delivery(spool, self._transport, self._refused))
        self._folders = deque(path for path in found if path not in ours)

    def _spools(self) -> list[Spool]:
        held = [self._own, *self._ours, *([self._other] if self._other else [])]
        return [delivery.spool for delivery in held]

    def _pause(self) -> float:
        """How long to wait before the next exchange, in seconds."""
        due = self._not_before
        if self._watchers:
            due = max(self._patience, min(due, self._failed + WATCHED_PAUSE_S))
        return due - _now()

    def _postpone(self, reason: str, after_s: float, *, missing: bool = False) -> None:
        self._failed = _now()
        self._missing_since = (self._missing_since or self._failed) if missing else 0.0
        self._patience = self._failed + min(after_s, LONGEST_PATIENCE_S)
        self._not_before = max(self._failed + self._backoff.next_s(), self._patience)
        where = str(self._spool.folder) if self._spool.folder else "memory"
        if not missing or self._failed - self._missing_since >= MAKING_S:
            self._notices.outage(reason, self._spool.pending, where)

    def forget(self) -> None:
        """In a forked child: the thread is not there, and what it held belongs to the parent."""
        for spool in self._spools():
            spool.forget()

    def _refused(self, text: str) -> None:
        self._notices.once(text.partition(":")[0], "%s", text)


def leftover(folder: Path, config: Config) -> Spool | None:
    """What a dead process left in a folder for our server, if it did; an empty one goes."""
    try:
        spool = Spool.adopt(folder, config)
    except OSError:
        remove_remnant(folder)  # else gone meanwhile, or not ours to read
        return None
    if spool is None:
        return None
    if spool.has_more() and spool.head.url == config.url:
        return spool
    spool.close()
    return None


_now = time.monotonic
