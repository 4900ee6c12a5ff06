"""Artifacts in process: each answer is held against /openapi.json as well."""

from __future__ import annotations

import email.parser
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from stepwell import ids
from tests.tracker.checked import RUNS, CheckedClient


@pytest.fixture
async def base(client: CheckedClient) -> str:
    return f"{RUNS}/{await client.new_run()}/artifacts"


def stored(data: Path) -> list[str]:
    return sorted(p.name for p in (data / "tenants").rglob("artifacts/**/*") if p.is_file())


async def test_an_upload_comes_back_unchanged(client, base):
    body = os.urandom(700_001)
    reply = await client.ok("PUT", f"{base}/models/best.bin", content=body)
    assert reply == {
        "path": "models/best.bin", "size": 700_001, "sha256": hashlib.sha256(body).hexdigest(),
    }  # fmt: skip
    answer = await client.get(f"{base}/models/best.bin")
    assert answer.content == body
    assert answer.headers["content-length"] == "700001"
    assert answer.headers["content-type"] == "application/octet-stream"
    listing = await client.ok("GET", base, params={"path": "models"})
    [entry] = listing["artifacts"]
    assert entry.pop("modified_at") > 1_700_000_000_000
    assert entry == {
        "path": "models/best.bin", "is_dir": False, "size": 700_001,
        "media_type": "application/octet-stream",
    }  # fmt: skip
    assert listing["next_cursor"] is None


async def test_an_overwrite_keeps_the_old_bytes_or_the_old_etag(client, base):
    await client.ok("PUT", f"{base}/f", content=b"old bytes")
    old = (await client.get(f"{base}/f")).headers["etag"]
    await client.ok("PUT", f"{base}/f", content=b"new bytes")
    answer = await client.get(f"{base}/f")
    assert answer.content == b"new bytes"
    assert answer.headers["etag"] != old


async def test_an_empty_file_is_no_file(client, base):
    assert (await client.ok("PUT", f"{base}/empty", content=b""))["size"] == 0
    answer = await client.get(f"{base}/empty")
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await client.get(f"{base}/empty", headers={"Range": "bytes=0-"})).status_code == 416


@pytest.mark.parametrize(
    "name",
    [
        "100%.png",
        "a b+c.txt",
        "é/日本.bin",
        "a#b?c;d.txt",
        "%41",
        "dog+step+20+x.png",
        "incoming/x",
    ],
)
async def test_a_name_is_decoded_twice_or_not_at_all(client, base, data, name):
    url = f"{base}/{quote(name)}"
    reply = await client.ok("PUT", url, content=b"x")
    assert reply["path"] == name
    assert stored(data) == [name.rpartition("/")[2]]
    assert (await client.get(url)).content == b"x"
    folder = name.rpartition("/")[0]
    listing = await client.ok("GET", base, params={"path": folder})
    assert [entry["path"] for entry in listing["artifacts"]] == [name]
    assert (await client.ok("DELETE", url))["path"] == name


async def test_a_page_of_the_uploader_runs_in_the_browser(client, base):
    for name in ["x.html", "x.svg", "x.js", "x.xhtml", "x"]:
        await client.ok("PUT", f"{base}/{name}", content=b"<script>alert(1)</script>")
        headers = (await client.get(f"{base}/{name}")).headers
        assert headers["content-disposition"].startswith("attachment; filename=")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("sandbox")
        assert "access-control-allow-origin" not in headers


