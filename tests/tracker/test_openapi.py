"""/openapi.json: what it says is what the server does."""

import re
from typing import Any

import jsonschema
import msgspec
import pytest
from starlette.applications import Starlette

from stepwell import wire
from stepwell_tracker.app import CALLS
from stepwell_tracker.examples import EXAMPLES
from stepwell_tracker.openapi import error_statuses, plain_path
from tests.tracker.checked import DOCUMENT, RUNS, CheckedClient, validate

BODIES = [
    (call, struct)
    for call in CALLS
    for media, struct in (call.body or {}).items()
    if media == wire.JSON
]
ANSWERS = {struct for call in CALLS for struct in call.answer.values() if struct is not None}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if "$ref" in value else set()
        return found.union(*(references(one) for one in value.values()))
    if isinstance(value, list):
        return set().union(*(references(one) for one in value))
    return set()


async def test_the_document_that_is_served_is_the_one_that_is_tested(client: CheckedClient):
    assert await client.ok("GET", "/openapi.json") == msgspec.json.decode(
        msgspec.json.encode(DOCUMENT)
    )


def test_every_reference_leads_somewhere():
    assert references(DOCUMENT)
    for reference in references(DOCUMENT):
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_every_schema_is_one():
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_operations_have_names_of_their_own():
    names = [op["operationId"] for path in DOCUMENT["paths"].values() for op in path.values()]
    assert len(names) == len(set(names)) == len(CALLS)
    assert all(
        op["summary"].endswith(".") for path in DOCUMENT["paths"].values() for op in path.values()
    )


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_a_call_describes_its_parameters_body_and_answers(call):
    operation = DOCUMENT["paths"][plain_path(call.path)][call.method.lower()]
    in_path = {p["name"] for p in operation["parameters"] if p.get("in") == "path"}
    assert in_path == set(re.findall(r"{(\w+)", call.path))
    in_query = {p["name"] for p in operation["parameters"] if p.get("in") == "query"}
    fields = msgspec.structs.fields(call.query) if call.query else ()
    assert in_query == {field.encode_name for field in fields}
    body = operation.get("requestBody", {}).get("content", {})
    assert set(body) == set(call.body or {})
    assert set(operation["responses"]) == {
        str(status) for status in (*call.statuses, *error_statuses(call))
    }


@pytest.mark.parametrize("struct", EXAMPLES, ids=lambda struct: struct.__name__)
def test_every_example_is_of_its_schema_and_its_struct(struct):
    msgspec.convert(EXAMPLES[struct], struct)
    if struct.__name__ in DOCUMENT["components"]["schemas"]:
        validate(EXAMPLES[struct], {"$ref": f"#/components/schemas/{struct.__name__}"})


def test_every_struct_that_is_answered_has_an_example():
    assert {struct for struct in ANSWERS if not struct.__struct_config__.array_like} <= set(
        EXAMPLES
    )


@pytest.mark.parametrize(("call", "struct"), BODIES, ids=lambda value: getattr(value, "path", ""))
async def test_every_example_of_a_body_is_accepted(client: CheckedClient, call, struct):
    """The runs that examples speak of are made first."""
    run = EXAMPLES[wire.Run]
    headers = {"X-Tenant-ID": "acme-corp"}
    made = await client.ok("POST", RUNS, json={"run_id": run["run_id"]}, headers=headers)
    path = plain_path(call.path).format(run_id=made["run_id"], experiment_id=made["experiment_id"])
    response = await client.request(call.method, path, json=EXAMPLES[struct], headers=headers)
    assert response.status_code in call.statuses, response.text


async def test_the_prefix_of_a_proxy_is_the_servers_url(app: Starlette, client: CheckedClient):
    assert DOCUMENT["servers"] == [{"url": "/"}]
