"""MLflow's artifact proxy over a real socket: hostile targets, and files larger than memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from starlette.applications import Starlette

from tests.hostile_paths import CANARY, SELECTION, request_targets
from tests.serving import serving as process_serving
from tests.tracker.live import ask, connected, head, peak_memory, read_answer, serving
from tests.tracker.mlflow_client import FILES, Mlflow


@pytest.fixture
async def port(app: Starlette) -> AsyncIterator[int]:
    async with serving(app) as port:
        yield port


async def test_a_hostile_target_reaches_no_file_outside(mlflow: Mlflow, port: int, tmp_path: Path):
    run_id = await mlflow.run()
    base = f"{FILES}/0/{run_id}/artifacts".encode()
    await mlflow.put(base.decode() + "/kept", content=b"kept")
    inside = next(tmp_path.rglob("kept")).parent
    for folder in [tmp_path, *tmp_path.rglob("*")]:
        if folder.is_dir() and folder != inside:
            (folder / CANARY).write_text("canary")

    def outside() -> list[tuple[str, int, int]]:
        return sorted(
            (str(p), p.stat().st_mtime_ns, p.stat().st_size)
            for p in tmp_path.rglob("*")
            if p.is_file() and inside not in p.parents and "tenant.db" not in p.name
        )

    before = outside()
    for number, name in enumerate(SELECTION[::3]):
        for target in request_targets(name[:4_000]):
            path = target.replace(b"&", b"%26").replace(b"#", b"%23")
            listing = FILES.encode() + f"?path=0/{run_id}/artifacts/".encode() + path
            calls = [("GET", base + b"/" + target), ("GET", listing)]
            calls += [("DELETE", base + b"/" + target)] if number % 3 == 0 else []
            calls += [("PUT", base + b"/" + target)] if number % 5 == 0 else []
            for method, full in calls:
                answer = await ask(port, method, full)
                assert answer.status < 500, (method, full, answer)
                assert b"canary" not in answer.body.replace(CANARY.encode(), b""), full
                assert b"root:" not in answer.body, full
    assert outside() == before
    assert (await mlflow.get(base.decode() + "/kept")).content == b"kept"


@pytest.mark.parametrize("megabytes", [64, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_a_large_file_does_not_fill_the_memory(tmp_path: Path, megabytes: int):
    """Sent in chunks of a length that nobody states, read whole, then from its middle on."""
    block = os.urandom(1 << 20)
    with process_serving(tmp_path / "data") as served:
        port, pid = served.port, served.process.pid
        made = await ask(
            port, "POST", b"/api/2.0/mlflow/runs/create", body=b'{"experiment_id":"0"}'
        )
        run_id = msgspec.json.decode(made.body)["run"]["info"]["run_id"]
        target = f"{FILES}/0/{run_id}/artifacts/large".encode()
        await ask(port, "PUT", target + b"-warm", body=block)
        await ask(port, "GET", target + b"-warm")
        before = peak_memory(pid)
        async with connected(port) as (reader, writer):
            writer.write(head(port, "PUT", target, "Transfer-Encoding: chunked"))
            for _ in range(megabytes):
                writer.write(b"100000\r\n" + block + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            assert (await asyncio.wait_for(read_answer(reader), 60)).status == 200
        for first in (0, megabytes // 2):
            async with connected(port) as (reader, writer):
                writer.write(head(port, "GET", target, f"Range: bytes={first << 20}-"))
                await reader.readuntil(b"\r\n\r\n")
                seen = hashlib.sha256()
                for _ in range(megabytes - first):
                    seen.update(await asyncio.wait_for(reader.readexactly(1 << 20), 30))
            assert seen.digest() == hashlib.sha256(block * (megabytes - first)).digest()
        grown = peak_memory(pid) - before
        assert grown < 16_000_000, f"{grown} bytes for a file of {megabytes} MB"
