"""The seam to the network: one method.  :class:`HttpTransport` is http.client behind it.

Errors of HTTP, of sockets and of TLS become :class:`Unreachable` in one place, and nothing is
retried here: whoever sends knows what may be repeated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import BytesIO
from typing import IO, TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from stepwell.config import Config
from stepwell.errors import BadReply, ServerError, Unreachable, from_problem
from stepwell.wire import Problem

if TYPE_CHECKING:
    import socket
    import ssl
    from http.client import HTTPConnection, HTTPResponse

UPLOAD_BYTES: Final = 64 * 1024
BLOCK_BYTES: Final = 1024**2
MAX_REPLY_BYTES: Final = 256 * 1024**2
MAX_IDLE: Final = 2
T = TypeVar("T")


class Readable(Protocol):
    """A body that is read once, in blocks."""

    def read(self, size: int = -1, /) -> bytes: ...


class Request(Struct):
    """``body`` is bytes, or a file whose length ``headers`` state.

    A successful answer's body goes to ``sink`` where one is given.
    """

    method: str
    path: str
    body: bytes | Readable | None = None
    headers: dict[str, str] = {}
    sink: IO[bytes] | None = None


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
        import http.client  # noqa: F401

        from stepwell import __version__

        self._idle: list[HTTPConnection] = []
        self._config = config
        self._place = urlsplit(config.url)
        if self._place.scheme == "https":
            import ssl  # noqa: F401

        self._prefix = quote(self._place.path, safe="/%:@!$&'()*+,;=~")
        self._context: ssl.SSLContext | None = None
        self._headers = {"User-Agent": f"stepwell/{__version__}"}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"

    def send(self, request: Request) -> Response:
        with _translated(self._config.url):
            connection = self._connection()
            try:
                response = _received(self._ask(connection, request), request.sink)
            except BaseException:
                connection.close()
                raise
            # http.client lets go of the socket where the server will not keep it.
            if connection.sock is not None and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
            else:
                connection.close()
            return response

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    __del__ = close

    def _connection(self) -> HTTPConnection:
        with contextlib.suppress(IndexError):
            while True:
                kept = self._idle.pop()
                if not _has_news(kept.sock):
                    return kept
                kept.close()  # a server closes what is idle for a few seconds
        made = self._unconnected()
        made.connect()
        made.sock.settimeout(self._config.read_timeout_s)
        return made

    def _unconnected(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        host, port, timeout = self._place.hostname, self._place.port, self._config.connect_timeout_s
        assert host
        if self._place.scheme == "http":
            return HTTPConnection(host, port, timeout, blocksize=UPLOAD_BYTES)
        if self._context is None:  # the system's authorities are slow to load
            import ssl

            self._context = ssl.create_default_context()
        return HTTPSConnection(
            host, port, timeout=timeout, blocksize=UPLOAD_BYTES, context=self._context
        )

    def _ask(self, connection: HTTPConnection, request: Request) -> HTTPResponse:
        headers = self._headers | request.headers
        # A proxy's 413 may come, with the end of the connection, before it took the whole body.
        with contextlib.suppress(BrokenPipeError):
            connection.request(request.method, self._prefix + request.path, request.body, headers)
        return connection.getresponse()


def _has_news(sock: socket.socket) -> bool:
    """Whether an idle connection was closed at the other end, or says something unasked."""
    import selectors  # socket has made it by now

    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _received(answer: HTTPResponse, sink: IO[bytes] | None) -> Response:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    response = Response(answer.status, headers)
    kept = BytesIO()
    into = sink if sink is not None and response.ok else kept
    while block := answer.read(BLOCK_BYTES):
        into.write(block)
        if kept.tell() > MAX_REPLY_BYTES:
            raise OSError(f"an answer of more than {MAX_REPLY_BYTES} bytes")
    if answer.length:
        raise OSError(f"the answer was cut short: {answer.length} bytes are missing")
    response.body = kept.getvalue()
    return response


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """The one place where foreign errors become ours."""
    from http.client import HTTPException

    try:
        yield
    except (HTTPException, OSError, ValueError) as error:
        raise Unreachable(f"{url}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
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
