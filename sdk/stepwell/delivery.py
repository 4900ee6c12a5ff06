"""Sends one spool, one exchange a step.  Whoever drives it decides when, and how long to wait.

Nothing here is lost: a window of the spool is acknowledged when every request made of it was
answered with success, or was refused for a reason that repeating cannot mend; what was refused is
split until only the offenders remain, and those are set aside in a file with the reason.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec

from stepwell.courtesy import give_way
from stepwell.errors import BadReply, ServerError, StepwellError, Unreachable
from stepwell.records import CELL, Create, End, File, FileLink, Resume
from stepwell.requests import (
    Heartbeat,
    Lines,
    Part,
    Series,
    Texts,
    last_lines,
    pieces,
    plan,
    request,
    split,
    without,
)
from stepwell.spool import LEAST_BYTES, Spool, Window
from stepwell.transport import Response, Transport, decoded, error_of
from stepwell.wire import (
    DELETED_FOR_GOOD,
    ArtifactReply,
    BatchReply,
    ConsolePage,
    ConsoleReply,
    EndReply,
)

if TYPE_CHECKING:
    from hashlib import _Hash

REFUSED: Final = (400, 409, 413, 422)
"""Set aside; every other answer that is not success is retried."""
MISSING: Final = 404
HASTE: Final = 4
"""How much larger requests are while the training stands still and waits for them."""
SLOW_S: Final = 2.0
"""A request that failed after so long may have been too large for the network's pace."""
QUICK_S: Final = 1.0
MAX_HALVINGS: Final = 5
MAX_REFUSED_BYTES: Final = 64 * 1024**2
MAX_REFUSED_IN_A_ROW: Final = 100
"""So many points of one key refused singly, and its others are set aside without asking."""


class Trouble(Exception):
    """Not now.  ``after_s``: the server asked for this much patience; ``refused``: it was told no
    for a reason that somebody has to mend first; ``missing``: there is no such run; ``smaller``: it
    may have been too much at once, and the next try is with less.
    """

    def __init__(
        self, reason: str, after_s: float = 0.0, *, refused: bool = False, missing: bool = False
    ) -> None:
        super().__init__(reason)
        self.after_s = after_s
        self.refused = refused
        self.missing = missing
        self.smaller = False


class FileChanged(StepwellError):
    """A file that was logged by reference is not what it was."""


class RunReply(msgspec.Struct):
    """As much of a run as its writer looks at."""

    run_id: str
    name: str | None = None
    status: str = "running"
    stop_requested: bool = False


Told = Callable[[str], None]
Heard = Callable[[str | None, bool], None]


def _nobody(name: str | None, stop_requested: bool) -> None: ...


