"""docs/api.md against the server: every call, error, parameter and limit; its examples are sent."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepwell import wire
from stepwell_tracker.app import CALLS
from stepwell_tracker.openapi import plain_path, problem_titles
from tests.tracker.checked import BASE, CheckedClient

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
MENTIONED = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^` ]*)`")


def test_every_call_is_described_and_nothing_else():
    described = {(method, path) for method, path in MENTIONED.findall(TEXT)}
    assert described == {(call.method, plain_path(call.path)) for call in CALLS}


def test_every_error_is_described_by_status_and_title():
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", TEXT, re.MULTILINE)
    described: dict[int, list[str]] = {}
    for status, title in rows:
        described.setdefault(int(status), []).append(title)
    assert {status: sorted(set(titles)) for status, titles in described.items()} == {
        status: sorted(titles) for status, titles in problem_titles().items()
    }


def section(call_path: str) -> str:
    """The text from the last mention of a call to the next heading."""
    start = TEXT.rindex(f"`{call_path}`")
    return TEXT[TEXT.rindex("\n", 0, start) :].split("\n## ")[0]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_every_parameter_and_media_type_is_named(call):
    text = section(f"{call.method} {plain_path(call.path)}")
    names = [field.encode_name for field in msgspec.structs.fields(call.query or msgspec.Struct)]
    for name in names:
        assert f"`{name}`" in text, f"{call.method} {call.path}: {name}"
    for media in {*(call.body or {}), *call.answer}:
        assert f"`{media}`" in TEXT or f"Accept: {media}`" in TEXT or f"Type: {media}`" in TEXT


def test_the_columnar_example_is_what_it_says():
    [block] = [text for kind, text in BLOCKS if kind == "columns"]
    sent = bytes.fromhex("".join(line.strip().split("  ")[0] for line in block.splitlines()))
    body = msgspec.msgpack.decode(sent, type=wire.ColumnarBatch)
    [series] = body.series
    assert (body.format, series.key) == (1, "loss")
    assert int.from_bytes(series.steps, "little") == 1
    assert int.from_bytes(series.timestamps, "little") == 1707723600000
    again = [1, [["loss", series.steps, series.timestamps, series.values]]]
    assert msgspec.msgpack.encode(again) == sent


def shape(value: Any) -> Any:
    """What an answer looks like: the names of its fields, whatever is in them."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "null" if value is None else "value"


async def test_the_examples_one_after_the_other(client: CheckedClient):
    sent = 0
    for (kind, request), (_, answer) in zip(BLOCKS, BLOCKS[1:] + [("", "")], strict=True):
        if kind != "http":
            continue
        head, _, body = request.partition("\n\n")
        first, *headers = head.strip().split("\n")
        method, url = first.split(" ")
        assert url.startswith("/")
        shown = await client.ok(
            method,
            url,
            headers=dict(line.split(": ") for line in headers),
            json=json.loads(body) if body else None,
        )
        assert shape(shown) == shape(json.loads(answer)), first
        sent += 1
    assert sent > 10
    assert (await client.ok("GET", BASE))["total"] == 1, "the examples name their tenant"


def test_the_problem_that_is_shown_is_one():
    [shown] = [text for kind, text in BLOCKS if kind == "json" and "urn:" in text]
    problem = msgspec.json.decode(shown, type=wire.Problem)
    assert problem.title in problem_titles()[problem.status]
