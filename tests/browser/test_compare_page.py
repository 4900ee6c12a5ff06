"""Many runs at once: overlaid, grouped, told apart; and a sweep seen as a whole."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import WAIT_MS, Site


@pytest.fixture
def chosen(site: Site, page: Page) -> Page:
    """Ten runs of one experiment, compared by two clicks from the table."""
    page.goto(f"{site.url}/?tenant=sweeps&q=attributes.name+LIKE+'%-0012%'")
    expect(page.locator(".count")).to_contain_text("10 runs")
    page.get_by_label("Choose all rows").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", name="10 runs")).to_be_visible()
    return page


def test_a_run_is_laid_over_the_best(site, page):
    with site.client("sweeps") as http:
        runs = http.get("/api/v1/experiments/runs?limit=1").json()["runs"]
        query = {
            "experiment_id": runs[0]["experiment_id"],
            "order_by": 'min(metrics."val/loss") ASC',
            "limit": 1,
        }
        best = http.get("/api/v1/experiments/runs", params=query).json()["runs"][0]
    page.goto(f"{site.url}/runs/{runs[0]['run_id']}?tenant=sweeps")
    page.get_by_role("button", name="Overlay best", exact=True).click()
    expect(page.get_by_role("heading", name="2 runs")).to_be_visible()
    expect(page.locator(".legend")).to_contain_text(best["name"])
    plot = page.locator("[data-metric='val/loss'] .plot")
    expect(plot).to_have_attribute("data-points", "24")


def test_a_run_keeps_its_colour_between_pages(chosen):
    row = chosen.locator(".legend li").nth(3)
    color = row.locator("line").get_attribute("stroke")
    row.get_by_role("link").click()
    expect(chosen.locator(".run-head .swatch line").first).to_have_attribute("stroke", str(color))


def test_a_shared_link_shows_the_same_colours(chosen, browser):
    colors = "[...document.querySelectorAll('.legend line')].map(l => l.getAttribute('stroke'))"
    other = browser.new_page()  # another person's: nothing is stored there
    other.goto(chosen.url)
    expect(other.locator(".legend li")).to_have_count(10)
    assert other.evaluate(colors) == chosen.evaluate(colors)
    other.close()


def test_parameters_that_differ_are_told_from_the_same(chosen):
    chosen.get_by_role("link", name="Parameters").click()
    table = chosen.locator(".diff")
    expect(table.get_by_role("rowheader", name="lr", exact=True).first).to_be_visible()
    expect(table.get_by_role("rowheader", name="batch_size")).to_have_count(0)
    chosen.get_by_label("Show what is the same").check()
    expect(table.get_by_role("rowheader", name="batch_size")).to_be_visible()


def test_what_differs_is_one_click_from_what_is_chosen(site, page):
    page.goto(f"{site.url}/?tenant=sweeps&q=attributes.name+LIKE+'%-0012%'")
    expect(page.locator(".count")).to_contain_text("10 runs")
    page.get_by_label("Choose all rows").click()
    page.get_by_role("button", name="Differences").click()
    table = page.locator(".diff")
    expect(table.get_by_role("rowheader", name="optimizer", exact=True)).to_be_visible()
    expect(table.get_by_role("rowheader", name="batch_size")).to_have_count(0)
    expect(table.get_by_role("columnheader")).to_have_count(10)


def test_seeds_become_a_mean_and_a_band(chosen):
    chosen.get_by_label("Group by").select_option("params.optimizer")
    area = chosen.locator("[data-metric='val/loss'] .u-over")
    expect(chosen.locator("[data-metric='val/loss'] .plot")).to_have_attribute("data-points", "120")
    area.hover(position={"x": 100, "y": 60})
    told = chosen.locator(".tooltip")
    expect(told).to_contain_text("optimizer = adam")
    assert re.search(r"\d of [34] runs", told.inner_text())
    legend = chosen.get_by_role("list", name="Groups")
    expect(legend).to_contain_text("optimizer = adam 4 runs")
    colors = "rows => rows.map(row => row.querySelector('line').getAttribute('stroke'))"
    in_legend = legend.locator("li:has(line)").evaluate_all(colors)
    assert in_legend == told.locator("div:has(> svg)").evaluate_all(colors)


def test_a_run_is_taken_off_the_charts(chosen):
    plot = chosen.locator("[data-metric='val/loss'] .plot")
    expect(plot).to_have_attribute("data-points", "120")
    chosen.locator(".legend button").first.click()
    expect(plot).to_have_attribute("data-points", "108")
    expect(chosen).to_have_url(re.compile("off="))


def test_a_sweep_has_an_overview(site, page):
    page.goto(f"{site.url}/?tenant=sweeps&q=params.optimizer+%3D+'adam'")
    expect(page.locator(".count")).to_contain_text("3,334 runs")
    page.get_by_role("link", name="Sweep", exact=True).click()
    drawing = page.get_by_role("img", name=re.compile("Parallel coordinates of 3,334 runs"))
    expect(drawing).to_be_visible(timeout=WAIT_MS)
    assert drawn(page) > 1_000
    box = drawing.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 70, box["y"] + 100)  # the first axis: its upper part is kept
    page.mouse.down()
    page.mouse.move(box["x"] + 70, box["y"] + 30, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile("keep="))
    kept = page.get_by_text(re.compile(r"^\d[\d,]* runs of 3,334"))
    expect(kept).to_contain_text(re.compile("^8\\d\\d runs of"))  # the deepest quarter
    told = kept.inner_text()
    page.reload()  # a link shows the same
    expect(kept).to_have_text(told, timeout=WAIT_MS)
    page.get_by_role("button", name="Keep all").click()
    expect(kept).to_contain_text("3,334 runs of")


def test_a_sweep_of_ten_thousand_shows_every_run(site, page):
    page.goto(f"{site.url}/compare?tenant=sweeps&tab=scatter&sx=params.lr")
    expect(page.get_by_role("heading", name="10,000 runs")).to_be_visible(timeout=WAIT_MS)
    drawing = page.get_by_role("img", name="val/loss against lr")
    expect(page.locator(".sweep-chart[aria-busy=false]")).to_be_visible()
    expect(drawing.locator("canvas").first).to_be_visible()
    box = drawing.bounding_box()
    assert box is not None
    reading = page.locator(".reading b")
    for at in range(40):  # down the middle until a run is met
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 420 - at * 10)
        if reading.count():
            break
    expect(reading).to_have_text(re.compile(r"^(adam|lion|sgd)-\d{5}$"))
    name = reading.inner_text()
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


@pytest.mark.parametrize("tab", ["parallel", "scatter"])
def test_a_sweeps_chart_is_saved_as_a_picture(site, page, tab):
    page.goto(f"{site.url}/compare?tenant=sweeps&q=attributes.name+LIKE+'%-0012%'&tab={tab}")
    expect(page.locator(".sweep-chart[aria-busy=false]")).to_be_visible()
    for kind, head in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        page.get_by_label("Save this chart").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save as {kind}").click()
        body = download.value.path().read_bytes()
        assert body.startswith(head), kind
    assert "val/loss" in body.decode()


def drawn(page: Page) -> int:
    """How many pixels of the canvas have ink."""
    page.wait_for_timeout(500)
    count: int = page.evaluate(
        """() => { const c = document.querySelector('.sweep-chart canvas');
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) n++; return n; }"""
    )
    return count


@pytest.mark.parametrize("tab", ["parallel", "scatter"])
def test_a_sweeps_chart_fills_the_window(site, page, tab):
    page.goto(f"{site.url}/compare?tenant=sweeps&q=attributes.name+LIKE+'%-0012%'&tab={tab}")
    expect(page.locator(".sweep-chart[aria-busy=false]")).to_be_visible()
    for height in (800, 1_000):
        page.set_viewport_size({"width": 1280, "height": height})
        page.wait_for_timeout(300)
        low = page.locator(".sweep-box").evaluate("box => box.getBoundingClientRect().bottom")
        assert height - 60 < low < height
        assert page.locator("main").evaluate("main => main.scrollHeight <= main.clientHeight")


def test_the_parameter_that_matters_is_ranked_first(site, page):
    page.goto(f"{site.url}/compare?tenant=sweeps&tab=scatter&q=params.depth+%3D+4")
    rows = page.locator(".bars tbody tr")
    expect(rows.first).to_contain_text("lr")  # its best value lies in the middle: no rank sees it
    strengths = [float(row.split("\t")[1]) for row in rows.all_inner_texts()]
    assert strengths[0] > 0.7
    assert strengths == sorted(strengths, reverse=True)
    assert drawn(page) > 1_000


def test_three_million_points_are_laid_over_each_other(site, page):
    page.goto(f"{site.url}/compare?tenant=long&runs={','.join(site.long)}&smooth=1")
    plot = page.locator("[data-metric='loss'] .plot")
    expect(plot).to_have_attribute("data-points", re.compile(r"^\d{3,5}$"))
    expect(page.locator(".chart-note")).to_have_attribute(
        "title", re.compile("3,000,000 points as")
    )


def test_a_crowd_of_lines_is_drawn_from_edge_to_edge(site, page):
    """Beyond 20,000 points lines are set pixel by pixel: one level each, all in their colours."""
    with site.client("crowd") as http:
        ids = [http.run(f"level-{n}") for n in range(10)]
        for n, run_id in enumerate(ids):
            http.points(run_id, "loss", np.full(2_500, float(n)))
    runs = ",".join(f"{run_id}~{n}" for n, run_id in enumerate(ids))
    page.goto(f"{site.url}/compare?tenant=crowd&runs={runs}&focus=loss")
    plot = page.locator("dialog .plot")
    expect(plot).to_have_attribute("data-points", "25000")
    width = page.locator("dialog .u-over").evaluate("over => over.clientWidth")
    for address in (page.url, f"{page.url}&zoom=100,2450"):
        page.goto(address)
        expect(plot).to_have_attribute("data-points", re.compile(r"^\d{3,5}$"))
        page.wait_for_timeout(500)
        found = page.evaluate(COLOURED)
        for colour in page.locator("dialog .legend line").evaluate_all(STROKES):
            assert found.get(colour, 0) > width * 0.9, (address, colour, found)


def test_a_crowd_of_running_runs_is_asked_for_once_more(site, page):
    """What the runs' last values tell is compared when the lines have come, not before."""
    with site.client("hurry") as http:
        ids = [http.run(f"running-{n}") for n in range(30)]
        for run_id in ids:
            http.points(run_id, "loss", np.arange(10.0))
    asked: list[list[str]] = []

    def late(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "")["run_ids"])
        time.sleep(0.7)  # the runs and the first event are there before the lines
        route.continue_()

    page.route(re.compile("/runs/series"), late)
    page.goto(f"{site.url}/compare?tenant=hurry&runs={','.join(ids)}")
    plot = page.locator("[data-metric='loss'] .plot")
    expect(plot).to_have_attribute("data-points", "300")
    page.wait_for_timeout(1_000)
    assert sorted(run_id for some in asked for run_id in some) == sorted(ids)
    assert len(asked) == 2


STROKES = "lines => lines.map(line => line.getAttribute('stroke'))"
COLOURED = """() => {
    const c = document.querySelector('dialog .plot canvas');
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    const found = {};
    for (let i = 0; i < d.length; i += 4) {
        const hex = ((1 << 24) | (d[i] << 16) | (d[i + 1] << 8) | d[i + 2]).toString(16);
        if (d[i + 3] === 255) found['#' + hex.slice(1)] = (found['#' + hex.slice(1)] ?? 0) + 1;
    }
    return found;
}"""
"""How many pixels of the chart have each colour."""


@pytest.mark.parametrize("width", [390, 1280])
def test_a_long_name_leaves_room_for_the_others_in_the_legend(site, page, width):
    name = "a-name-that-tells-everything-" * 12
    with site.client("legend") as http:
        ids = [http.run(name), http.run("short")]
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{site.url}/compare?tenant=legend&runs={','.join(ids)}")
    long = page.locator(".legend a").first
    expect(long).to_have_attribute("title", name)
    box = long.bounding_box()
    assert box["width"] < 300
    assert box["height"] < 36
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