async def test_ranges_are_other_bytes(client, base):
    body = bytes(range(256)) * 2_000
    await client.ok("PUT", f"{base}/f", content=body)

    async def part(wanted: str) -> httpx.Response:
        answer: httpx.Response = await client.get(f"{base}/f", headers={"Range": wanted})
        return answer

    for wanted, start, stop in [
        ("bytes=0-0", 0, 1),
        ("bytes=300000-", 300_000, 512_000),
        ("bytes=-7", 511_993, 512_000),
        ("bytes=5-400000", 5, 400_001),
    ]:
        answer = await part(wanted)
        assert answer.status_code == 206
        assert answer.content == body[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/512000"
    refused = await part("bytes=512000-")
    assert refused.status_code == 416
    assert refused.headers["content-range"] == "bytes */512000"
    for ignored in ["bytes=5-4", "lines=1-2", "bytes=" + "0-0," * 200]:
        answer = await part(ignored)
        assert (answer.status_code, len(answer.content)) == (200, 512_000)


async def test_a_condition_is_passed_over(client, base):
    await client.ok("PUT", f"{base}/f", content=b"one")
    known = (await client.get(f"{base}/f")).headers["etag"]
    for value in (known, "*", f'"x", {known}'):
        assert (await client.get(f"{base}/f", headers={"If-Match": value})).status_code == 200
    for name in ("If-Match", "If-None-Match", "If-Unmodified-Since"):
        for method in ("PUT", "DELETE"):
            problem = await client.refused(400, method, f"{base}/f", headers={name: "*"})
            assert name.lower() in problem.detail
    assert (await client.get(f"{base}/f")).content == b"one"
    await client.ok("PUT", f"{base}/f", content=b"two")
    stale = {"If-Match": known, "Range": "bytes=1-"}
    await client.refused(412, "GET", f"{base}/f", headers=stale)


async def test_several_ranges_are_no_mime_message(client, base):
    body = os.urandom(400_000)
    await client.ok("PUT", f"{base}/f.txt", content=body)
    answer = await client.get(f"{base}/f.txt", headers={"Range": "bytes=0-9,300000-399999,100-199"})
    assert answer.status_code == 206
    assert int(answer.headers["content-length"]) == len(answer.content)
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser().parsebytes(head + answer.content)
    assert message.get_content_type() == "multipart/byteranges"
    boundary = b"\r\n--" + str(message.get_boundary()).encode()
    pieces = [piece.partition(b"\r\n\r\n")[2] for piece in answer.content.split(boundary)[1:-1]]
    assert pieces == [body[0:10], body[300_000:400_000], body[100:200]]
    ranges = [part["content-range"] for part in message.walk()][1:]
    assert ranges == ["bytes 0-9/400000", "bytes 300000-399999/400000", "bytes 100-199/400000"]


async def test_a_resumed_download_mixes_two_versions(client, base):
    await client.ok("PUT", f"{base}/f", content=b"1" * 1_000)
    first = await client.get(f"{base}/f", headers={"Range": "bytes=0-499"})
    resume = {"Range": "bytes=500-", "If-Range": first.headers["etag"]}
    assert (await client.get(f"{base}/f", headers=resume)).status_code == 206
    await client.ok("PUT", f"{base}/f", content=b"2" * 1_000)
    changed = await client.get(f"{base}/f", headers=resume)
    assert (changed.status_code, changed.content) == (200, b"2" * 1_000)
    dated = {"Range": "bytes=500-", "If-Range": first.headers["last-modified"]}
    assert (await client.get(f"{base}/f", headers=dated)).status_code == 200


async def test_an_unchanged_file_is_not_sent_again(client, base):
    await client.ok("PUT", f"{base}/f", content=b"1" * 1_000)
    etag = (await client.get(f"{base}/f")).headers["etag"]
    for known in [etag, f'"x", W/{etag}', "*"]:
        answer = await client.get(f"{base}/f", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    assert (await client.get(f"{base}/f", headers={"If-None-Match": '"x"'})).status_code == 200


async def test_head_sends_bytes_or_other_headers(client, base):
    await client.ok("PUT", f"{base}/f.png", content=b"1" * 1_000)
    get = await client.get(f"{base}/f.png")
    head = await client.head(f"{base}/f.png", headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers
    assert (await client.head(f"{base}/missing")).status_code == 404


async def test_a_folder_is_a_file(client, base):
    await client.ok("PUT", f"{base}/a/b/c", content=b"1")
    for path in ["a", "a/b", "a/b/c/d", "missing", "a/missing"]:
        await client.refused(404, "GET", f"{base}/{path}")
    for path in ["a", "a/b", "a/b/c/d", "a/b/c/d/e"]:
        problem = await client.refused(409, "PUT", f"{base}/{path}", content=b"2")
        assert path in problem.detail or "a/b/c" in problem.detail
    for path in ["nothing", "a/b/c", "a/nothing"]:
        assert (await client.ok("GET", base, params={"path": path}))["artifacts"] == []
    assert (await client.get(f"{base}/a/b/c")).content == b"1"


async def test_a_delete_takes_what_it_names_and_no_more(client, base):
    for path in ["a/1", "a/b/2", "ab/3", "z"]:
        await client.ok("PUT", f"{base}/{path}", content=b"x")
    assert await client.ok("DELETE", f"{base}/a") == {"path": "a", "deleted": True}
    assert await client.ok("DELETE", f"{base}/a") == {"path": "a", "deleted": False}
    listing = await client.ok("GET", base)
    assert [(e["path"], e["is_dir"]) for e in listing["artifacts"]] == [("ab", True), ("z", False)]


async def test_a_long_listing_neither_repeats_nor_skips(client, base):
    names = [f"f{i:02}" for i in range(25)]
    for name in names:
        await client.ok("PUT", f"{base}/d/{name}", content=b"")
    seen, cursor = [], None
    while True:
        params: dict[str, Any] = {"path": "d", "limit": 10}
        params |= {"cursor": cursor} if cursor else {}
        page = await client.ok("GET", base, params=params)
        seen += [entry["path"] for entry in page["artifacts"]]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == [f"d/{name}" for name in names]
    for wrong in [{"cursor": "x"}, {"path": "e", "cursor": "AAAA"}]:
        await client.refused(400, "GET", base, params=wrong)
    for limit in [0, 1_001, "x"]:
        problem = await client.refused(422, "GET", base, params={"limit": limit})
        assert [error.path for error in problem.errors] == ["limit"]


NO_PATHS = [
    "a/", "a//b", "%00", "a%00b", "%5C", "a%5Cb", "%80", "x" * 256, "%2e%2e/x", "..%2fx",
    "%2fetc/passwd", "%252e%252e/x", "C:/x", "a%7Fb",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_PATHS)
async def test_a_name_that_is_no_path_is_refused(client, base, data, name):
    for method in ["PUT", "GET", "DELETE"]:
        problem = await client.refused(422, method, f"{base}/{name}")
        assert [error.path for error in problem.errors] == ["path"]
    assert stored(data) == []


async def test_a_folder_that_is_no_path_is_listed(client, base):
    for path in ["..", "/", "a/../b", "a\\b", "\x00", "%2e%2e"]:
        problem = await client.refused(422, "GET", base, params={"path": path})
        assert [error.path for error in problem.errors] == ["path"]


async def test_an_upload_that_is_not_a_plain_file_is_taken_for_one(client, base, data):
    await client.refused(
        415, "PUT", f"{base}/f", content=b"x", headers={"Content-Encoding": "gzip"}
    )
    await client.refused(
        400, "PUT", f"{base}/f", content=b"x", headers={"Content-Range": "bytes 5-5/10"}
    )
    assert stored(data) == []


async def test_an_upload_larger_than_the_disk_is_refused_unread(client, base, data):
    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        pytest.fail("the body was read although it cannot fit")

    await client.refused(
        507, "PUT", f"{base}/f", content=endless(), headers={"Content-Length": str(2**60)}
    )
    assert stored(data) == []


async def test_a_deleted_run_takes_no_files(client, base):
    await client.ok("PUT", f"{base}/f", content=b"1")
    await client.ok("POST", base.replace("/artifacts", "/end"))
    await client.ok("PUT", f"{base}/late", content=b"late data is data")
    await client.ok("DELETE", base.removesuffix("/artifacts"))
    await client.refused(409, "PUT", f"{base}/f", content=b"2")
    await client.refused(409, "DELETE", f"{base}/f")
    assert (await client.get(f"{base}/f")).content == b"1"
    await client.ok("POST", base.replace("/artifacts", "/restore"))
    await client.ok("PUT", f"{base}/f", content=b"2")


async def test_an_unknown_run_or_tenant_gets_a_folder(client, data):
    await client.new_run(tenant="acme")
    for run in [ids.new_run_id("acme"), ids.new_run_id("nobody"), "0" * 32, "x", "..", "%2e%2e"]:
        for method in ["GET", "PUT", "DELETE"]:
            await client.refused(404, method, f"{RUNS}/{run}/artifacts/f")
    assert not list((data / "tenants").rglob("artifacts"))
    assert [p.name for p in (data / "tenants").iterdir()] == ["acme"]


async def test_no_tenant_reads_anothers_files(client):
    run_id = await client.new_run(tenant="acme")
    url = f"{RUNS}/{run_id}/artifacts/secret"
    await client.ok("PUT", url, content=b"secret")
    assert (await client.get(url)).content == b"secret"  # the id names its tenant
    for method in ["GET", "PUT", "DELETE", "HEAD"]:
        answer = await client.request(method, url, headers={"X-Tenant-ID": "rival"})
        assert answer.status_code == 404
    answer = await client.get(f"{RUNS}/{run_id}/artifacts", headers={"X-Tenant-ID": "rival"})
    assert answer.status_code == 404
    assert (await client.get(url)).content == b"secret"
