"""The server's process: the socket, the signals, and an end within a stated time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Generator
from functools import partial
from typing import NoReturn

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from stepwell import __version__
from stepwell_storage.errors import Unsupported
from stepwell_tracker.app import create_app
from stepwell_tracker.cli import DATA_TAKEN, DONE, FAILED, PORT_TAKEN, WRONG_USE, fail
from stepwell_tracker.cli_port import holder
from stepwell_tracker.config import Settings
from stepwell_tracker.connections import IDLE_S, Connection, affordable_connections, sweep
from stepwell_tracker.streams import Streams

REQUESTS_END_S = 5
"""After a signal, requests under way have so long; then they are cancelled."""
PROCESS_ENDS_S = 9.5
"""After a signal, the process is gone by then, come what may: whoever sent it waits 10 s."""
BACKLOG = 2048


def serve(settings: Settings, *, access_log: bool = False) -> int:
    """Serve until a signal; returns 0, or exits with the code that says what was in the way."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    if access_log:
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    listeners = bind(settings.host, settings.port)
    app = create_app(settings)
    config = uvicorn.Config(
        Prefixed(app, settings.root_path) if settings.root_path else app,
        http=partial(Connection, limit=affordable_connections()),  # type: ignore[arg-type]  # only called
        ws="none",
        lifespan="off",  # entered below, where its errors are ours to report
        log_config=None,
        access_log=access_log,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(IDLE_S),
        timeout_graceful_shutdown=REQUESTS_END_S,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            server = Server(config, settings, app.state.server.streams)
            runner.run(_serve(server, app, listeners))
        except Unsupported as error:
            fail(str(error), DATA_TAKEN)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                _taken(settings.host, settings.port)
            fail(f"cannot use {settings.data}: {error}", DATA_TAKEN)
    return DONE


def _is_news(record: logging.LogRecord) -> bool:
    """Requests that are cut at the end are counted by a line of their own; where they stood is no
    fault of the server."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class Server(uvicorn.Server):
    """uvicorn's, but a signal means exit code 0, one line when ready, and an end in time."""

    def __init__(self, config: uvicorn.Config, settings: Settings, streams: Streams) -> None:
        super().__init__(config)
        self._settings = settings
        self._streams = streams

    def heed_signals(self) -> None:
        """From now on, to the end: a second signal while closing must not kill the commit."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # uvicorn's own would raise the signal again afterwards, and the process would exit 143.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is loaded by now stays: looking through it for garbage took 19 ms, once a second.
        gc.collect()
        gc.freeze()
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(
                f"Stepwell {__version__} serves {self._settings.data} on"
                f" http://{shown}:{port}{self._settings.root_path} (pid {os.getpid()})",
                flush=True,
            )

    def _stop(self) -> None:
        if self.should_exit:
            self.force_exit = True
            return
        self.should_exit = True
        self._streams.end()
        watchdog = threading.Timer(PROCESS_ENDS_S, _give_up)
        watchdog.daemon = True
        watchdog.start()


class Prefixed:
    """The application below a prefix, whether the proxy in front takes it away or not."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if f"{scope.get('path', '')}/".startswith(f"{self._prefix}/"):
            scope = {**scope, "root_path": self._prefix}
        await self._app(scope, receive, send)


async def _serve(server: Server, app: Starlette, listeners: list[socket.socket]) -> None:
    """Recover first, then listen: the first answer means that every route works."""
    server.heed_signals()
    async with app.router.lifespan_context(app):
        sweeping = asyncio.create_task(sweep(server.server_state.connections), name="sweep")
        try:
            await server.serve(sockets=listeners)
        finally:
            sweeping.cancel()


def bind(host: str, port: int) -> list[socket.socket]:
    """The sockets of an address, bound but not listening yet: connections are still refused."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        fail(f"--host {host}: {error.strerror}", WRONG_USE)
    listeners: list[socket.socket] = []
    for family, _, protocol, _, address in dict.fromkeys(found):
        listener = socket.socket(family, socket.SOCK_STREAM, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection: an answer is one segment, and waits for no other.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                _taken(host, port)
            fail(f"cannot listen on {host}, port {port}: {error.strerror}", WRONG_USE)
        listeners.append(listener)
    return listeners


def _taken(host: str, port: int) -> NoReturn:
    fail(
        f"port {port} of {host} is taken by {holder(port)};"
        f" choose another: make run PORT={port + 1}, or stepwell serve --port {port + 1}",
        PORT_TAKEN,
    )


def _give_up() -> None:
    """Nothing acknowledged is lost by this: an acknowledgement was on disk before it was given."""
    sys.stderr.write(f"stepwell: closing took longer than {PROCESS_ENDS_S} s, leaving it\n")
    sys.stderr.flush()
    os._exit(FAILED)
