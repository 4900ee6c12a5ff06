"""The charts of a run: what they draw, zoom, tell and export."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import POINTS, SPIKE
from tests.browser.seeding import START


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
