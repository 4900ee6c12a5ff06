"""A run that this process logs into.  Nothing here raises, and nothing here waits for a network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, get_args

from stepwell import checks
from stepwell.artifacts import to_records
from stepwell.buffer import Buffer, Nothing, RunMetrics
from stepwell.config import Config
from stepwell.errors import WrongUse
from stepwell.lifecycle import LIFECYCLE
from stepwell.notices import Notices
from stepwell.records import AnyRecord, End, Head, Params, Tags
from stepwell.sender import Sender
from stepwell.spool import Spool
from stepwell.transport import HttpTransport, Transport
from stepwell.wire import EndStatus

DROPPED_TAG: Final = "stepwell.dropped_points"
NOTE_DROPPED_S: Final = 30.0


class ActiveRun:
    """One run, made by :meth:`ExperimentTracker.start_run`.  Any thread may log.

    ``stop_requested`` turns true when somebody asked the run to stop; it is up to the training to
    look.  ``pending`` counts what the server has not acknowledged yet.  ``terminated`` says that
    SIGTERM has come.  A copy, a pickled handle and a forked child's handle log into the same run
    and never end it.
    """

    def __init__(
        self,
        config: Config,
        head: Head,
        names: tuple[str | None, str],
        *,
        ends: bool = False,
        transport: Callable[[Config], Transport] = HttpTransport,
    ) -> None:
        self.run_id = head.run_id
        self.tenant = head.tenant
        self.rank = head.rank
        self.url = f"{config.url}/runs/{head.run_id}" if config.url else ""
        self.status: str = "running"
        self.drain_period_s = config.buffer_age_ms / 2000
        self.closers: list[Callable[[], object]] = []
        """Called once, when the run ends in this process: what modules beside the core hold."""
        self._name, self.experiment_name = names
        self._config = config.with_token()
        self._head = head
        self._ends = ends
        self._make_transport = transport
        self._notices = Notices(f"run {head.run_id}", strict=config.strict)
        self._wrong = self._notices.wrong
        # No room: the first thing that is logged opens the spool.
        kind = Nothing if config.mode == "disabled" else Buffer
        self._buffer: Buffer = kind(0, self._spill, self._wrong)
        self._spool: Spool | None = None
        self._sender: Sender | None = None
        self._stop_requested = False
        self.terminated = False
        self._deadline: float | None = None
        self._noted = (0, 0.0)
        self._dropped = self._left = 0

    # --- logging ---------------------------------------------------------------------------------

    def log_metrics(
        self,
        metrics: Mapping[str, Any] | RunMetrics,
        step: int | None = None,
        timestamp: Any = None,
    ) -> None:
        """Some values of one step.  A value is anything with ``__float__``, converted in the call.

        ``step`` is one past the greatest so far when it is None; ``timestamp`` is integer
        milliseconds or a datetime with a zone, now when it is None.
        """
        try:
            self._buffer.add(metrics, step, timestamp)
        except WrongUse:
            raise
        except Exception as error:  # noqa: BLE001 - a training must outlive any bug of ours
            self._bug(error)

    def log_metric(
        self, key: str, value: Any, step: int | None = None, timestamp: Any = None
    ) -> None:
        self._guarded(lambda: self._buffer.add({checks.key(key): value}, step, timestamp))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Inputs of the run, as text by ``str()``.  A parameter keeps its first value for ever."""
        self._guarded(lambda: self._put_texts("parameter", params, Params))

    def log_param(self, key: str, value: Any) -> None:
        self._guarded(lambda: self._put_texts("parameter", {checks.key(key): value}, Params))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Labels of the run, as text by ``str()``.  The last value stands."""
        self._guarded(lambda: self._put_texts("tag", tags, Tags))

    def set_tag(self, key: str, value: Any) -> None:
        self._guarded(lambda: self._put_texts("tag", {checks.key(key): value}, Tags))

    def log_artifact(self, path: str | Path, artifact_path: str | None = None) -> None:
        """A file or a folder, under ``artifact_path`` or at the top.

        Small files are copied in the call.  Larger ones are sent later from where they are, and
        must stay as they are until then.
        """
        self._guarded(lambda: self._put_artifacts(path, artifact_path))

    def put(self, record: AnyRecord) -> None:
        """For modules beside the core: one more record for the spool.  Takes no step."""
        self._guarded(lambda: self._buffer.put(record))

    # --- waiting ---------------------------------------------------------------------------------

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has all that was logged before.  True: it has."""
        with contextlib.suppress(Exception):
            wait_s = self._config.exit_timeout_s if timeout_s is None else timeout_s
            return self._settle(time.monotonic() + wait_s)
        return False

    def end(self, status: EndStatus = "finished", timeout_s: float | None = None) -> bool:
        """End the run and wait, bounded.  True: the server has everything.

        What it does not have stays in the spool, and goes on being sent while the process lives.
        """
        if status not in get_args(EndStatus):
            known = ", ".join(get_args(EndStatus))
            self._wrong(WrongUse(f"a run does not end as {status!r} but as {known}", "status"))
            status = "finished"
        with contextlib.suppress(Exception):
            self.begin_end(status, timeout_s)
            return self.await_end()
        return False

    def begin_end(self, status: EndStatus, timeout_s: float | None = None) -> None:
        """Write the end down; :meth:`await_end` waits for it."""
        begun = time.monotonic()
        while self.closers:
            with contextlib.suppress(Exception):
                self.closers.pop()()
        if self.status == "running":
            self.drain()
            self.status = status
            self._note_dropped(finally_=True)
            if self._ends:
                self._buffer.put_quietly(End(status, time.time_ns() // 1_000_000))
        self.drain()
        if timeout_s is not None or self._deadline is None:
            wait_s = self._config.exit_timeout_s if timeout_s is None else timeout_s
            self._deadline = begun + wait_s

    def await_end(self) -> bool:
        """Until the deadline that :meth:`begin_end` set; the process's exit shares it, and waits no
        longer where somebody interrupted this.
        """
        deadline = self._deadline or 0.0
        try:
            done = self._settle(deadline)
        except KeyboardInterrupt:
            self._deadline = time.monotonic()
            raise
        self._buffer.room = 0  # whatever comes later is late, and finds its own way
        spool, sender = self._spool, self._sender
        if spool is not None and not done:
            self._tell_what_waits(spool)
        retired = spool is not None and (done or sender is None) and self.retire(spool)
        if sender is not None:
            sender.finish(deadline if done else 0.0)
        elif spool is not None and retired:
            spool.close()
        if done:
            LIFECYCLE.remove(self)
        return done

    # --- attributes ------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """As given; else as the server named it, once it has."""
        return self._name

    @property
    def pending(self) -> int:
        return self._left + self._buffer.pending + (self._spool.pending if self._spool else 0)

    @property
    def wrong_uses(self) -> int:
        """How many items were dropped because they could not be right."""
        return self._notices.wrong_uses

    @property
    def stop_requested(self) -> bool:
        return self._stop_requested

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end("killed" if self.terminated else status_of(error))

    def __reduce__(self) -> tuple[Any, ...]:
        names = (self._name, self.experiment_name)
        return ActiveRun, (self._config.for_pickling(), self._head, names)

    def __repr__(self) -> str:
        return f"<ActiveRun {self.run_id} {self.status}>"

    # --- between memory and spool ----------------------------------------------------------------

    def open(self, records: list[AnyRecord]) -> None:
        """Start writing and sending, ``records`` first."""
        for record in records:
            self._buffer.put_quietly(record)
        self.drain()

    def drain(self) -> bool:
        """Memory -> spool.  False: the disk stalls, or another thread is at it."""
        drained = self._buffer.drain(self._write)
        spool, sender = self._spool, self._sender
        if spool is not None:
            if spool.dropped:
                self._note_dropped()
            if spool.trouble:
                text = "no spool on disk (%s); memory is used"
                self._notices.once("disk", text, spool.trouble)
        if drained and sender is not None:
            sender.wake()
        LIFECYCLE.take_up_sigterm()
        return drained

    @property
    def is_busy_here(self) -> bool:
        """Whether this is a signal handler on top of one of our own writes."""
        return self._buffer.is_busy_here

    def retire(self, spool: Spool) -> bool:
        """Before the sender ends: is there really nothing more?  Then the spool goes.

        Asked by whoever waits for the end too: a signal handler may do so on top of this lock,
        which the sender would not get.
        """
        if self._spool is not spool:
            return True  # let go before
        with self._buffer.lock:
            if self._buffer.busy:
                return False
            self._buffer.room = 0
            if self._sender is not None and (spool.acked < spool.end or self._buffer.pending):
                return False
            self._dropped += spool.dropped
            self._left += 0 if self._sender else spool.pending  # offline: for `stepwell sync`
            self._spool = self._sender = None
        LIFECYCLE.remove(self)
        return True

    def heard(self, name: str | None, stop_requested: bool) -> None:
        """What acknowledgements said, told by the sender."""
        self._name = self._name or name
        self._stop_requested |= stop_requested

    def after_fork(self) -> None:
        """The child's copy: inert until it logs, and the run is not its to end."""
        if self._sender is not None:
            self._sender.forget()
        if self._spool is not None:
            self._spool.forget()
        self._spool = self._sender = None
        self._ends = False
        self._deadline = None
        self.closers = []
        self._buffer = self._buffer.successor()

    def _write(self, frames: list[bytes], items: int, essential: bool) -> bool:
        """Into the spool, which is made where there is none: at the start, in a forked child, and
        after the end.  The buffer's lock is held.
        """
        spool = self._spool
        if spool is None:
            self._spool = spool = Spool.create(self._config, self._head)
            self._start()
        return spool.append(frames, items, essential)

    def _start(self) -> None:
        if LIFECYCLE.is_over:
            return
        self._buffer.room = max(1, self._config.buffer_points)
        self._deadline = None
        try:
            LIFECYCLE.add(self)
            if self._config.mode == "online" and self._spool is not None:
                transport = self._make_transport(self._config)
                self._sender = Sender(self, self._spool, transport, self._notices)
        except RuntimeError as error:  # no more threads: everything stays in the spool
            self._bug(error)

    def _spill(self) -> None:
        if not self.drain() and self._buffer.points * 8 > self._config.memory_bytes:
            self._dropped += self._buffer.shed()
            self._note_dropped()

    def _settle(self, deadline: float) -> bool:
        """Whether all that is logged by now was acknowledged before the deadline."""
        while not self.drain():
            if self.is_busy_here or time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        spool, sender = self._spool, self._sender
        if spool is None:
            return True
        return sender is not None and sender.wait(spool.end, deadline)

    # --- the rest --------------------------------------------------------------------------------

    def _put_texts(
        self, what: str, given: Mapping[str, Any], kind: type[Params] | type[Tags]
    ) -> None:
        good: dict[str, str] = {}
        for key, value in checks.mapping(what, given).items():
            try:
                name = checks.key(key)
                good[name] = checks.text(what, value, name=name)
            except WrongUse as error:
                self._wrong(error)
        if good:
            self._buffer.put(kind(good))

    def _put_artifacts(self, path: str | Path, under: str | None) -> None:
        copied = self._config.artifact_copy_bytes
        for record in to_records(path, under, copied, self._wrong):
            self._buffer.put(record)
            self.drain()  # files are large: not one of them waits in memory

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except WrongUse as error:
            self._wrong(error)
        except Exception as error:  # noqa: BLE001 - a training must outlive any bug of ours
            self._bug(error)

    def _bug(self, error: Exception) -> None:
        self._notices.once("bug", "%s: %s", type(error).__name__, error)

    def _note_dropped(self, *, finally_: bool = False) -> None:
        """Say once that points were dropped, and write their number to a tag now and then."""
        dropped = self._dropped + (self._spool.dropped if self._spool else 0)
        said, when = self._noted
        now = time.monotonic()
        if dropped == said or (said and not finally_ and now - when < NOTE_DROPPED_S):
            return
        self._noted = (dropped, now)
        self._notices.once("dropped", "the spool's bound is reached: newer points are dropped")
        self._buffer.put_quietly(Tags({DROPPED_TAG: str(dropped)}))

    def _tell_what_waits(self, spool: Spool) -> None:
        how = f"wait in {spool.folder}; `stepwell sync` sends them, or the next run here"
        if not self._config.url:
            how = f"wait in {spool.folder}; `stepwell sync --url URL` sends them"
        if spool.folder is None:
            how = "are in memory only, and lost with this process"
        elif spool.is_in_memory:
            how += ". The disk takes no more: what memory holds is lost with this process"
        self._notices.once("waiting", "%s items %s", f"{self.pending:,}", how)


def status_of(error: BaseException | None) -> EndStatus:
    """How a run ends whose ``with`` block is left so."""
    if isinstance(error, KeyboardInterrupt):
        return "killed"
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "finished"
    return "failed"
