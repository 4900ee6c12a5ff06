"""A client that holds every answer against /openapi.json: status, media type, body."""

import re
from typing import Any

import httpx
import jsonschema
import msgspec
from starlette.applications import Starlette

from stepwell import wire
from stepwell_tracker import schema
from stepwell_tracker.app import CALLS
from stepwell_tracker.openapi import document, plain_path

HOST = "http://127.0.0.1:7837"
BASE = "/api/v1/experiments"
RUNS = BASE + "/runs"

DOCUMENT = document(CALLS)
_PATHS = [
    (
        re.compile(
            re.sub(r"{(key|path)}", ".*", re.sub(r"{\w+_id}", "[^/]+", path)) + r"\Z", re.DOTALL
        ),
        path,
    )
    for path in dict.fromkeys(plain_path(call.path) for call in CALLS)
]


class CheckedClient(httpx.AsyncClient):
    """In process, against the real application; a server error is an answer, not an exception."""

    def __init__(self, app: Starlette) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        super().__init__(transport=transport, base_url=HOST, event_hooks={"response": [check]})

    async def ok(self, method: str, url: str, **kwargs: Any) -> Any:
        """The JSON of a call that succeeds."""
        response = await self.request(method, url, **kwargs)
        assert response.is_success, (method, url, response.status_code, response.text)
        return response.json()

    async def refused(self, status: int, method: str, url: str, **kwargs: Any) -> wire.Problem:
        """The problem document of a call that does not."""
        response = await self.request(method, url, **kwargs)
        assert response.status_code == status, (method, url, response.status_code, response.text)
        return problem_of(response)

    async def new_run(self, **body: Any) -> str:
        tenant = body.pop("tenant", None)
        headers = {wire.TENANT_HEADER: tenant} if tenant else {}
        run = await self.ok("POST", RUNS, json=body, headers=headers)
        run_id: str = run["run_id"]
        return run_id


def problem_of(response: httpx.Response) -> wire.Problem:
    assert response.headers["content-type"] == schema.PROBLEM
    problem = msgspec.json.decode(response.content, type=wire.Problem)
    assert problem.status == response.status_code
    assert problem.detail
    return problem


async def check(response: httpx.Response) -> None:
    """Fails where an answer is not one that the description of its call allows."""
    request = response.request
    media = response.headers.get("content-type", "").partition(";")[0]
    described = _described(request, response.status_code)
    if described is None:  # no such call: the router's answer
        assert response.status_code in (400, 403, 404, 405), response.status_code
        assert media == schema.PROBLEM
        return
    assert described, f"{request.method} {request.url.path} may not answer {response.status_code}"
    assert media in described or "*/*" in described, (media, list(described))
    if media not in (wire.JSON, schema.PROBLEM):
        return
    body = await response.aread()
    assert int(response.headers["content-length"]) == len(body) or request.method == "HEAD"
    if request.method != "HEAD" and "schema" in described.get(media, {}):
        validate(response.json(), described[media]["schema"])


def _described(request: httpx.Request, status: int) -> dict[str, Any] | None:
    method = "get" if request.method == "HEAD" else request.method.lower()
    for pattern, path in _PATHS:
        if pattern.match(request.url.path) and method in DOCUMENT["paths"][path]:
            responses = DOCUMENT["paths"][path][method]["responses"]
            found: dict[str, Any] = responses.get(str(status), {})
            if "$ref" in found:
                found = DOCUMENT["components"]["responses"][found["$ref"].rpartition("/")[2]]
            content: dict[str, Any] = found.get("content", {})
            return content
    return None


def validate(value: Any, schema: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError where the value is not of the document's schema."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)