class Delivery:
    """One spool and the transport it goes through.  For one thread.

    ``refused`` is called with a sentence, whose kind is before its first colon, ``heard`` with what
    an acknowledgement says of the run, before anybody can see that it came.
    """

    def __init__(
        self, spool: Spool, transport: Transport, refused: Told, heard: Heard = _nobody
    ) -> None:
        self.spool = spool
        self.refused = 0
        self._transport = transport
        self._tell_refused = refused
        self._heard = heard
        self._parts: deque[Part] = deque()
        self._window: Window | None = None
        self._blame: dict[str, int] = {}
        self._halvings = 0
        self._beat = time.monotonic()
        # Whether the last request, or a dead process's, may have been taken without our hearing.
        self._doubtful = True

    def step(self, *, haste: bool = False) -> bool:
        """One exchange.  False: nothing waits.  Raises Trouble: the same again later.

        ``haste``: nobody minds a longer stretch of this thread's, and all wait for the last one.
        """
        if self._window is None:
            give_way()
            budget = self.spool.config.request_bytes // 2  # columns are twice their rows
            window = self.spool.read((budget * HASTE if haste else budget) >> self._halvings)
            if not window.records:
                return False
            give_way()
            self._parts = deque(plan(window.records))
            self._window = window
        if self._parts:
            self._exchange(self._parts[0])
        if not self._parts:
            self.spool.acknowledge(self._window)
            self._window = None
        return True

    def heartbeat(self) -> None:
        """Say that the run lives.  Raises Trouble; a deleted run's refusal is none."""
        with contextlib.suppress(ServerError):
            self._digest(Heartbeat(), self._send(Heartbeat()))

    def _exchange(self, part: Part) -> None:
        begun = time.monotonic()
        try:
            if isinstance(part, Lines) and self._doubtful:
                part = self._parts[0] = self._unknown(part)
            self._doubtful = True
            if items(part):
                self._digest(part, self._send(part))
        except FileChanged as error:
            self._set_aside(part, "an artifact is not what was logged", str(error))
        except ServerError as error:
            self._doubtful = False
            self._refuse(part, error)
            return
        except Trouble as trouble:
            if time.monotonic() - begun >= SLOW_S:
                trouble.smaller = self._make_smaller(part)
            raise
        if self._halvings and time.monotonic() - begun < QUICK_S:
            self._halvings -= 1
        self._doubtful = False
        self._parts.popleft()

    def _make_smaller(self, part: Part) -> bool:
        """So that on a slow network something gets through in the time that an answer has."""
        self._halvings = MAX_HALVINGS
        smaller = pieces(part, max(self.spool.config.request_bytes >> MAX_HALVINGS, LEAST_BYTES))
        self._parts.popleft()
        self._parts.extendleft(reversed(smaller))
        return len(smaller) > 1

    def _unknown(self, part: Lines) -> Lines:
        """Points, texts and files may be sent blindly again; lines would be there twice."""
        try:
            response = self._checked(self._transport.send(last_lines(part, self.spool.head)), None)
            return without(part, decoded(response, ConsolePage).lines)
        except (Unreachable, BadReply) as error:
            raise Trouble(str(error)) from error

    def _send(self, part: Part) -> Response:
        give_way()
        wanted = request(part, self.spool.head)
        give_way()
        try:
            if isinstance(part, FileLink):
                with _Upload(part, self._say_that_it_lives) as body:
                    wanted.body = body
                    wanted.headers["Content-Length"] = str(part.size)
                    return self._checked(self._transport.send(wanted), body.digest())
            digest = _sha256(part.data).hexdigest() if isinstance(part, File) else None
            return self._checked(self._transport.send(wanted), digest)
        except (Unreachable, BadReply) as error:
            raise Trouble(str(error)) from error

    def _say_that_it_lives(self) -> None:
        """In the middle of an upload, which may take an hour; of a run that does live."""
        now = time.monotonic()
        if self._heard is _nobody or now - self._beat < self.spool.config.heartbeat_s:
            return
        self._beat = now
        wanted = request(Heartbeat(), self.spool.head)
        wanted.read_timeout_s = SLOW_S
        with contextlib.suppress(StepwellError):
            reply = decoded(self._transport.send(wanted), BatchReply)
            self._heard(None, reply.stop_requested)

    def _checked(self, response: Response, digest: str | None) -> Response:
        """Raises ServerError; BadReply where an artifact arrived as something else."""
        if not response.ok:
            error = error_of(response)
            if response.status not in REFUSED:
                missing = response.status == MISSING
                raise Trouble(str(error), _retry_after(response), missing=missing)
            raise error
        if digest is not None and decoded(response, ArtifactReply).sha256 != digest:
            raise BadReply("the server received another file than was sent")
        return response

    def _digest(self, part: Part, response: Response) -> None:
        """Learn from a success; an answer that makes no sense is no success."""
        try:
            if isinstance(part, Create | Resume):
                run = decoded(response, RunReply)
                self._heard(run.name, run.stop_requested)
            elif isinstance(part, End):
                decoded(response, EndReply)
            elif isinstance(part, Lines):
                decoded(response, ConsoleReply)
            elif isinstance(part, Series | Texts | Heartbeat):
                self._heard(None, decoded(response, BatchReply).stop_requested)
        except BadReply as error:
            raise Trouble(str(error)) from error
        if isinstance(part, Series):
            for series in part.series:
                self._blame.pop(series.key, None)

    # --- refusals --------------------------------------------------------------------------------

    def _refuse(self, part: Part, error: ServerError) -> None:
        """Replace the first part by its halves, or set it aside."""
        gone = error.problem.type == DELETED_FOR_GOOD
        halves = [] if gone or self._is_hopeless(part, error) else split(part)
        if isinstance(part, Create) and not halves and not gone:
            # Without its run nothing can be sent; an experiment that is deleted may be restored.
            raise Trouble(str(error), refused=True)
        self._parts.popleft()
        if halves:
            self._parts.extendleft(reversed(halves))
        else:
            self._set_aside(part, "the server refuses", str(error))

    def _is_hopeless(self, part: Part, error: ServerError) -> bool:
        """Whether splitting is of no use: the run refuses everything, or a key refuses all."""
        if isinstance(part, Series):
            worst = min(self._blame.get(series.key, 0) for series in part.series)
            if worst >= MAX_REFUSED_IN_A_ROW:
                return True
        if not isinstance(part, Series | Texts | Lines) or error.status != 409:
            return False
        try:
            self._send(Heartbeat())
        except ServerError:
            return True
        return False

    def _set_aside(self, part: Part, kind: str, reason: str) -> None:
        if isinstance(part, Series):
            for series in part.series:
                self._blame[series.key] = self._blame.get(series.key, 0) + 1
        self.refused += items(part)
        where = self._note_refusal(part, reason)
        self._tell_refused(f"{kind}: {reason} ({describe(part)}{where})")

    def _note_refusal(self, part: Part, reason: str) -> str:
        """Into ``<spool>/refused/<run>.jsonl``, so that it is not gone.  Best effort, bounded."""
        if self.spool.folder is None:
            return ""
        path = self.spool.folder.parent / "refused" / f"{self.spool.head.run_id}.jsonl"
        line = {"reason": reason, "kind": type(part).__name__.lower(), "what": part}
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if path.exists() and path.stat().st_size > MAX_REFUSED_BYTES:
                return ""
            if isinstance(part, File):
                line["what"] = part.path
            with path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
        except OSError:
            return ""
        return f", set aside in {path}"


