"""The API as OpenAPI 3.1, made from the declarations that route the requests; and its limits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from stepwell import __version__, wire
from stepwell_tracker import schema
from stepwell_tracker.errors import PROBLEMS, slug_of
from stepwell_tracker.examples import EXAMPLES
from stepwell_tracker.http import Call, Reply, Request, Scope, as_json

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(\w+)(?::path)?}")
_PATH_PARAMETERS = {
    "run_id": "32 hex digits, or the same as a UUID; it names its tenant",
    "experiment_id": "a UUID, dashed or as 32 hex digits",
    "key": "the key of a series, percent-encoded; `/` may stand as it is",
    "path": "a path below the run's artifacts, percent-encoded; `/` may stand as it is",
}
_ALWAYS = (400, 403, 408, 431, 500)


async def get_limits(request: Request) -> schema.Limits:
    """What this server takes at most."""
    return schema.Limits()


async def get_openapi(request: Request) -> Reply:
    """This description of the API."""
    server = request.server
    return Reply(msgspec.json.encode(document(server.calls, server.settings.root_path)))


def document(calls: Sequence[Call], root_path: str = "") -> dict[str, Any]:
    """The OpenAPI document of the calls."""
    structs = list(dict.fromkeys([*_structs(calls), wire.Problem]))
    _, schemas = msgspec.json.schema_components(structs, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for call in calls:
        paths[plain_path(call.path)][call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stepwell", "version": __version__},
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                f"Problem{status}": _problem(status, titles)
                for status, titles in problem_titles().items()
            },
            "parameters": {
                "Tenant": {
                    "name": wire.TENANT_HEADER,
                    "in": "header",
                    "description": f"the tenant; without it `{wire.DEFAULT_TENANT}`,"
                    " or the one that the run id names",
                    "schema": {"type": "string"},
                }
            },
        },
    }


def plain_path(path: str) -> str:
    """A path as OpenAPI writes it: parameters without their kind."""
    return _PARAMETER.sub(r"{\1}", path)


def problem_titles() -> dict[int, list[str]]:
    """Each status of a problem, and what it can mean."""
    titles: dict[int, list[str]] = defaultdict(list)
    for status, title in sorted(PROBLEMS.values()):
        if title not in titles[status]:
            titles[status].append(title)
    titles[500].append("Internal error")
    return dict(titles)


def error_statuses(call: Call) -> list[int]:
    """What may go wrong with a call: by its scope, query and body, and what it says itself."""
    statuses = {*_ALWAYS, *call.errors}
    if call.scope is not Scope.SERVER:
        statuses.add(503)
        if call.method != "GET":
            statuses.add(507)
    if call.scope in (Scope.RUN, Scope.EXPERIMENT):
        statuses.add(404)
    if call.query is not None:
        statuses.add(422)
    if call.decoders:
        statuses |= {413, 415, 422}
    return sorted(statuses)


def _structs(calls: Iterable[Call]) -> Iterable[type[msgspec.Struct]]:
    for call in calls:
        for media in (call.body or {}, call.answer):
            yield from (struct for struct in media.values() if struct is not None)


def _operation(call: Call) -> dict[str, Any]:
    summary, _, rest = (call.endpoint.__doc__ or "").strip().partition("\n")
    operation: dict[str, Any] = {
        "operationId": call.endpoint.__name__,
        "summary": summary,
        "tags": [call.endpoint.__module__.rpartition(".")[2]],
        "parameters": _parameters(call),
        "responses": {
            **{
                str(status): {"description": "Success", "content": _content(call.answer)}
                for status in call.statuses
            },
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}"}
                for status in error_statuses(call)
            },
        },
    }
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    if call.body:
        operation["requestBody"] = {"required": True, "content": _content(call.body)}
    return operation


def _parameters(call: Call) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in _PARAMETER.findall(call.path)
    ]
    if call.scope is not Scope.SERVER:
        found.append({"$ref": "#/components/parameters/Tenant"})
    if call.query is not None:
        schema = msgspec.json.schema(call.query)
        properties = schema["$defs"][call.query.__name__]["properties"]
        found += [_query_parameter(name, dict(schema)) for name, schema in properties.items()]
    return found


def _query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    parameter = {"name": name, "in": "query", "schema": schema}
    if text := schema.pop("description", ""):
        parameter["description"] = text
    return parameter


def _content(media_types: Mapping[str, type[msgspec.Struct] | None]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media, struct in media_types.items():
        content[media] = {}
        if struct is not None:
            content[media]["schema"] = {"$ref": _REF.format(name=struct.__name__)}
            if media == wire.JSON:
                content[media]["example"] = EXAMPLES[struct]
    return content


def _problem(status: int, titles: list[str]) -> dict[str, Any]:
    example = wire.Problem(
        type=slug_of(titles[0]), title=titles[0], status=status, detail="what is wrong, in words"
    )
    return {
        "description": ", or ".join(titles),
        "content": {
            schema.PROBLEM: {
                "schema": {"$ref": _REF.format(name="Problem")},
                "example": msgspec.to_builtins(example),
            }
        },
    }


CALLS = (
    Call("GET", "/api/v1/limits", get_limits, scope=Scope.SERVER, answer=as_json(schema.Limits)),
    Call("GET", "/openapi.json", get_openapi, scope=Scope.SERVER, answer={wire.JSON: None}),
)
