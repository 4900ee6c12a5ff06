"""The process around the runs: its drain thread, its exit, its signals and its forks.

Two threads serve a run.  Its sender may sit in a dead network for half a minute, so the promise
that nothing stays longer than half a second in memory needs this one: it empties the buffers of all
active runs into their spools and never touches the network.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stepwell.run import ActiveRun
    from stepwell.sender import Sender
    from stepwell.wire import EndStatus


SHORTEST_PERIOD_S: Final = 0.01


class Lifecycle:
    """The active runs of this process; one instance."""

    def __init__(self) -> None:
        self.runs: dict[int, ActiveRun] = {}
        self.lingering: dict[Sender, float] = {}
        """Whose run is over, and how many seconds an exit waits for what else they send."""
        self.is_over = False
        """Nobody waits for a thread any more: what is logged now is written down in the call."""
        self._lock = threading.RLock()
        self._drainer: threading.Thread | None = None
        self._handler_found: Any = None
        self._sigterm_waits = False
        self._child = 0
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def add(self, run: ActiveRun) -> None:
        """Serve a run until it is removed.  May raise RuntimeError where no thread can start."""
        # For what is said at the exit.  To import it there would evaluate texts (it makes named
        # tuples), at which Python forgets that it was Ctrl-C that ended the process.
        import logging  # noqa: F401

        with self._lock:
            self.runs[id(run)] = run
            self._catch_sigterm()
            self._catch_child_exit()
            if self._drainer is None or not self._drainer.is_alive():
                self._drainer = threading.Thread(
                    target=self._drain, name="stepwell-drain", daemon=True
                )
                self._drainer.start()

    def remove(self, run: ActiveRun) -> None:
        with self._lock:
            self.runs.pop(id(run), None)
            if not self.runs:
                self._release_sigterm()

    def _drain(self) -> None:
        while True:
            with self._lock:
                runs = list(self.runs.values())
                if not runs:
                    self._drainer = None
                    return
            time.sleep(max(SHORTEST_PERIOD_S, min(run.drain_period_s for run in runs)))
            for run in runs:
                with contextlib.suppress(Exception):
                    run.drain()

    # --- the end of the process ------------------------------------------------------------------

    def _at_exit(self) -> None:
        self.is_over = True
        failure = None if _is_interactive() else getattr(sys, "last_type", None)
        status: EndStatus = "finished"
        if failure is not None:
            status = "killed" if issubclass(failure, KeyboardInterrupt) else "failed"
        with contextlib.suppress(KeyboardInterrupt):  # asked again: everything is written down
            self.end_all(status)
            begun = time.monotonic()
            for sender, wait_s in list(self.lingering.items()):
                sender.join(max(0.0, begun + wait_s - time.monotonic()))

    def end_all(self, status: EndStatus) -> None:
        """End every run, then wait for all of them under one deadline."""
        runs = list(self.runs.values())
        for run in runs:
            run.begin_end("killed" if run.terminated else status)
        for run in runs:
            run.await_end()

    # --- SIGTERM ---------------------------------------------------------------------------------

    def _catch_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        found = signal.getsignal(signal.SIGTERM)
        # None is a handler that was not set from Python, and not ours to chain to.
        if found in (signal.SIG_IGN, None, self._on_sigterm):
            return
        with contextlib.suppress(ValueError):  # a subinterpreter
            signal.signal(signal.SIGTERM, self._on_sigterm)
            self._handler_found = found

    def _release_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, self._handler_found)

    def take_up_sigterm(self) -> None:
        """One that came in the middle of our own write, now that it is over."""
        if self._sigterm_waits and threading.current_thread() is threading.main_thread():
            self._on_sigterm(signal.SIGTERM, None)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """Between two bytecodes of the main thread, which may be in the middle of our own code."""
        runs = list(self.runs.values())
        self._sigterm_waits = any(run.is_busy_here for run in runs)
        if self._sigterm_waits:
            return
        for run in runs:
            run.terminated = True
        if callable(self._handler_found):
            # It may let the training go on; the runs end as killed when they end.
            self._handler_found(number, frame)
            return
        self.end_all("killed")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    # --- fork ------------------------------------------------------------------------------------

    def _after_fork(self) -> None:
        """The child has no threads of ours and owns no run: handles are inert until they log."""
        runs, self.runs = list(self.runs.values()), {}
        self._lock = threading.RLock()
        self._drainer = None
        for run in runs:
            run.after_fork()
        senders, self.lingering = list(self.lingering), {}
        for sender in senders:
            sender.forget()

    def _catch_child_exit(self) -> None:
        """multiprocessing ends its children with os._exit; it has an exit list of its own."""
        package = sys.modules.get("multiprocessing")
        util = sys.modules.get("multiprocessing.util")
        if package is None or util is None or self._child == os.getpid():
            return
        if package.parent_process() is not None:
            self._child = os.getpid()
            util.Finalize(None, self._at_exit, exitpriority=10)


def _is_interactive() -> bool:
    """Whether the last exception may be one that somebody at a prompt saw and survived."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return hasattr(sys, "ps1") or sys.flags.interactive > 0 or shell() is not None


LIFECYCLE = Lifecycle()
