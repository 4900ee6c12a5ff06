"""Live events over a real socket: what a browser's EventSource would see."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from starlette.applications import Starlette

from stepwell_tracker import events as module
from tests.tracker.checked import RUNS, CheckedClient
from tests.tracker.live import connected, head, serving


class Told(NamedTuple):
    kind: str
    id: int | None
    data: dict[str, Any]


class Source:
    """One connection of an EventSource; ``last_id`` is what it would send when it reconnects."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.last_id: int | None = None
        self.comments = 0

    async def next(self, timeout_s: float = 5) -> Told:
        fields: dict[str, str] = {}
        async with asyncio.timeout(timeout_s):
            while line := (await self._line()):
                if line.startswith(":"):
                    self.comments += 1
                    assert await self._line() == ""
                    continue
                name, _, value = line.partition(": ")
                assert name not in fields, line
                fields[name] = value
        number = int(fields["id"]) if "id" in fields else None
        self.last_id = number or self.last_id
        return Told(fields["event"], number, json.loads(fields["data"]))

    async def _line(self) -> str:
        """A line of the body; the chunks' sizes, as uvicorn frames them, are left out."""
        while True:
            line = (await self.reader.readuntil(b"\n")).decode()
            if line.endswith("\r\n"):
                if line == "0\r\n":
                    raise EOFError
                continue
            return line.rstrip("\n")


@pytest.fixture
async def port(app: Starlette) -> AsyncIterator[int]:
    async with serving(app) as port:
        yield port
        app.state.server.streams.end()


@contextlib.asynccontextmanager
async def following(
    port: int, run_id: str | None, *headers: str, query: str = ""
) -> AsyncIterator[Source]:
    """One run, or with None all of the tenant's."""
    path = f"{RUNS}/{run_id}/events{query}" if run_id else f"{RUNS}/events{query}"
    async with connected(port) as (reader, writer):
        writer.write(head(port, "GET", path.encode(), *headers))
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert answer.startswith("http/1.1 200")
        assert "content-type: text/event-stream; charset=utf-8\r\n" in answer
        assert "cache-control: no-store\r\n" in answer
        yield Source(reader, writer)


async def points(client: CheckedClient, run_id: str, *steps: int, value: object = 0.5) -> None:
    metrics = [{"key": "loss", "value": value, "step": step, "timestamp": 7} for step in steps]
    await client.ok("POST", f"{RUNS}/{run_id}/log-batch", json={"metrics": metrics})


async def settled(port: int, app: Starlette) -> int:
    """How many streams are open, once the server has noticed who left."""
    for _ in range(200):
        if not len(app.state.server.streams):
            break
        await asyncio.sleep(0.01)
    return len(app.state.server.streams)


async def test_every_change_is_told(client, port):
    run_id = await client.new_run()
    run = f"{RUNS}/{run_id}"
    async with following(port, run_id) as source:
        state = await source.next()
        assert state.kind == "state"
        assert state.id == state.data["number"]
        await points(client, run_id, 3, 9, 4)
        batch = {"params": [{"key": "p", "value": 1}], "tags": [{"key": "t", "value": "x\n\ny"}]}
        await client.ok("POST", f"{run}/log-batch", json=batch)
        lines = [{"stream": "stdout", "timestamp": 1, "text": "hello"}]
        await client.ok("POST", f"{run}/console", json={"lines": lines})
        await client.ok("PUT", f"{run}/artifacts/a/b", content=b"123")
        await client.ok("DELETE", f"{run}/artifacts/a")
        await client.ok("POST", f"{run}/stop")
        await client.ok("PATCH", run, json={"tags": {"t": None}, "name": "other"})
        await client.ok("POST", f"{run}/end?status=failed&end_time=99")
        await client.ok("DELETE", run)
        await client.ok("POST", f"{run}/restore")
        told = [await source.next() for _ in range(12)]
    assert [one.kind for one in told] == [
        "points", "params", "tags", "console", "artifact", "artifact", "stop", "tags", "changed",
        "status", "deleted", "restored",
    ]  # fmt: skip
    numbers = [one.id for one in told]
    assert numbers == sorted({*numbers, state.data["number"]})[1:]
    last = {"step": 9, "timestamp": 7, "value": 0.5}
    assert told[0].data == {"series": [{"key": "loss", "count": 3, "last": last}]}
    assert told[1].data == {"params": {"p": "1"}}
    assert told[2].data == {"tags": {"t": "x\n\ny"}}
    assert told[3].data["lines"] == 1
    assert told[4].data == {"path": "a/b", "size": 3}
    assert told[5].data == {"path": "a", "size": None}
    assert told[7].data == {"tags": {"t": None}}
    assert told[9].data == {"status": "failed", "end_time": 99}


async def test_a_value_that_json_lacks_is_null(client, port):
    run_id = await client.new_run()
    async with following(port, run_id) as source:
        await source.next()
        for value in ["NaN", "Infinity", "-Infinity"]:
            await points(client, run_id, 1, value=value)
            [series] = (await source.next()).data["series"]
            assert series["last"]["value"] == value


async def test_another_runs_events_are_told(client, port):
    mine, other = await client.new_run(), await client.new_run()
    async with following(port, mine) as source:
        await source.next()
        await points(client, other, 1)
        await points(client, mine, 2)
        assert (await source.next()).data["series"][0]["last"]["step"] == 2


