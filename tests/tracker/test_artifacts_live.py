"""Artifacts over a real socket, byte by byte: no client tidies the path, no body comes whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from starlette.applications import Starlette

from stepwell import wire
from tests.hostile_paths import CANARY, SELECTION, request_targets
from tests.serving import serving as process_serving
from tests.tracker.checked import RUNS, CheckedClient
from tests.tracker.live import ask, connected, head, peak_memory, read_answer, serving


@pytest.fixture
async def port(app: Starlette) -> AsyncIterator[int]:
    async with serving(app) as port:
        yield port


@pytest.fixture
async def base(client: CheckedClient) -> bytes:
    return f"{RUNS}/{await client.new_run()}/artifacts".encode()


def artifact_files(data: Path) -> list[Path]:
    root = data / "tenants" / "default" / "artifacts"
    return sorted(p for p in root.rglob("*") if p.is_file())


async def gone(data: Path, kept: int = 0) -> list[Path]:
    """What is left once the server has noticed that a client vanished."""
    for _ in range(300):
        if len(artifact_files(data)) == kept:
            break
        await asyncio.sleep(0.01)
    return artifact_files(data)


async def test_a_hostile_target_reaches_no_file_outside(client, port, base, data, tmp_path):
    """The whole corpus, on every call that takes a path, in each way that a request line allows."""
    await client.ok("PUT", f"{base.decode()}/kept", content=b"kept")
    kept = artifact_files(data)
    inside = kept[0].parent
    for folder in [data, *data.rglob("*")]:
        if folder.is_dir() and folder != inside:
            (folder / CANARY).write_text("canary")
    (tmp_path / CANARY).write_text("canary")

    def outside() -> list[tuple[str, int, int]]:
        return sorted(
            (str(p), p.stat().st_mtime_ns, p.stat().st_size)
            for p in tmp_path.rglob("*")
            if p.is_file() and inside not in p.parents and "tenant.db" not in p.name
        )

    before = outside()
    statuses: dict[int, int] = {}
    async with contextlib.AsyncExitStack() as stack:
        reader, writer = await stack.enter_async_context(connected(port))
        for number, name in enumerate(SELECTION):
            for target in request_targets(name[:20_000]):
                listing = base + b"?path=" + target.replace(b"&", b"%26").replace(b"#", b"%23")
                calls = [("GET", base + b"/" + target), ("GET", listing)]
                calls += [("DELETE", base + b"/" + target)] if number % 3 == 0 else []
                calls += [("PUT", base + b"/" + target)] if number % 9 == 0 else []
                for method, full in calls:
                    writer.write(head(port, method, full, "Content-Length: 0"))
                    answer = await asyncio.wait_for(read_answer(reader), 10)
                    statuses[answer.status] = statuses.get(answer.status, 0) + 1
                    assert answer.status < 500, (method, full, answer)
                    assert b"canary" not in answer.body.replace(CANARY.encode(), b""), full
                    assert b"root:" not in answer.body, full
                    if answer.status == 422:
                        problem = msgspec.json.decode(answer.body, type=wire.Problem)
                        assert [error.path for error in problem.errors] == ["path"], full
                    if answer.headers.get("connection") == "close" or answer.status == 400:
                        reader, writer = await stack.enter_async_context(connected(port))
    assert outside() == before
    assert (await client.get(f"{base.decode()}/kept")).content == b"kept"
    assert statuses[422] > 1_000


@pytest.mark.parametrize("name", [b"", b"a%0A", b"%0A", b"a%0Ab", b"%80", b"%ED%A0%80"])
async def test_a_target_that_routers_trim_is_stored_trimmed(client, port, base, data, name):
    await client.ok("PUT", f"{base.decode()}/a", content=b"kept")
    for method in ["PUT", "GET", "DELETE"]:
        answer = await ask(port, method, base + b"/" + name)
        assert answer.status in (404, 422), (method, answer)
    [only] = artifact_files(data)
    assert only.name == "a"
    assert only.read_bytes() == b"kept"


@pytest.mark.parametrize("sent", [0, 1, 70_000, 999_999])
async def test_a_client_vanishes_in_mid_upload(client, port, base, data, sent):
    await client.ok("PUT", f"{base.decode()}/f", content=b"old")
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"]:
        async with connected(port) as (_, writer):
            body = b"x" * sent
            if framing.startswith("Transfer"):
                body = b"%x\r\n%s\r\n" % (sent, body) if sent else b""
            writer.write(head(port, "PUT", base + b"/f", framing) + body)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.transport.abort()
        assert [p.name for p in await gone(data, kept=1)] == ["f"]
        async with connected(port) as (_, writer):
            writer.write(head(port, "PUT", base + b"/new/folder/f", framing) + body)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()  # an orderly end in the middle is no end of the body either
        assert [p.name for p in await gone(data, kept=1)] == ["f"]
    assert (await client.get(f"{base.decode()}/f")).content == b"old"


async def test_a_chunked_upload_is_not_a_file(client, port, base):
    pieces = [os.urandom(n) for n in (1, 70_000, 3, 300_000)]
    async with connected(port) as (reader, writer):
        writer.write(head(port, "PUT", base + b"/f", "Transfer-Encoding: chunked"))
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(b"0\r\n\r\n")
        answer = await asyncio.wait_for(read_answer(reader), 10)
    whole = b"".join(pieces)
    assert msgspec.json.decode(answer.body) == {
        "path": "f", "size": len(whole), "sha256": hashlib.sha256(whole).hexdigest(),
    }  # fmt: skip
    assert (await client.get(f"{base.decode()}/f")).content == whole


async def test_a_client_that_asks_first_sends_a_body_in_vain(client, port, base):
    """Expect: 100-continue: a refusal comes before the body, a welcome too."""
    await client.ok("PUT", f"{base.decode()}/folder/f", content=b"1")
    expect = ["Expect: 100-continue", "Content-Length: 5"]
    async with connected(port) as (reader, writer):
        writer.write(head(port, "PUT", base + b"/folder", *expect))
        assert (await asyncio.wait_for(read_answer(reader), 5)).status == 409
    async with connected(port) as (reader, writer):
        writer.write(head(port, "PUT", base + b"/file", *expect))
        first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert first.startswith(b"HTTP/1.1 100")
        writer.write(b"12345")
        assert (await asyncio.wait_for(read_answer(reader), 5)).status == 200


async def test_a_refused_body_poisons_the_connection(client, port, base):
    """The body of a refused upload is skipped, and the next request on the connection is read."""
    await client.ok("PUT", f"{base.decode()}/folder/f", content=b"1")
    async with connected(port) as (reader, writer):
        big = head(port, "PUT", base + b"/folder", "Content-Length: 3000000")
        writer.write(big + b"GET /evil HTTP/1.1\r\n\r\n" + b"x" * 2_999_978)
        assert (await asyncio.wait_for(read_answer(reader), 5)).status == 409
        writer.write(head(port, "GET", base + b"/folder/f"))
        answer = await asyncio.wait_for(read_answer(reader), 5)
        assert (answer.status, answer.body) == (200, b"1")


async def test_concurrent_uploads_mix(client, port, base, data):
    bodies = [bytes([65 + i]) * 900_000 for i in range(6)]

    async def upload(body: bytes) -> int:
        async with connected(port) as (reader, writer):
            writer.write(head(port, "PUT", base + b"/same", f"Content-Length: {len(body)}"))
            for start in range(0, len(body), 50_000):
                writer.write(body[start : start + 50_000])
                await writer.drain()
                await asyncio.sleep(0.001)
            return (await asyncio.wait_for(read_answer(reader), 30)).status

    assert await asyncio.gather(*map(upload, bodies)) == [200] * 6
    assert (await client.get(f"{base.decode()}/same")).content in bodies
    assert len(artifact_files(data)) == 1


async def test_a_client_that_left_is_sent_the_rest(client, port, base, monkeypatch):
    """uvicorn's send is silent when nobody listens: the file must not be read to its end."""
    from stepwell_storage.artifacts import ArtifactFile

    await client.ok("PUT", f"{base.decode()}/big", content=b"x" * 60_000_000)
    reads = []
    real = ArtifactFile.read

    async def counted(self: ArtifactFile, offset: int, count: int) -> bytes:
        reads.append(offset)
        return await real(self, offset, count)

    monkeypatch.setattr(ArtifactFile, "read", counted)
    async with connected(port) as (reader, writer):
        writer.write(head(port, "GET", base + b"/big"))
        await reader.readexactly(1_000)
        writer.transport.abort()
    await asyncio.sleep(0.3)
    before = len(reads)
    assert before < 200
    await asyncio.sleep(0.1)
    assert len(reads) == before


