"""The UI's files over HTTP: what is served, how it may be cached, and what a page may do."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from stepwell_tracker import pages
from stepwell_tracker.app import create_app
from stepwell_tracker.config import Settings
from stepwell_tracker.http import HEADERS

HOST = "http://127.0.0.1:7837"
ADDRESSES = (
    "/", "/runs/018d9c4230808f13be8df00000000000", "/compare?runs=a,b&x=time", "/models?model=a/b",
)  # fmt: skip


@pytest.fixture
def http(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST)


@pytest.mark.parametrize("address", ADDRESSES)
async def test_an_address_of_the_ui_is_not_its_page(http, address):
    answer = await http.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert "<title>Stepwell</title>" in answer.text


async def test_a_page_may_run_what_is_not_ours(http):
    answer = await http.get("/")
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|style=", answer.text)
    assert not re.search(r"(src|href)=\"(?!/static/)", answer.text)


async def test_an_asset_is_missing_or_asked_for_again(http):
    page = (await http.get("/")).text
    paths = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(paths) >= 3
    total = 0
    for path in paths:
        answer = await http.get(path)
        assert answer.status_code == 200, path
        total += len(gzip.compress(answer.content))
        if "/assets/" in path:
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
        assert answer.headers["content-type"].startswith(kind[path.rpartition(".")[2]])
        again = await http.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert total < 300_000


def test_the_sources_are_in_the_wheel():
    built = [path for path in pages.FOLDER.rglob("*") if path.is_file()]
    assert {path.suffix for path in built} <= {".gz", ".html", ".svg"}
    large = {path: gzip.decompress(path.read_bytes()) for path in built if path.suffix == ".gz"}
    assert {Path(path.stem).suffix for path in large} == {".css", ".js"}
    assert not [path for path, body in large.items() if b"sourceMappingURL" in body]


async def test_a_large_file_takes_room_on_the_disk_twice_or_cannot_be_had_plain(http):
    page = (await http.get("/")).text
    [path] = re.findall(r'src="(/static/[^"]+\.js)"', page)
    plain = await http.get(path, headers={"Accept-Encoding": "identity"})
    packed = await http.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert packed.headers["etag"] == plain.headers["etag"]
    kept = (pages.FOLDER / path.removeprefix("/static/")).with_suffix(".js.gz")
    assert int(packed.headers["content-length"]) == kept.stat().st_size


async def test_a_file_is_sent_larger_than_it_need_be(http):
    plain = await http.get("/", headers={"Accept-Encoding": "identity"})
    packed = await http.get("/", headers={"Accept-Encoding": "gzip, br"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert packed.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static/nothing.js", "/static/../app.py", "/static/%2e%2e/app.py",
     "/static/assets/../../pages.py", "/static//etc/passwd", "/runs", "/index.html"],
)  # fmt: skip
async def test_a_path_leads_elsewhere(http, path):
    answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_page_is_written_to(http):
    answer = await http.post("/", content=b"x")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    head = await http.head("/")
    assert (head.status_code, head.content) == (200, b"")


async def test_a_prefix_is_missing_from_the_addresses(tmp_path: Path):
    app = create_app(Settings(data=tmp_path / "data", root_path='/pre"fix'))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, root_path='/pre"fix')
        async with httpx.AsyncClient(transport=transport, base_url=HOST) as http:
            page = (await http.get("/")).text
    assert '"/pre&quot;fix/static/assets/' in page
    assert '"/static/' not in page


async def test_the_page_says_so_where_the_ui_was_not_built(tmp_path: Path):
    page = pages.routes(folder=tmp_path / "nothing")[0].app
    sent: list[dict[str, object]] = []

    async def send(message):
        sent.append(message)

    await page({"type": "http", "method": "GET", HEADERS: {}}, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 503
    assert b"has not been built" in bytes(sent[1]["body"])  # type: ignore[call-overload]
