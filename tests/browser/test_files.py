"""The files of a run: listed, shown in place, read again when they change."""

from __future__ import annotations

import re
import struct
import zlib

import pytest
from playwright.sync_api import expect


def picture(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x40\x80\xc0" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FILES = {
    "notes.md": (
        b"# Title\n\n**bold** <b>text</b>\n\n| a |\n|---|\n| 7 |\n",
        ".markdown h1",
        "Title",
    ),
    "table.csv": (b'name,value\n"a,b",1\n', ".viewer td", "a,b"),
    "config.json": (b'{"a":[1]}', ".viewer pre", '"a"'),
    "log.txt": (b"plain <i>words</i>", ".viewer pre", "<i>words</i>"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_shown_in_place(site, page, name):
    body, place, text = FILES[name]
    with site.client("files") as http:
        run_id = http.run("files")
        http.call("PUT", run_id, f"/artifacts/out/{name}", content=body)
    page.goto(f"{site.url}/runs/{run_id}?tenant=files&tab=artifacts")
    page.get_by_role("button", name="out/").click()
    page.get_by_role("button", name=name).click()
    expect(page.locator(place).first).to_contain_text(text)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download", exact=True).click()
    assert download.value.path().read_bytes() == body


def test_a_picture_is_shown_in_place(site, page):
    with site.client("files") as http:
        run_id = http.run("files")
        http.call("PUT", run_id, "/artifacts/plot.png", content=picture(30, 20))
    page.goto(f"{site.url}/runs/{run_id}?tenant=files&tab=artifacts&file=plot.png")
    image = page.get_by_role("img", name="plot.png")
    expect(image).to_be_visible()
    assert image.evaluate("i => i.decode().then(() => [i.naturalWidth, i.naturalHeight])") == [
        30,
        20,
    ]


def test_a_file_that_is_stored_again_is_shown_as_it_is_now(site, page):
    with site.client("again") as http:
        run_id = http.run("again")
        http.call("PUT", run_id, "/artifacts/log.txt", content=b"first\n" * 500)
        http.call("PUT", run_id, "/artifacts/plot.png", content=picture(30, 20))
        page.goto(f"{site.url}/runs/{run_id}?tenant=again&tab=artifacts&file=log.txt")
        expect(page.locator(".viewer pre")).to_contain_text("first")
        expect(page.locator(".live.live")).to_be_visible()
        top = "pre => pre.getBoundingClientRect().top"
        begun = page.locator(".viewer pre").evaluate(top)
        page.locator(".viewer pre").hover()
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(300)
        scrolled = page.locator(".viewer pre").evaluate(top)
        assert scrolled < begun
        http.call("PUT", run_id, "/artifacts/log.txt", content=b"second\n" * 500)
        expect(page.locator(".viewer pre")).to_contain_text("second")
        assert page.locator(".viewer pre").evaluate(top) == pytest.approx(scrolled, abs=2)
        page.get_by_role("button", name="plot.png").click()
        image = page.get_by_role("img", name="plot.png")
        width = "i => i.decode().then(() => i.naturalWidth)"
        expect(image).to_be_visible()
        assert image.evaluate(width) == 30
        http.call("PUT", run_id, "/artifacts/plot.png", content=picture(60, 20))
        expect(image).to_have_js_property("naturalWidth", 60)


def test_files_that_were_asked_for_stay_when_another_is_stored(site, page):
    with site.client("more-files") as http:
        run_id = http.run("many")
        for n in range(4):
            http.call("PUT", run_id, f"/artifacts/a/{n}.txt", content=b"x")
        page.route(
            re.compile(r"/artifacts\?path=a(&|$)"),
            lambda route: route.continue_(url=f"{route.request.url}&limit=2"),
        )
        page.goto(f"{site.url}/runs/{run_id}?tenant=more-files&tab=artifacts&folder=a")
        files = page.get_by_role("region", name="Files").get_by_role("row")
        expect(files).to_have_count(2)
        page.get_by_role("button", name="More", exact=True).click()
        expect(files).to_have_count(4)
        http.call("PUT", run_id, "/artifacts/a/0-new.txt", content=b"x")
        expect(files.first).to_contain_text("0-new.txt")
        expect(files).to_have_count(4)
        page.get_by_role("button", name="More", exact=True).click()
        expect(files).to_have_count(5)


def test_an_empty_file_is_said_to_be_empty(site, page):
    with site.client("files") as http:
        run_id = http.run("empty")
        http.call("PUT", run_id, "/artifacts/out/log.txt", content=b"")
    address = f"{site.url}/runs/{run_id}?tenant=files&tab=artifacts&file=out/log.txt"
    page.goto(f"{address}&folder=out")
    expect(page.locator(".viewer")).to_contain_text("This file is empty.")
    expect(page.locator(".viewer .warning")).to_have_count(0)


def test_an_empty_file_of_another_folder_is_said_to_be_empty(site, shaken):
    """Its size is not known before it is read, so the server refuses the range: 416."""
    with site.client("files") as http:
        run_id = http.run("empty")
        http.call("PUT", run_id, "/artifacts/out/log.txt", content=b"")
    shaken.goto(f"{site.url}/runs/{run_id}?tenant=files&tab=artifacts&file=out/log.txt")
    expect(shaken.locator(".viewer")).to_contain_text("This file is empty.")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_file_with_a_short_name_takes_one_line(site, page, width):
    with site.client("files") as http:
        run_id = http.run("lines")
        http.call("PUT", run_id, "/artifacts/notes.txt", content=b"x" * 700)
        http.call("PUT", run_id, f"/artifacts/{'z' * 180}.txt", content=b"x")
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{site.url}/runs/{run_id}?tenant=files&tab=artifacts&file=notes.txt")
    row = page.get_by_role("region", name="Files").get_by_role("row").first
    expect(row).to_contain_text("700 B")
    assert row.bounding_box()["height"] < 36
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
