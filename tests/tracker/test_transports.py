"""A reply that leaves in one write says what uvicorn's own two writes say, byte for byte."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stepwell_tracker.connections import Connection
from stepwell_tracker.transports import OneWrite

BIG = b"x" * 300_000


async def app(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[..., Any]) -> None:
    if scope["type"] != "http":
        return
    path = scope["path"]
    while path == "/echo" and (await receive()).get("more_body"):
        pass
    headers = {
        "/big": [(b"content-length", b"%d" % len(BIG))],
        "/chunks": [],
        "/close": [(b"content-length", b"2"), (b"connection", b"close")],
        "/empty": [],
    }.get(path, [(b"content-length", b"2")])
    status = 204 if path == "/empty" else 200
    if path == "/fails":
        raise ValueError
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if path == "/late":
        await asyncio.sleep(0.05)
    if path == "/breaks":
        raise ValueError
    if path == "/chunks":
        for piece in (b"HTTP/1.1 is no head here", b"", BIG, b"end"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})
        return
    body = {"/big": BIG, "/empty": b""}.get(path, b"ok")
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(protocol: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, port=0, http=protocol, lifespan="off", server_header=False, date_header=False,
        log_config=None,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


def ask(method: str, path: str, *, last: bool = False, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + (b"connection: close\r\n\r\n" if last else b"\r\n") + body


async def answers(port: int, *pieces: bytes) -> bytes:
    """Everything until the server closes; each piece is sent a little after the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)
    found = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return found


EXPECTING = b"POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
PATHS = ("/", "/big", "/chunks", "/close", "/empty", "/late", "/fails", "/breaks")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
async def test_it_says_the_same(method: str, path: str):
    said = []
    for protocol in (HttpToolsProtocol, partial(Connection, limit=100)):
        async with served(protocol) as port:
            said.append(await answers(port, ask(method, path), ask("GET", "/", last=True)))
            said.append(await answers(port, ask(method, path) + ask("GET", "/", last=True)))
    alone, pipelined = said[:2]
    assert alone.startswith(b"HTTP/1.1 ")
    assert said[2:] == [alone, pipelined]


async def test_many_pipelined_ones_come_whole_and_in_order():
    asked = b"".join(ask("GET", path) for path in ("/", "/big", "/late", "/empty", "/chunks") * 5)
    said = []
    for protocol in (HttpToolsProtocol, partial(Connection, limit=100)):
        async with served(protocol) as port:
            said.append(await answers(port, asked + ask("GET", "/", last=True)))
    assert said[0].count(b"HTTP/1.1 20") == 26
    assert said[1] == said[0]


async def test_a_client_that_waits_for_100_continue_gets_it_at_once():
    async with served(partial(Connection, limit=100)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(EXPECTING)
        told = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert (await asyncio.wait_for(reader.readuntil(b"ok"), 5)).startswith(b"HTTP/1.1 200")
        writer.close()


class Pipe:
    """What a transport is asked to do."""

    def __init__(self) -> None:
        self.done: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("close")

    def is_closing(self) -> bool:
        return "close" in self.done


async def test_head_and_body_are_one_write_and_nothing_is_kept_back():
    pipe = Pipe()
    link = OneWrite(pipe, asyncio.get_running_loop())  # type: ignore[arg-type]  # all of one that is used
    link.write(b"HTTP/1.1 200 OK\r\n\r\n")
    link.write(b"body")
    link.write(b"more")
    link.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await asyncio.sleep(0)
    link.write(b"HTTP/1.1 200 OK\r\n\r\n")
    link.close()
    await asyncio.sleep(0)
    assert pipe.done == [
        b"HTTP/1.1 200 OK\r\n\r\nbody", b"more", b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n", "close",
    ]  # fmt: skip
