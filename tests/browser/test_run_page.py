"""One run: live, zoomed, read exactly, its console, its files, stopped and renamed."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from stepwell import ExperimentTracker, RunConfig
from tests.browser.conftest import POINTS, SPIKE
from tests.browser.seeding import RUNS, START

LIVE_MS = 3_000


def points(page: Page, metric: str) -> int:
    """How many points the chart of a metric holds."""
    return int(page.locator(f"[data-metric='{metric}'] .plot").get_attribute("data-points") or 0)


def hovered(page: Page, metric: str, share: float, height: float = 0.5) -> str:
    """What the tooltip says at a share of a chart's width, and of its height from the top."""
    area = page.locator(f"[data-metric='{metric}'] .u-over")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * share, box["y"] + box["height"] * height
    page.mouse.move(x, y)
    page.mouse.move(x, y + 1)
    return page.locator(".tooltip").inner_text()


def zoomed(page: Page, metric: str, first: float, last: float) -> None:
    box = page.locator(f"[data-metric='{metric}'] .u-over").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * first, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * last, middle, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile("zoom="))


def test_a_real_training_is_followed_and_told_to_stop(site, page):
    """A least-squares fit by gradient descent, logged by the SDK, stopped from its page."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(200, 4))
    wanted = inputs @ np.array([1.0, -2.0, 0.5, 3.0])
    weights = np.zeros(4)
    config = RunConfig(run_name="least squares", tenant_id="training")
    with ExperimentTracker(site.url).start_run("fit", config) as run:
        run.log_params({"lr": 0.05})
        run.flush(10)
        page.goto(f"{run.url}?tenant=training")
        expect(page.get_by_text("running")).to_be_visible()
        expect(page.locator(".live.live")).to_be_visible()
        for step in range(40):
            error = inputs @ weights - wanted
            weights -= 0.05 * inputs.T @ error / len(error)
            run.log_metrics({"loss": float(error @ error / len(error))}, step=step)
            if step in (0, 20, 39):
                run.flush(10)
                plot = page.locator("[data-metric='loss'] .plot")
                expect(plot).to_have_attribute("data-points", str(step + 1), timeout=LIVE_MS)
        shown = page.locator(".latest dd").get_attribute("title")
        assert shown is not None
        assert float(shown.split(" ")[0]) == float(error @ error / len(error))
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("asked to stop")).to_be_visible()
        run.log_metrics({"loss": 0.0}, step=40)
        run.flush(10)
        assert run.stop_requested
    expect(page.locator(".run-head .status")).to_have_text("finished", timeout=LIVE_MS)


def hide(page: Page, hidden: bool) -> None:
    """As if another tab had been brought to the front, or this one again."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
            document.dispatchEvent(new Event('visibilitychange')); }""",
        hidden,
    )


def test_a_connection_that_broke_leaves_no_gap(site, page):
    with site.client("gaps") as http:
        run_id = http.run("broken")
        http.points(run_id, "loss", np.arange(5.0))
        page.goto(f"{site.url}/runs/{run_id}?tenant=gaps")
        plot = page.locator("[data-metric='loss'] .plot")
        expect(plot).to_have_attribute("data-points", "5")
        hide(page, True)
        expect(page.locator(".live.paused")).to_be_visible()
        for step in range(5, 9):
            http.points(run_id, "loss", np.array([float(step)]), step)
        hide(page, False)
        expect(plot).to_have_attribute("data-points", "9", timeout=LIVE_MS * 2)


def test_what_is_logged_while_a_page_reads_is_there(site, page):
    """Points that come while the first read is on its way, and some further back."""
    with site.client("gaps") as http:
        run_id = http.run("busy")
        http.points(run_id, "loss", np.arange(50.0))

        def late(route: Route) -> None:
            answer = route.fetch()
            if len(asked) == 0:
                for step in range(50, 53):
                    http.points(run_id, "loss", np.array([float(step)]), step)
            asked.append(answer)
            route.fulfill(response=answer)

        asked: list[object] = []
        page.route(re.compile("/runs/series"), late)
        page.goto(f"{site.url}/runs/{run_id}?tenant=gaps")
        plot = page.locator("[data-metric='loss'] .plot")
        expect(plot).to_have_attribute("data-points", "53", timeout=LIVE_MS)
        times = 1_790_000_000_000 + np.arange(30) * 1_000
        http.points(run_id, "loss", np.arange(30.0) / 7, 40, times)  # from 40 again, up to 69
        expect(plot).to_have_attribute("data-points", "83", timeout=LIVE_MS)


def test_a_spike_among_a_million_points_is_on_the_screen(site, page):
    page.goto(f"{site.url}/runs/{site.long[0]}?tenant=long")
    expect(page.locator("[data-metric='loss'] .chart-note")).to_contain_text("pts")
    assert 0 < points(page, "loss") < 4_000
    told = hovered(page, "loss", SPIKE / POINTS, height=0.05)
    assert f"step {SPIKE} ·" in told
    assert re.search(r"\n99\n.* … 99 in \d[\d,]+ points", told)


def test_zoom_shows_every_point_where_they_have_room(site, page):
    page.goto(f"{site.url}/runs/{site.long[0]}?tenant=long&zoom={SPIKE - 5},{SPIKE + 5}")
    note = page.locator("[data-metric='loss'] .chart-note")
    expect(note).to_have_attribute("title", re.compile("every one drawn"))
    assert hovered(page, "loss", 0.5).startswith(f"step {SPIKE} ·")
    text = page.locator(".tooltip b").inner_text()
    assert text == "99"
    page.keyboard.press("c")
    expect(page.get_by_text("Copied the exact values")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0] == "run\tkey\tstep\ttimestamp\tvalue"
    assert copied[1].split("\t")[1:3] == ["loss", str(SPIKE)]


def test_a_drag_zooms_and_a_double_click_undoes_it(site, page):
    page.goto(f"{site.url}/runs/{site.long[0]}?tenant=long")
    expect(page.locator("[data-metric='loss'] .chart-note")).to_contain_text("pts")
    zoomed(page, "loss", 0.60, 0.70)
    low, high = (float(part) for part in page.url.split("zoom=")[1].split("&")[0].split(","))
    assert 580_000 < low < 620_000
    assert 680_000 < high < 720_000
    note = page.locator("[data-metric='loss'] .chart-note")
    expect(note).to_have_attribute("title", re.compile(r"^1\d\d,\d{3} points as"))
    page.locator("[data-metric='loss'] .u-over").dblclick()
    expect(page).not_to_have_url(re.compile("zoom="))
    expect(note).to_have_attribute("title", re.compile("^1,000,000 points as"))


def test_new_points_show_in_a_stretch_that_they_belong_to(site, page):
    """A zoom that reaches the newest point goes on with what comes; any other stays as it is."""
    with site.client("stretch") as http:
        run_id = http.run("growing", start_time=START)
        http.points(run_id, "loss", np.arange(100.0))
        address = f"{site.url}/runs/{run_id}?tenant=stretch"
        plot = page.locator("[data-metric='loss'] .plot")

        def shows(points: int) -> None:
            expect(plot).to_have_attribute("data-points", str(points))

        page.goto(f"{address}&zoom=80,")
        shows(20)
        expect(page.locator(".live.live")).to_be_visible()
        http.points(run_id, "loss", np.array([100.0]), 100)
        shows(21)
        http.points(run_id, "loss", np.arange(3.0), 101)
        shows(24)
        page.goto(f"{address}&zoom=90,105")  # into what is to come
        shows(15)
        http.points(run_id, "loss", np.arange(4.0), 104)  # 106, 107 lie beyond, but for a margin
        shows(17)
        page.goto(f"{address}&x=relative&zoom=0.5,")
        shows(62)  # a few before its edge, too
        http.points(run_id, "loss", np.arange(2.0), 108, START + 10 * np.arange(108, 110))
        shows(64)
        page.goto(f"{address}&zoom=10,20")
        shows(13)
        http.points(run_id, "loss", np.array([7.0]), 200)
        http.points(run_id, "loss", np.array([7.0]), 15, [START + 7])  # late, but inside
        shows(14)
        http.points(run_id, "loss", np.array([8.0]), 201)
        page.locator("[data-metric='loss'] .u-over").dblclick()
        shows(113)


def test_a_drag_to_the_newest_point_follows_what_comes(site, page):
    with site.client("stretch") as http:
        run_id = http.run("dragged")
        http.points(run_id, "loss", np.arange(100.0))
        page.goto(f"{site.url}/runs/{run_id}?tenant=stretch")
        plot = page.locator("[data-metric='loss'] .plot")
        expect(plot).to_have_attribute("data-points", "100")
        expect(page.locator(".live.live")).to_be_visible()
        zoomed(page, "loss", 0.8, 1.2)
        expect(page).to_have_url(re.compile(r"zoom=(79|80)[.\d]*,$"))
        expect(plot).to_have_attribute("data-points", re.compile("2[01]"))
        before = points(page, "loss")
        http.points(run_id, "loss", np.arange(50.0), 100)
        expect(plot).to_have_attribute("data-points", str(before + 50))
        assert hovered(page, "loss", 0.995).startswith("step 149 ·")


def test_log_smoothing_and_axes_are_in_the_address(site, page):
    page.goto(f"{site.url}/runs/{site.long[0]}?tenant=long")
    page.get_by_label("Log y").check()
    page.get_by_label("Smoothing").fill("5")
    page.get_by_label("X axis").select_option("relative")
    expect(page).to_have_url(re.compile(r"log=1.*smooth=5.*x=relative"))
    text = hovered(page, "loss", 0.5)
    assert "smooth" in text or "99" in text
    page.get_by_label("X axis").select_option("loss")
    expect(page).to_have_url(re.compile(r"x=loss"))


WRITTEN = """window.written = [];
    const write = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
        window.written.push(text);
        return write.call(this, text, x, y);
    };"""


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(0.0132, 0.0187, {"0.014", "0.016", "0.018"}), (0.13, 870.0, {"1", "10", "100"}),
     (1.3, 27.0, {"2", "5", "10", "20"})],
)  # fmt: skip
def test_a_logarithmic_axis_has_round_labels(site, page, low, high, labels):
    with site.client("logarithms") as http:
        run_id = http.run("one")
        http.points(run_id, "loss", np.geomspace(high, low, 40))
    page.add_init_script(WRITTEN)
    page.goto(f"{site.url}/runs/{run_id}?tenant=logarithms&log=1")
    expect(page.locator("[data-metric='loss'] .plot")).to_have_attribute("data-points", "40")
    page.wait_for_timeout(500)
    written = set(page.evaluate("window.written"))
    assert labels <= written
    assert max(map(len, written)) <= len("0.014")


def test_wall_time_has_labels_that_fit(site, page):
    with site.client("clock") as http:
        run_id = http.run("one")
        begun = 1_790_000_040_000  # 2026-09-21 14:14 UTC
        http.points(run_id, "loss", np.arange(60.0), 0, begun + 10_000 * np.arange(60))
    page.add_init_script(WRITTEN)
    page.goto(f"{site.url}/runs/{run_id}?tenant=clock&x=time")
    expect(page.locator("[data-metric='loss'] .plot")).to_have_attribute("data-points", "60")
    page.wait_for_timeout(500)
    written = page.evaluate("window.written")
    assert {"14:15", "14:20"} <= set(written)
    assert not [text for text in written if "\n" in text or "pm" in text]
    assert "· 2026-09-21 14:1" in hovered(page, "loss", 0.5)


@pytest.mark.parametrize("width", [390, 700])
def test_what_floats_stays_in_the_window(site, page, width):
    page.set_viewport_size({"width": width, "height": 844})

    def inside(selector: str) -> None:
        expect(page.locator(selector)).to_be_visible()
        box = page.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width, selector

    page.goto(f"{site.url}/runs/{site.long[0]}?tenant=long&smooth=1")
    expect(page.locator("[data-metric='loss'] .chart-note")).to_contain_text("pts")
    for share in (0.05, 0.45, 0.55, 0.95):
        hovered(page, "loss", share)
        inside(".tooltip")
    for menu in ("Overlay the best by another metric", "More for this run"):
        page.get_by_label(menu).click()
        inside(".menu-panel")
        page.keyboard.press("Escape")
    page.goto(f"{site.url}/?tenant=sweeps")
    page.get_by_role("button", name="Columns").click()
    inside(".menu-panel")
    page.keyboard.press("Escape")
    page.locator("[data-row='0'] input").click()
    page.get_by_role("button", name="Tag…").click()
    inside("dialog")
    inside("dialog button.main")


def test_values_that_are_not_finite_and_steps_that_went_back_are_drawn(site, page):
    values = 1 / (1 + np.arange(150) * 0.05)
    values[[30, 40, 100]] = np.nan, np.inf, -np.inf
    with site.client("odd") as http:
        run_id = http.run("resumed")
        times = 1_790_000_000_000 + np.arange(150) * 1_000
        http.points(run_id, "loss", values[:80], 0, times[:80])
        http.points(run_id, "loss", values[80:], 50, times[80:])
    page.goto(f"{site.url}/runs/{run_id}?tenant=odd")
    expect(page.locator("[data-metric='loss'] .chart-note")).to_contain_text("3 not finite")
    assert points(page, "loss") == 150
    assert "NaN" in hovered(page, "loss", 30 / 119)


def test_a_series_as_csv_has_every_point(site, page):
    with site.client("export") as http:
        run_id = http.run("=cmd()")
        values = np.random.default_rng(3).normal(size=5_000)
        http.points(run_id, "loss", values)
    page.goto(f"{site.url}/runs/{run_id}?tenant=export")
    expect(page.locator("[data-metric='loss'] .chart-note b")).to_be_visible()
    for kind, head in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("every point as CSV", b"run_id")):
        page.get_by_label("More for loss").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save {'as ' if len(kind) == 3 else ''}{kind}").click()
        body = download.value.path().read_bytes()
        assert body.startswith(head), kind
    lines = body.decode().splitlines()
    assert [float(line.split(",")[5]) for line in lines[1:]] == values.tolist()
    assert lines[1].split(",")[1] == "'=cmd()"


def test_a_million_points_and_more_as_csv_are_all_there(site, page):
    """Page by page, every point: what is not finite, extremes, and all digits."""
    count = 1_000_500
    values = np.random.default_rng(5).normal(size=count)
    values[[0, 7, 99_999, 100_000, 999_999, count - 1]] = (
        np.nan, np.inf, -np.inf, 1.7976931348623157e308, 5e-324, -0.0,
    )  # fmt: skip
    with site.client("export") as http:
        run_id = http.run("long")
        for at in range(0, count, 250_000):
            http.points(run_id, "a/b", values[at : at + 250_000], at)
    page.goto(f"{site.url}/runs/{run_id}?tenant=export")
    expect(page.locator("[data-metric='a/b'] .chart-note")).to_contain_text("pts")
    page.get_by_label("More for a/b").click()
    with page.expect_download(timeout=60_000) as download:
        page.get_by_role("button", name="Save every point as CSV").click()
    with download.value.path().open() as file:
        assert file.readline() == "run_id,run,key,step,timestamp,value\n"
        rows = np.loadtxt(file, delimiter=",", usecols=(3, 4, 5))
    assert rows.shape == (count, 3)
    assert np.array_equal(rows[:, 0], np.arange(count))
    assert np.array_equal(rows[:, 1], START + 10.0 * np.arange(count))
    assert np.array_equal(rows[:, 2].view(np.int64), values.view(np.int64))


def test_fifty_thousand_metrics_are_a_tree_that_is_searched(site, page):
    with site.client("wide") as http:
        run_id = http.run("wide")
        http.keys(run_id, [f"layer{n % 250}/unit{n:05d}" for n in range(50_000)])
        http.points(run_id, "zeta/loss", np.array([3.0, np.nan, 1.5]))
    page.goto(f"{site.url}/runs/{run_id}?tenant=wide")
    first = page.locator("[data-metric='layer0/unit00000'] .plot")
    expect(first).to_have_attribute("data-points", "1")
    tree = page.get_by_role("navigation", name="Metrics")
    expect(tree.locator(".choice").first).to_contain_text("50,001")
    expect(tree).to_contain_text("and 51 more")
    loss = page.locator(".latest div", has_text="zeta/loss")  # the last of all by name
    expect(loss.locator("dd")).to_have_attribute("title", "1.5 at step 2; lowest 1.5, highest 3")
    assert page.locator(".chart").count() < 100
    page.get_by_label("Find a metric").fill("unit12345")
    expect(page.locator(".chart")).to_have_count(1)
    expect(page.locator(".chart-note b")).to_have_attribute("title", "12345")
    expect(tree.locator(".choice")).to_have_text(["All 1", "layer95 1"])
    page.goto(f"{site.url}/compare?tenant=wide&runs={run_id}")
    expect(tree.locator(".choice").first).to_contain_text("50,001")
    page.goto(f"{site.url}/runs/{run_id}?tenant=wide")
    page.get_by_role("link", name="Details").click()
    expect(page.get_by_role("heading", name="Metrics 50,001")).to_be_visible()
    page.get_by_label("Find a key").fill("unit49999")
    expect(page.get_by_role("row", name="unit49999")).to_contain_text("49,999")


def test_system_metrics_are_beside_the_training(site, page):
    with site.client("sweeps") as http:
        found = http.get("/api/v1/experiments/runs?limit=1").json()
    page.goto(f"{site.url}/runs/{found['runs'][0]['run_id']}?tenant=sweeps")
    expect(page.locator(".group[aria-label='system/gpu/0']")).to_be_attached()
    page.get_by_role("button", name=re.compile("^system")).click()
    expect(page.locator(".chart")).to_have_count(4)


def test_zoom_by_steps_leaves_the_machines_seconds_whole(site, page):
    """The SDK's system metrics count seconds: a stretch of steps is none of theirs."""
    with site.client("machine") as http:
        run_id = http.run("watched", start_time=1_790_000_000_000)
        times = 1_790_000_000_000 + np.arange(60) * 1_000
        http.points(run_id, "loss", np.linspace(1, 0, 600), 0, times.repeat(10))
        http.points(run_id, "system/cpu_percent", np.arange(60.0), 0, times)
    page.goto(f"{site.url}/runs/{run_id}?tenant=machine&zoom=300,310")
    note = page.locator("[data-metric='loss'] .chart-note")
    expect(note).to_have_attribute("title", re.compile(r"^1\d points, every one drawn"))
    assert points(page, "system/cpu_percent") == 60
    assert hovered(page, "system/cpu_percent", 0.0).startswith("step 0 ·")
    page.goto(f"{site.url}/runs/{run_id}?tenant=machine")
    expect(page.locator("[data-metric='loss'] .plot")).to_have_attribute("data-points", "600")
    zoomed(page, "system/cpu_percent", 0.5, 0.75)
    expect(page).to_have_url(re.compile(r"x=relative&zoom=(29|30)\.000,4[45]\.000"))
    expect(note).to_have_attribute("title", re.compile(r"^1[5-9]\d points, every one drawn"))


