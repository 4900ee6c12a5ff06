"""MLflow's calls as ASGI: found by path, their fields read, every refusal in MLflow's form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.routing import BaseRoute, Route, compile_path
from starlette.types import Receive, Scope, Send

from stepwell_tracker.errors import MethodNotAllowed
from stepwell_tracker.http import Call, Reply, Request, Server
from stepwell_tracker.mlflow.errors import NO_ENDPOINT, Refused, error_reply
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.routes import CALLS

PREFIXES: Final = ("/api/2.0/", "/api/2.0mlflow/", "/api/3.0/", "/ajax-api/", "/v1/traces")
"""Paths under which every answer has MLflow's form, those of unknown calls too."""
_encode = msgspec.json.Encoder().encode


def routes(server: Server) -> list[BaseRoute]:
    """What the application routes to MLflow's API."""
    api = Api(server, CALLS)
    patterns = [prefix + "{rest:path}" for prefix in PREFIXES]
    return [Route(pattern, api) for pattern in (*patterns, "/version", "/get-artifact")]


def is_mlflow(path: str) -> bool:
    """Whether a refusal of this path speaks MLflow's language."""
    return path.startswith(PREFIXES)


def route_path(scope: Scope) -> str:
    """The path without the prefix of a proxy."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


class Calls:
    """The calls of one path; what requests are counted under."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.by_method: dict[str, Call] = {}


class Api:
    def __init__(self, server: Server, calls: Sequence[Call]) -> None:
        self._server = server
        found: dict[str, Calls] = {}
        for call in calls:
            found.setdefault(call.path, Calls(call.path)).by_method[call.method] = call
        self._exact = {path: one for path, one in found.items() if "{" not in path}
        self._patterns: dict[str, list[tuple[Any, Calls]]] = defaultdict(list)
        for path, one in found.items():
            if "{" in path:
                self._patterns[path.split("{")[0]].append((compile_path(path)[0], one))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            call, path = self._find(scope)
            scope["path_params"] = path
            request = Request(call, self._server, scope, receive, send)
            await _fill(request)
            reply = await call.endpoint(request)
        except Exception as error:  # noqa: BLE001 - every refusal has MLflow's form; it is logged
            reply = error_reply(error)
        if not callable(reply):
            reply = Reply(_encode(reply))
        await reply(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[Call, dict[str, str]]:
        scope["endpoint"] = None  # requests are counted under it
        path = route_path(scope)
        found = self._exact.get(path)
        values: dict[str, str] = {}
        if found is None:
            found, values = self._match(path)
        scope["endpoint"] = found
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        call = found.by_method.get(method)
        if call is None:
            raise MethodNotAllowed(scope["method"], ", ".join(sorted(found.by_method)))
        return call, values

    def _match(self, path: str) -> tuple[Calls, dict[str, str]]:
        for prefix, patterns in self._patterns.items():
            if path.startswith(prefix):
                for pattern, found in patterns:
                    if match := pattern.match(path):
                        return found, match.groupdict()
        raise Refused(NO_ENDPOINT, f"There is no such endpoint: {path[:300]}")


async def _fill(request: Request) -> None:
    """The fields of a body or a query, where the endpoint does not read the body itself."""
    if request.call.method == "GET":
        request.body = Fields.of_query(request.scope["query_string"])
    elif request.call.body is None:
        request.body = Fields.of_body(await request.read())