class _Upload:
    """A file on its way, hashed as it is read.  Raises FileChanged when it is not as logged.

    ``meanwhile`` is called now and then.
    """

    def __init__(self, link: FileLink, meanwhile: Callable[[], None]) -> None:
        self._link = link
        self._meanwhile = meanwhile
        self._hash = _sha256()
        self._left = link.size

    def __enter__(self) -> _Upload:
        try:
            self._file: IO[bytes] = Path(self._link.source).open("rb")
        except OSError as error:
            raise FileChanged(f"{self._link.source}: {error.strerror}") from error
        try:
            self._check()
        except FileChanged:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        self._meanwhile()
        try:
            block = self._file.read(self._left if size < 0 else min(size, self._left))
        except OSError as error:
            raise FileChanged(f"{self._link.source}: {error.strerror}") from error
        if not block and self._left:
            raise FileChanged(f"{self._link.source}: shorter than when it was logged")
        self._left -= len(block)
        self._hash.update(block)
        return block

    def digest(self) -> str:
        self._check()
        return self._hash.hexdigest()

    def _check(self) -> None:
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._link.size, self._link.modified_ns):
            raise FileChanged(f"{self._link.source}: changed since it was logged")


def _sha256(data: bytes = b"") -> _Hash:
    import hashlib  # a slow import, and urllib3 has made it by now

    return hashlib.sha256(data)


def items(part: Part) -> int:
    """How many things a part holds."""
    if isinstance(part, Series):
        return sum(len(series.steps) // CELL for series in part.series)
    if isinstance(part, Lines):
        return len(part.lines)
    return len(part.items) if isinstance(part, Texts) else 1


def describe(part: Part) -> str:
    """A part in a few words, for a warning."""
    if isinstance(part, Series):
        keys = ", ".join(repr(series.key) for series in part.series[:3])
        return f"{items(part):,} points of {keys}{', ...' if len(part.series) > 3 else ''}"
    if isinstance(part, Texts):
        names = [f"{'tag' if tag else 'parameter'} {key!r}" for tag, key, _ in part.items[:3]]
        return ", ".join(names) + (", ..." if len(part.items) > 3 else "")
    if isinstance(part, Lines):
        return f"{len(part.lines):,} console lines"
    if isinstance(part, File | FileLink):
        return f"artifact {part.path!r}"
    return type(part).__name__.lower()


def _retry_after(response: Response) -> float:
    """Seconds, of either form of Retry-After; 0 without one."""
    text = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime  # a slow import, and urllib3 has made it by now

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
