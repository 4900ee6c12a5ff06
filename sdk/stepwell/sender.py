"""The thread that sends: a run's own spool first, then what dead processes left for this server."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from stepwell.delivery import Delivery, Trouble
from stepwell.notices import Notices
from stepwell.records import Head
from stepwell.spool import Position, Spool, leftovers
from stepwell.transport import Transport

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
POLL_S: Final = 0.002
LONGEST_PATIENCE_S: Final = 600.0
"""How far a Retry-After is believed."""
WATCHED_PAUSE_S: Final = 1.0
"""The longest pause between two tries while somebody waits for a flush."""


class Backoff:
    """Pauses that double from half a second to half a minute, with full jitter."""

    def __init__(self) -> None:
        self._ceiling = FIRST_PAUSE_S

    def next_s(self) -> float:
        pause = random.uniform(self._ceiling / 2, self._ceiling)
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
    """One daemon thread.  It ends when :meth:`finish` was called and all is acknowledged."""

    def __init__(self, run: Sent, spool: Spool, transport: Transport, notices: Notices) -> None:
        self._run = run
        self._spool = spool
        self._config = spool.config
        self._transport = transport
        self._notices = notices
        self._own = Delivery(spool, transport, self._refused)
        self._left: deque[Delivery] = deque()
        # A signal handler may wake it in the middle of a wake: no lock of Python's own does that.
        self._work: SimpleQueue[None] = SimpleQueue()
        self._backoff = Backoff()
        self._failed = self._not_before = self._patience = self._leisure = 0.0
        self._watchers = 0
        self._finishing = self._swept = self._done = False
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
        """Nothing more is expected: end once all is acknowledged.  Waits for that until then."""
        self._finishing = True
        self._work.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(max(0.0, deadline - _now()))

    # --- the thread ------------------------------------------------------------------------------

    def _send(self) -> None:
        with contextlib.suppress(Exception):
            self._find_leftovers()
        while not self._is_done():
            pause = self._pause()
            if pause > 0:
                self._rest(pause)
                continue
            try:
                if not self._advance() and not self._is_done():
                    self._rest(max(0.05, self._beat + self._config.heartbeat_s - _now()))
                self._backoff.reset()
            except Trouble as trouble:
                self._postpone(str(trouble), trouble.after_s)
            except Exception as error:  # noqa: BLE001 - a bug here must not end the sending
                self._postpone(f"{type(error).__name__}: {error}", 0.0)
        self._close()

    def _rest(self, seconds: float) -> None:
        """Until somebody wakes us, at most so long."""
        with contextlib.suppress(Empty):
            self._work.get(timeout=seconds)
            while True:
                self._work.get_nowait()

    def _is_done(self) -> bool:
        if self._done or not self._finishing or self._spool.acked < self._spool.end:
            return self._done
        if not self._swept:  # a forked child may have died with something in its spool
            self._swept = True
            self._find_leftovers()
        if self._left and self._is_own(self._left[0].spool.head):
            return False
        self._done = self._run.retire(self._spool)
        return self._done

    def _advance(self) -> bool:
        """One exchange of whatever is most urgent.  False: nothing to do."""
        moved = self._send_leftover(own=True) or self._own.step() or self._send_leftover(own=False)
        if moved:
            self._beat = _now()
            self._notices.recovered()
            self._run.heard(self._own.run_name, self._own.stop_requested)
        elif _now() - self._beat >= self._config.heartbeat_s:
            self._beat = _now()
            self._own.heartbeat()
            self._run.heard(self._own.run_name, self._own.stop_requested)
            self._find_leftovers()
        return moved

    def _send_leftover(self, *, own: bool) -> bool:
        """One exchange for a dead process: of this run, before anything new; of others, at leisure.

        Another run's trouble is no trouble of ours.
        """
        if not self._left or self._is_own(self._left[0].spool.head) is not own:
            return False
        if not own and (self._finishing or _now() < self._leisure):
            return False
        delivery = self._left[0]
        try:
            if not delivery.step():
                self._left.popleft()
                delivery.spool.close()
        except Trouble:
            if own:
                raise
            self._left.rotate(-1)
            self._leisure = _now() + LONGEST_PAUSE_S
            return False
        return True

    def _find_leftovers(self) -> None:
        for spool in leftovers(self._config, lambda head: head.url == self._config.url):
            delivery = Delivery(spool, self._transport, self._refused)
            if self._is_own(spool.head):
                self._left.appendleft(delivery)
            else:
                self._left.append(delivery)

    def _is_own(self, head: Head) -> bool:
        return head.run_id == self._spool.head.run_id

    def _pause(self) -> float:
        """How long to wait before the next exchange, in seconds."""
        due = self._not_before
        if self._watchers:
            due = max(self._patience, min(due, self._failed + WATCHED_PAUSE_S))
        return due - _now()

    def _postpone(self, reason: str, after_s: float) -> None:
        self._failed = _now()
        self._patience = self._failed + min(after_s, LONGEST_PATIENCE_S)
        self._not_before = max(self._failed + self._backoff.next_s(), self._patience)
        where = str(self._spool.folder) if self._spool.folder else "memory"
        self._notices.outage(reason, self._spool.pending, where)

    def forget(self) -> None:
        """In a forked child: the thread is not there, and what it held belongs to the parent."""
        for spool in [self._spool, *(delivery.spool for delivery in self._left)]:
            spool.forget()

    def _refused(self, text: str) -> None:
        self._notices.once("refused", "the server refuses: %s", text)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            for spool in [self._spool, *(delivery.spool for delivery in self._left)]:
                spool.close()
        self._transport.close()


_now = time.monotonic
