"""The seam to the network: one method.  :class:`HttpTransport` is urllib3 behind it.

Errors of urllib3, of sockets and of TLS become :class:`Unreachable` in one place, and nothing is
retried here: whoever sends knows what may be repeated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Final, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from stepwell.config import Config
from stepwell.errors import BadReply, ServerError, Unreachable, from_problem
from stepwell.wire import Problem

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

BLOCK_BYTES: Final = 64 * 1024
MAX_REPLY_BYTES: Final = 256 * 1024**2
T = TypeVar("T")


class Readable(Protocol):
    """A body that is read once, in blocks."""

    def read(self, size: int = -1, /) -> bytes: ...


class Request(Struct):
    """``body`` is bytes, or a file whose length ``headers`` state.

    A successful answer's body goes to ``sink`` where one is given.  An answer is waited for as long
    as the transport's settings say, or ``read_timeout_s``.
    """

    method: str
    path: str
    body: bytes | Readable | None = None
    headers: dict[str, str] = {}
    sink: IO[bytes] | None = None
    read_timeout_s: float | None = None


class Response(Struct):
    """``headers`` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Transport(Protocol):
    """What a client needs of a network; tests put a fake in its place."""

    def send(self, request: Request) -> Response:
        """One exchange; any status is an answer.  Raises Unreachable.  Any thread may call."""

    def close(self) -> None: ...


class HttpTransport:
    """Keep-alive connections to one server."""

    def __init__(self, config: Config) -> None:
        # Here and not at the top, so that importing stepwell is quick.  Here and not in a thread:
        # a process that forks or ends in the middle of an import is in trouble.  The codec is what
        # every look-up of a host asks for.
        import encodings.idna  # noqa: F401 - to have it there
        import socket

        import urllib3

        from stepwell.connections import make_courteous

        self._config = config
        self._pool = urllib3.connection_from_url(
            config.url,
            maxsize=2,
            retries=False,
            blocksize=BLOCK_BYTES,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        make_courteous(self._pool, config.read_timeout_s)
        self._timeout = urllib3.Timeout
        self._prefix = urlsplit(config.url).path.rstrip("/")
        self._headers = {"Accept-Encoding": "identity"}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"

    def send(self, request: Request) -> Response:
        config, read_s = self._config, request.read_timeout_s
        read_s = config.read_timeout_s if read_s is None else read_s
        with _translated(self._config.url):
            answer = self._pool.urlopen(
                request.method,
                self._prefix + request.path,
                body=cast("bytes | IO[bytes] | None", request.body),
                headers=self._headers | request.headers,
                timeout=self._timeout(connect=config.connect_timeout_s, read=read_s),
                redirect=False,
                preload_content=False,
            )
            try:
                return _received(answer, request.sink)
            finally:
                answer.close() if answer.length_remaining else answer.release_conn()

    def close(self) -> None:
        self._pool.close()


class Brief:
    """A transport whose answers come soon or are trouble."""

    def __init__(self, transport: Transport, read_timeout_s: float) -> None:
        self._transport = transport
        self.read_timeout_s: float | None = read_timeout_s

    def send(self, request: Request) -> Response:
        request.read_timeout_s = self.read_timeout_s
        return self._transport.send(request)

    def close(self) -> None:
        self._transport.close()


def _received(answer: BaseHTTPResponse, sink: IO[bytes] | None) -> Response:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    response = Response(answer.status, headers)
    if sink is None or not response.ok:
        response.body = answer.read(MAX_REPLY_BYTES)
        if answer.length_remaining:
            raise OSError(f"an answer of more than {MAX_REPLY_BYTES} bytes")
    else:
        for block in answer.stream(BLOCK_BYTES):
            sink.write(block)
    return response


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """The one place where foreign errors become ours."""
    from http.client import HTTPException

    from urllib3.exceptions import HTTPError, HTTPWarning

    try:
        yield
    except (HTTPError, HTTPWarning, HTTPException, OSError, ValueError) as error:
        raise Unreachable(f"{url}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The innermost cause, which is the one that helps: not "Max retries exceeded with ..."."""
    seen = {id(error)}
    while (inner := error.__cause__ or error.__context__) is not None and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def problem_of(response: Response) -> Problem:
    """An error answer as a problem document, also where something in between made it."""
    with contextlib.suppress(msgspec.MsgspecError):
        problem = msgspec.json.decode(response.body, type=Problem)
        problem.status = response.status
        return problem
    from http import HTTPStatus

    title = next((known.phrase for known in HTTPStatus if known == response.status), "Unknown")
    text = response.body[:200].decode(errors="replace").strip() or "nothing more was said"
    return Problem("about:blank", title, response.status, text)


def error_of(response: Response) -> ServerError:
    return from_problem(problem_of(response))


def decoded(response: Response, kind: type[T]) -> T:
    """The JSON body of a successful answer.  Raises ServerError or BadReply."""
    if not response.ok:
        raise error_of(response)
    try:
        return msgspec.json.decode(response.body, type=kind)
    except msgspec.MsgspecError as error:
        raise BadReply(f"this is no answer of a Stepwell server: {error}") from error
