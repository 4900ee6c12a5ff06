"""Anything at all as a body, a query, a header or a path: an answer, and never a 500."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from stepwell import wire
from stepwell_tracker.app import CALLS, create_app
from stepwell_tracker.config import Settings
from tests.tracker.checked import RUNS, CheckedClient

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["NaN", "Infinity", "\0", "\ud800", "x" * 9_000, 2**63, -(2**70), 1e308])
)  # fmt: skip
WORDS = (
    "metrics params tags key value step timestamp rank name description status end_time run_id"
    " experiment_id experiment_name run_ids keys max_points start_step lines stream text"
)
words = st.sampled_from(WORDS.split())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
points = st.lists(
    st.fixed_dictionaries({"key": scalars, "value": scalars}, optional={"step": scalars}),
    max_size=5,
)
bodies = (
    values
    | st.fixed_dictionaries({}, optional={"metrics": points, "params": points, "tags": points})
    | st.fixed_dictionaries({"metrics": st.dictionaries(st.text(max_size=5), scalars, max_size=4)})
)
columns = st.lists(
    st.integers(0, 2) | st.lists(st.lists(st.text(max_size=3) | st.binary(max_size=16), max_size=5))
    | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    max_size=6,
)  # fmt: skip
PARAMETERS = "limit offset cursor filter order_by status max_points start_step prefix path tail"
WITH_BODY = [call for call in CALLS if call.decoders]
RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def ask(data: Path) -> Any:
    """``ask(work)`` runs a coroutine function of (client, run id) against one server."""
    with asyncio.Runner() as runner:
        app = create_app(Settings(data=data))
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        client = CheckedClient(app)
        run_id = runner.run(client.new_run())

        def run(work: Callable[[CheckedClient, str], Any]) -> Any:
            return runner.run(work(client, run_id))

        yield run
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))


def as_json(value: object) -> bytes:
    def plain(one: object) -> object:  # JSON has no lone surrogates to send
        if isinstance(one, str):
            return one.encode("utf-8", "replace").decode()
        if isinstance(one, list):
            return [plain(item) for item in one]
        if isinstance(one, dict):
            return {plain(key): plain(item) for key, item in one.items()}
        return one if not isinstance(one, int) or abs(one) < 2**63 else float(one)

    return msgspec.json.encode(plain(value))


@RELAXED
@given(call=st.sampled_from(WITH_BODY), body=bodies)
def test_any_json_is_answered(ask, call, body):
    async def work(client: CheckedClient, run_id: str) -> None:
        path = call.path.format(run_id=run_id, experiment_id="0" * 32)
        response = await client.request(call.method, path, content=as_json(body))
        assert response.status_code < 500, response.text

    ask(work)


@RELAXED
@given(body=st.binary(max_size=300), media=st.sampled_from([wire.JSON, wire.COLUMNS]))
def test_any_bytes_are_answered(ask, body, media):
    async def work(client: CheckedClient, run_id: str) -> None:
        response = await client.post(
            f"{RUNS}/{run_id}/log-batch", content=body, headers={"Content-Type": media}
        )
        assert response.status_code < 500, response.text

    ask(work)


@RELAXED
@given(body=columns)
def test_any_columns_are_answered(ask, body):
    async def work(client: CheckedClient, run_id: str) -> None:
        response = await client.post(
            f"{RUNS}/{run_id}/log-batch",
            content=msgspec.msgpack.encode(body),
            headers={"Content-Type": wire.COLUMNS},
        )
        assert response.status_code < 500, response.text

    ask(work)


@RELAXED
@given(
    call=st.sampled_from([call for call in CALLS if call.method == "GET"]),
    query=st.dictionaries(
        st.sampled_from(PARAMETERS.split()),
        st.text(max_size=10) | st.integers().map(str) | st.just("metrics.a < 1"),
        max_size=4,
    ),
)
def test_any_query_is_answered(ask, call, query):
    if call.path.endswith("/events"):
        return  # endless where it is accepted

    async def work(client: CheckedClient, run_id: str) -> None:
        path = call.path.replace("{run_id}", run_id).replace(":path", "")
        path = path.format(experiment_id="0" * 32, key="a", path="a")
        safe = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
        response = await client.request(call.method, path, params=safe)
        assert response.status_code < 500, (path, query, response.text)

    ask(work)


@RELAXED
@given(name=st.sampled_from(["X-Tenant-ID", "Host", "Origin", "Content-Type", "Accept"]),
       value=st.binary(max_size=40))  # fmt: skip
def test_any_header_is_answered(ask, name, value):
    async def work(client: CheckedClient, run_id: str) -> None:
        response = await client.post(
            f"{RUNS}/{run_id}/log-batch", content=b"{}", headers={name.encode(): value}
        )
        assert response.status_code < 500, response.text

    ask(work)