def test_the_tail_of_a_crashed_run_is_seen(site, page):
    with site.client("crash") as http:
        run_id = http.run("crashed")
        lines = [
            {"stream": "stderr" if n > 2_990 else "stdout", "timestamp": n, "text": f"line {n}"}
            for n in range(3_000)
        ]
        http.call("POST", run_id, "/console", json={"lines": lines})
        http.call("POST", run_id, "/end?status=failed")
        page.goto(f"{site.url}/runs/{run_id}?tenant=crash&tab=console")
        expect(page.get_by_text("line 2999")).to_be_in_viewport()
        expect(page.locator(".run-head .status")).to_have_text("failed")
        more = [{"stream": "stdout", "timestamp": 1, "text": "one more"}]
        http.call("POST", run_id, "/console", json={"lines": more})
        expect(page.get_by_text("one more")).to_be_in_viewport()


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


def test_a_run_is_renamed_tagged_annotated_deleted_and_restored(site, page):
    with site.client("edit") as http:
        run_id = http.run("before")
    page.goto(f"{site.url}/runs/{run_id}?tenant=edit&tab=details")
    page.get_by_title("Edit name").click()
    page.get_by_label("name", exact=True).fill("after")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="after")).to_be_visible()
    page.get_by_title("Edit notes").click()
    page.get_by_label("notes", exact=True).fill("why it matters")
    page.keyboard.press("Control+Enter")
    page.get_by_label("New tag").fill("team")
    page.get_by_label("Its value").fill("risk")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_title("Edit tag team")).to_have_text("risk")
    page.get_by_label("More for this run").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".run-head .status")).to_have_text("deleted")
    page.get_by_label("More for this run").click()
    page.get_by_role("button", name="Restore").click()
    expect(page.locator(".run-head .status")).to_have_text("running")
    with site.client("edit") as http:
        run = http.get(f"/api/v1/experiments/runs/{run_id}").json()
    assert (run["name"], run["description"], run["tags"]) == (
        "after", "why it matters", {"team": "risk"},
    )  # fmt: skip


