from __future__ import annotations

import pytest

from tests.tracker.checked import RUNS, CheckedClient


@pytest.fixture
async def url(client: CheckedClient) -> str:
    return f"{RUNS}/{await client.new_run()}/console"


def line(text: str, stream: str = "stdout") -> dict[str, object]:
    return {"stream": stream, "timestamp": 1707723600000, "text": text}


async def test_lines_come_back_in_another_order(client, url):
    texts = [f"line {i} \u00e9 \x1b[31m<b> \x00" for i in range(2_500)]
    for start in range(0, len(texts), 700):
        some = [line(text, "stderr") for text in texts[start : start + 700]]
        assert (await client.ok("POST", url, json={"lines": some}))["accepted"] == len(some)
    seen, cursor = [], None
    while True:
        page = await client.ok("GET", url, params={"cursor": cursor} if cursor else {})
        seen += page["lines"]
        assert page["total"] == 2_500
        if not (cursor := page["next_cursor"]):
            break
    assert [entry["text"] for entry in seen] == texts
    assert [entry["number"] for entry in seen] == list(range(2_500))
    assert {entry["stream"] for entry in seen} == {"stderr"}
    tail = await client.ok("GET", url, params={"tail": 3})
    assert [entry["number"] for entry in tail["lines"]] == [2_497, 2_498, 2_499]
    long = await client.ok("GET", url, params={"tail": 1_500, "limit": 10})
    assert long["lines"][0]["number"] == 1_000
    more = await client.ok("GET", url, params={"cursor": long["next_cursor"], "limit": 1})
    assert [entry["number"] for entry in more["lines"]] == [1_010]


async def test_a_silent_run_has_no_lines(client, url):
    page = await client.ok("GET", url)
    assert (page["lines"], page["total"], page["next_cursor"]) == ([], 0, None)
    assert (await client.ok("POST", url, json={"lines": []}))["accepted"] == 0
    assert (await client.ok("GET", url, params={"tail": 10}))["lines"] == []


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "lines"),
        ({"lines": [line("ok"), line("x" * 20_001)]}, "lines[1].text"),
        ({"lines": [line("x")] * 10_001}, "lines"),
        ({"lines": [line("x", "stdin")]}, "lines[0].stream"),
        ({"lines": [{"stream": "stdout", "text": "x"}]}, "lines[0].timestamp"),
        ({"lines": [line("x") | {"timestamp": 2**63}]}, "lines[0].timestamp"),
        ({"lines": [line("x") | {"timestamp": 1.5}]}, "lines[0].timestamp"),
    ],
    ids=["missing", "long", "many", "stream", "untimed", "late", "fraction"],
)
async def test_a_wrong_line_is_named_and_nothing_is_kept(client, url, body, path):
    problem = await client.refused(422, "POST", url, json=body)
    assert [error.path for error in problem.errors] == [path]
    assert (await client.ok("GET", url))["total"] == 0


async def test_a_lone_surrogate_is_a_wrong_field(client, url):
    body = b'{"lines":[{"stream":"stdout","timestamp":1,"text":"\\ud800"}]}'
    headers = {"Content-Type": "application/json"}
    answer = await client.post(url, content=body, headers=headers)
    assert answer.status_code == 422


async def test_a_wrong_page_is_refused(client, url):
    for params in [{"tail": 0}, {"tail": 10_001}, {"limit": 0}, {"limit": 10_001}]:
        problem = await client.refused(422, "GET", url, params=params)
        assert [error.path for error in problem.errors] == list(params)
    await client.refused(422, "GET", url, params={"tail": 5, "cursor": "x"})
    await client.refused(400, "GET", url, params={"cursor": "x"})


async def test_a_deleted_run_takes_no_lines(client, url):
    await client.ok("DELETE", url.removesuffix("/console"))
    await client.refused(409, "POST", url, json={"lines": [line("x")]})
    assert (await client.ok("GET", url))["total"] == 0
