"""The application behind a real socket, and clients that send exactly the bytes they are told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[int]:
    """The port on which the application is served, as ``stepwell serve`` configures it."""
    config = uvicorn.Config(
        app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms an answer
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.001)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def peak_memory(pid: int) -> int:
    """The most memory that a process ever held, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def head(port: int, method: str, target: bytes, *headers: str) -> bytes:
    lines = [f"Host: 127.0.0.1:{port}", *headers, "", ""]
    return method.encode() + b" " + target + b" HTTP/1.1\r\n" + "\r\n".join(lines).encode()


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    """One answer with a Content-Length, or up to the end of the connection."""
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    status = int(first.split(" ")[1])
    if method == "HEAD" or status == 304:
        return Answer(status, headers, b"")
    if "content-length" in headers:
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
    return Answer(status, headers, await reader.read())


async def ask(port: int, method: str, target: bytes, *headers: str, body: bytes = b"") -> Answer:
    """One request on a connection of its own."""
    async with connected(port) as (reader, writer):
        more = [f"Content-Length: {len(body)}"] if body or method == "PUT" else []
        writer.write(head(port, method, target, *headers, *more) + body)
        return await asyncio.wait_for(read_answer(reader, method), 30)