async def test_a_reconnect_loses_no_point(client, port, app):
    """Connections break at any moment; header or query, every point is told exactly once."""
    run_id = await client.new_run()
    seen: list[int] = []

    async def log() -> None:
        for step in range(120):
            await points(client, run_id, step)
            await asyncio.sleep(0.001)

    async with following(port, run_id) as source:
        last_id = (await source.next()).data["number"]
    logging = asyncio.create_task(log())
    connection = 0
    while len(seen) < 120:
        connection += 1
        query, headers = (f"?last_event_id={last_id}", []) if connection % 2 else (
            "?last_event_id=0", [f"Last-Event-ID: {last_id}"]
        )  # fmt: skip
        async with following(port, run_id, *headers, query=query) as source:
            state = await source.next()
            assert (state.kind, state.id) == ("state", None)
            assert state.data["number"] >= last_id
            for _ in range(min(7, 120 - len(seen))):
                told = await source.next()
                assert told.kind == "points"
                seen.append(told.data["series"][0]["last"]["step"])
                last_id = told.id or 0
    await logging
    assert connection > 10
    assert seen == list(range(120))
    assert await settled(port, app) == 0


async def test_a_gap_is_not_told(client, port):
    run_id = await client.new_run()
    await points(client, run_id, 1)
    for after in ["0", "1790000000000000000", "5"]:
        async with following(port, run_id, query=f"?last_event_id={after}") as source:
            state, reset = await source.next(), await source.next()
            assert (state.kind, reset.kind) == ("state", "reset")
            assert reset.id == state.data["number"]


async def test_what_is_fetched_after_the_state_and_followed_has_a_gap(client, port):
    """The way of a page: connect, fetch on ``state``, then apply what comes."""
    run_id = await client.new_run()

    async def log() -> None:
        for step in range(60):
            await points(client, run_id, step)

    logging = asyncio.create_task(log())
    await asyncio.sleep(0.02)
    async with following(port, run_id) as source:
        await source.next()
        history = await client.ok("GET", f"{RUNS}/{run_id}/metrics/loss")
        known = {point["step"] for point in history["points"]}
        await logging
        while len(known) < 60:
            told = await source.next()
            known.add(told.data["series"][0]["last"]["step"])
    assert known == set(range(60))


async def test_who_follows_an_unknown_tenant_never_hears_of_it(client, port):
    """Its stream ends when the tenant comes into being, and who goes on is told to fetch."""
    headers = {"X-Tenant-ID": "newcomer"}
    async with following(port, None, "X-Tenant-ID: newcomer") as source:
        assert (await source.next()).kind == "state"
        await client.ok("POST", RUNS, json={"name": "first"}, headers=headers)
        with pytest.raises(EOFError):
            await source.next()
    query = f"?last_event_id={source.last_id}"
    async with following(port, None, "X-Tenant-ID: newcomer", query=query) as source:
        assert [(await source.next()).kind, (await source.next()).kind] == ["state", "reset"]
        await client.ok("POST", RUNS, json={"name": "second"}, headers=headers)
        assert (await source.next()).kind == "created"


async def test_a_quiet_stream_is_cut_by_a_proxy(client, port, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)
    run_id = await client.new_run()
    async with following(port, run_id) as source:
        await source.next()
        asyncio.get_running_loop().call_later(0.2, asyncio.ensure_future, points(client, run_id, 1))
        assert (await source.next()).kind == "points"
        assert source.comments >= 3


async def test_a_client_that_left_is_served_on(client, port, app):
    run_id = await client.new_run()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            source = await stack.enter_async_context(following(port, run_id))
            await source.next()
        assert len(app.state.server.streams) == 5
    assert await settled(port, app) == 0


async def test_a_stopping_server_waits_for_its_streams(client, app):
    run_id = await client.new_run()
    async with asyncio.timeout(4):
        async with serving(app) as port, following(port, run_id) as source:
            await source.next()
            app.state.server.streams.end()
            with pytest.raises(EOFError):  # ended well, not cut
                await source.next()
            async with following(port, run_id) as late:
                await late.next()
                with pytest.raises(EOFError):
                    await late.next()


async def test_a_client_that_does_not_read_is_reset_and_fills_no_memory(client, port, app):
    """Its socket fills, then its backlog; what it finds later is one reset."""
    run_id = await client.new_run()
    metrics = [{"key": f"k{i:04}", "value": 1, "timestamp": 1} for i in range(1_000)]
    async with following(port, run_id) as source:
        await source.next()
        transport: Any = source.writer.transport
        transport.pause_reading()
        for _ in range(200):
            await client.ok("POST", f"{RUNS}/{run_id}/log-batch", json={"metrics": metrics})
        transport.resume_reading()
        kinds = []
        while "reset" not in kinds:
            kinds.append((await source.next()).kind)
        assert len(kinds) < 200
        await points(client, run_id, 1)
        while (await source.next()).data["series"][0]["key"] != "loss":
            pass


async def test_a_wrong_question_is_refused(client):
    run_id = await client.new_run()
    url = f"{RUNS}/{run_id}/events"
    for wrong in ["-1", "x", "1.5", str(2**63)]:
        problem = await client.refused(422, "GET", url, params={"last_event_id": wrong})
        assert [error.path for error in problem.errors] == ["last_event_id"]
    for text in [b"x", b"-1", b"9" * 30, b"\xb2"]:
        await client.refused(400, "GET", url, headers={b"Last-Event-ID": text})
    await client.refused(404, "GET", f"{RUNS}/{'0' * 32}/events")
    await client.refused(404, "GET", url, headers={"X-Tenant-ID": "rival"})
    head = await client.head(url)
    assert (head.status_code, head.headers["content-type"]) == (
        200,
        "text/event-stream; charset=utf-8",
    )