@pytest.mark.parametrize("megabytes", [64, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_a_large_file_does_not_fill_the_memory(tmp_path, megabytes):
    block = os.urandom(1 << 20)
    digest = hashlib.sha256(block * megabytes).hexdigest()
    with process_serving(tmp_path / "data") as served:
        port, pid = served.port, served.process.pid
        body = b'{"name":"large"}'
        made = await ask(port, "POST", RUNS.encode(), body=body)
        target = f"{RUNS}/{msgspec.json.decode(made.body)['run_id']}/artifacts/large".encode()
        await ask(port, "PUT", target + b"-warm", body=block)
        await ask(port, "GET", target + b"-warm")
        before = peak_memory(pid)
        async with connected(port) as (reader, writer):
            writer.write(head(port, "PUT", target, f"Content-Length: {megabytes << 20}"))
            for _ in range(megabytes):
                writer.write(block)
                await writer.drain()
            stored = await asyncio.wait_for(read_answer(reader), 60)
        assert msgspec.json.decode(stored.body)["sha256"] == digest
        async with connected(port) as (reader, writer):
            writer.write(head(port, "GET", target))
            await reader.readuntil(b"\r\n\r\n")
            seen = hashlib.sha256()
            for _ in range(megabytes):
                seen.update(await asyncio.wait_for(reader.readexactly(1 << 20), 30))
        assert seen.hexdigest() == digest
        assert peak_memory(pid) - before < 16_000_000
