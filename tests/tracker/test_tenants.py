"""The list of tenants, and the events of many runs over one connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tests.tracker.checked import RUNS
from tests.tracker.live import serving

HEADERS = {"X-Tenant-ID": "acme"}


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as one:
        yield one
        app.state.server.streams.end()


async def told(lines: AsyncIterator[str], kind: str) -> dict[str, Any]:
    """The data of the next event, which must be of this kind."""
    async with asyncio.timeout(5):
        async for line in lines:
            if line.startswith("event: "):
                assert line == f"event: {kind}"
            if line.startswith("data: "):
                data: dict[str, Any] = json.loads(line[6:])
                return data
    raise AssertionError("the stream ended")


async def test_a_server_without_data_names_no_tenant(client):
    assert await client.ok("GET", "/api/v1/tenants") == {"tenants": ["default"]}


async def test_a_tenant_is_missing_from_the_list(client):
    await client.new_run(tenant="acme")
    await client.new_run(tenant="Beta")
    assert await client.ok("GET", "/api/v1/tenants") == {"tenants": ["acme", "beta", "default"]}


async def test_an_event_of_many_runs_does_not_say_whose_it_is(client, http):
    first = await client.new_run(tenant="acme")
    async with http.stream("GET", f"{RUNS}/events", headers=HEADERS) as answer:
        lines = answer.aiter_lines()
        await told(lines, "state")
        body = {"metrics": {"loss": 0.5}, "step": 3, "timestamp": 7}
        await client.ok("POST", f"{RUNS}/{first}/log-metrics", json=body)
        last = {"step": 3, "timestamp": 7, "value": 0.5}
        series = [{"key": "loss", "count": 1, "last": last}]
        assert await told(lines, "points") == {"run_id": first, "series": series}
        second = await client.new_run(tenant="acme")
        assert await told(lines, "created") == {"run_id": second}


async def test_runs_that_nobody_asked_for_are_told_or_end_the_stream(client, http):
    ours, other = [await client.new_run(tenant="acme") for _ in range(2)]
    url = f"{RUNS}/events?run_id={ours}"
    async with http.stream("GET", url, headers=HEADERS) as answer:
        lines = answer.aiter_lines()
        state = await told(lines, "state")
        await client.ok("POST", f"{RUNS}/{other}/stop")
        await client.new_run(tenant="another")
        await client.ok("POST", f"{RUNS}/{ours}/stop")
        assert await told(lines, "stop") == {"run_id": ours}
    again = f"{url}&last_event_id={state['number']}"
    async with http.stream("GET", again, headers=HEADERS) as answer:
        lines = answer.aiter_lines()
        await told(lines, "state")
        assert await told(lines, "stop") == {"run_id": ours}  # missed, and told again


async def test_a_wrong_run_id_is_not_followed(client):
    await client.refused(404, "GET", f"{RUNS}/events?run_id=nonsense")