def test_a_run_that_started_with_another_is_stepped_to(site, page):
    with site.client("steps") as http:
        for name, start in (("old", 1), ("twin", 2), ("other twin", 2), ("new", 3)):
            http.run(name, experiment_name="steps", start_time=START + start)
        listed = http.get(RUNS).json()["runs"]
    assert [run["name"] for run in listed][::3] == ["new", "old"]
    page.goto(f"{site.url}/runs/{listed[0]['run_id']}?tenant=steps")
    for key, runs, end in (("]", listed, "oldest"), ("[", listed[::-1], "newest")):
        for run in runs:
            expect(page.get_by_role("heading", name=run["name"], exact=True)).to_be_visible()
            expect(page).to_have_url(f"{site.url}/runs/{run['run_id']}?tenant=steps")
            page.keyboard.press(key)
        expect(page.get_by_text(f"This is the {end} run")).to_be_visible()


def test_the_copied_python_runs(site, page):
    page.goto(f"{site.url}/runs/{site.long[0]}?tenant=long")
    expect(page.locator("[data-metric='loss']")).to_be_visible()
    page.get_by_label("More for this run").click()
    page.get_by_role("button", name="Copy Python").click()
    expect(page.get_by_text("Copied the Python lines")).to_be_visible()
    code = page.evaluate("navigator.clipboard.readText()")
    names: dict[str, object] = {}
    exec(compile(code, "copied", "exec"), names)
    assert len(names["points"].values) == POINTS  # type: ignore[attr-defined]


def test_a_link_that_mlflows_client_prints_leads_here(site, page):
    """It names a run, or an experiment by its number, and a workspace where one was chosen."""
    with site.client("linked") as client:
        run_id = client.run("the one", experiment_name="fit")
    page.goto(f"{site.url}/#/experiments/1/runs/{run_id}?workspace=linked")
    expect(page.get_by_role("heading", name="the one")).to_be_visible()
    assert page.url == f"{site.url}/runs/{run_id}?tenant=linked"
    page.goto(f"{site.url}/#/experiments/1?workspace=linked")
    expect(page.locator("nav [aria-current=page]", has_text="fit")).to_be_visible()
    expect(page).to_have_url(re.compile("experiment=[0-9a-f-]{36}"))
    page.goto("about:blank")
    page.goto(f"{site.url}/#/experiments/7777?workspace=linked")
    expect(page.get_by_role("link", name="the one")).to_be_visible()
