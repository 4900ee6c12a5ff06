"""HTTP itself: who may ask, methods, media types, HEAD, and what goes wrong without a field."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Message

from stepwell import wire
from stepwell_storage import errors as storage
from stepwell_storage.store import Store
from stepwell_tracker import errors
from stepwell_tracker.app import CALLS
from stepwell_tracker.http import takes
from tests.tracker.checked import BASE, HOST, RUNS, CheckedClient, problem_of

FORGED = {"Host": "evil.example"}
FOREIGN = {"Origin": "https://evil.example"}


def a_path(path: str) -> str:
    return re.sub(r"{\w+(:path)?}", "0" * 32, path)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
async def test_every_call_refuses_foreign_pages_and_forged_hosts(client: CheckedClient, call):
    url = a_path(call.path)
    await client.refused(400, call.method, url, headers=FORGED)
    await client.refused(403, call.method, url, headers=FOREIGN)
    await client.refused(403, call.method, url, headers={"Origin": "null"})
    await client.refused(400, call.method, url, headers=FORGED | FOREIGN)
    await client.refused(400, call.method, url, headers=[("Origin", HOST), ("Origin", HOST)])


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True), ("br, GZIP;q=0.5", True), ("gzip ; q = 1.0,br", True),
        ("gzip;q=0.001", True), ("", False), ("gzipped", False), ("x-gzip", False),
        ("gzip;q=0", False), ("br,gzip; Q=0.000", False), ("*", False),
    ],
)  # fmt: skip
def test_what_a_header_takes(header: str, taken: bool):
    assert takes(header.encode(), b"gzip") == taken


async def test_our_own_pages_may_ask(client: CheckedClient):
    await client.ok("POST", BASE, json={"name": "e"}, headers={"Origin": HOST})


async def test_unknown_paths_are_guarded_too(client: CheckedClient):
    await client.refused(400, "GET", "/nope", headers=FORGED)
    await client.refused(404, "GET", "/nope")
    await client.refused(404, "GET", BASE + "/")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
async def test_every_call_is_reached_by_its_own_path(client: CheckedClient, call):
    """No route stands in the way of a later one, and other methods are told which there are."""
    allowed = {other.method for other in CALLS if other.path == call.path}
    response = await client.request("BREW", a_path(call.path))
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) - {"HEAD"} == allowed
    assert problem_of(response).type == "urn:stepwell:problem:method-not-allowed"


async def test_head_answers_as_get_does_without_the_body(client: CheckedClient):
    run_id = await client.new_run()
    for url in (BASE, RUNS, f"{RUNS}/{run_id}", f"{RUNS}/{run_id}/metrics", "/api/v1/limits"):
        get, head = await client.get(url), await client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers == get.headers
    head = await client.head(f"{RUNS}/{'0' * 32}")
    assert (head.status_code, head.content) == (404, b"")


@pytest.mark.parametrize(
    "media",
    [None, "application/json", "application/json; charset=utf-8", "Application/JSON", ""],
)
async def test_spellings_of_json(client: CheckedClient, media: str | None):
    headers = {} if media is None else {"Content-Type": media}
    response = await client.post(BASE, content=b'{"name":"e"}', headers=headers)
    assert response.status_code == (415 if media == "" else 201)


async def test_an_identity_encoding_is_none(client: CheckedClient):
    headers = {"Content-Encoding": "identity"}
    await client.ok("POST", BASE, content=b'{"name":"e"}', headers=headers)


async def test_a_body_in_many_chunks_is_one(client: CheckedClient):
    async def chunks() -> AsyncIterator[bytes]:
        for byte in b'{"name":"chunked"}':
            yield bytes([byte])

    assert (await client.ok("POST", BASE, content=chunks()))["name"] == "chunked"


async def test_limits_are_published(client: CheckedClient):
    limits = await client.ok("GET", "/api/v1/limits")
    assert limits["body_bytes"] == 33_554_432
    assert (limits["key_chars"], limits["value_chars"]) == (250, 8_000)
    assert limits["series_per_run"] == 100_000


async def ask(app: Starlette, *messages: Message, **scope: Any) -> list[Message]:
    """One request by hand; what was sent."""
    received = list(messages)
    sent: list[Message] = []

    async def receive():
        return received.pop(0) if received else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(
        {
            "type": "http", "http_version": "1.1", "method": "POST", "path": BASE,
            "root_path": "", "query_string": b"", "headers": [(b"host", b"127.0.0.1")],
        } | scope,
        receive,
        send,
    )  # fmt: skip
    return sent


async def test_a_client_that_leaves_in_the_middle_of_its_body_writes_nothing(
    app: Starlette, client: CheckedClient
):
    part = {"type": "http.request", "body": b'{"name":"half"', "more_body": True}
    sent = await ask(app, part)
    assert sent[0]["status"] == 400
    sent = await ask(app)
    assert sent[0]["status"] == 400
    assert (await client.ok("GET", BASE))["total"] == 1


async def test_a_missing_host_is_refused_but_for_http_1_0(app: Starlette):
    whole = {"type": "http.request", "body": b'{"name":"e"}', "more_body": False}
    assert (await ask(app, whole, headers=[]))[0]["status"] == 400
    assert (await ask(app, whole, headers=[], http_version="1.0"))[0]["status"] == 201


async def test_a_crooked_content_length_is_refused(app: Starlette):
    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"-1")]
    assert (await ask(app, headers=headers))[0]["status"] == 400


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (storage.Busy("queue", 7), 503, "7"),
        (storage.Closed("closing"), 503, "1"),
        (storage.Full("disk"), 507, None),
        (storage.Unreadable("disk"), 503, "1"),
        (storage.LimitExceeded("metrics[0].key", "100000 series"), 422, None),
        (storage.Corrupt("checksum", run="x", chunk=7), 500, None),
        (storage.Unsupported("/secret/path is newer"), 500, None),
        (RuntimeError("/secret/path"), 500, None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_storage_raises_is_answered_by_the_table(
    client: CheckedClient, app: Starlette, monkeypatch: pytest.MonkeyPatch, error, status, retry
):
    run_id = await client.new_run()

    class Failing:
        async def __aenter__(self):
            raise error

        async def __aexit__(self, *exc):
            raise AssertionError("never entered")

    monkeypatch.setattr(Store, "lease", lambda self, name, create: Failing())
    response = await client.post(f"{RUNS}/{run_id}/log-batch", json={})
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry
    problem = problem_of(response)
    if status == 500:
        assert "secret" not in response.text
        assert "checksum" not in response.text
    elif status == 422:
        assert problem.errors == [wire.FieldError("metrics[0].key", "100000 series")]
    else:
        assert problem.detail == str(error)


def test_every_error_of_storage_and_of_ours_has_a_status():
    for module in (storage, errors):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Exception):
                if kind in (storage.StorageError, errors.Refusal, HTTPException):
                    continue  # never raised themselves; the router's own
                assert kind in errors.PROBLEMS, kind


def test_types_of_problems_follow_from_their_titles():
    problem = errors.problem_of(storage.Conflict("taken", existing="7"))
    assert problem.type == "urn:stepwell:problem:conflict"
    assert (problem.title, problem.status, problem.experiment_id) == ("Conflict", 409, "7")
    undecoded = msgspec.ValidationError("Expected `int`, got `str` - at `$.a[0].b`")
    assert errors.problem_of(undecoded).errors[0].path == "a[0].b"


async def test_requests_at_once_do_not_mix(client: CheckedClient):
    tenants = [f"t{i}" for i in range(8)]
    runs = await asyncio.gather(*(client.new_run(tenant=t, name=t) for t in tenants))
    shown = await asyncio.gather(*(client.ok("GET", f"{RUNS}/{run}") for run in runs))
    assert [run["name"] for run in shown] == tenants
