"""The table of 10,000 runs: found, sorted, chosen, hidden, deleted, restored, exported."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import RUNS, WAIT_MS, Site
from tests.browser.seeding import ODD

SOON_MS = 5_000
"""Each takes a fraction of a second; a busy machine is no failure."""


@pytest.fixture
def table(site: Site, page: Page) -> Page:
    page.goto(f"{site.url}/?tenant=sweeps")
    expect(page.get_by_text("10,000 runs")).to_be_visible()
    expect(page.locator("[data-row='0'] .name")).not_to_be_empty()
    return page


def numbers(page: Page, column: str) -> list[float]:
    """The values of a column in the rows on screen, from top to bottom."""
    place = page.locator(".head button").all_inner_texts().index(column)
    head = page.locator(".head").nth(place).bounding_box()
    assert head is not None
    cells = page.evaluate(
        """left => [...document.querySelectorAll('.grid-row')]
            .sort((a, b) => a.dataset.row - b.dataset.row).slice(0, 20)
            .map(row => [...row.querySelectorAll('.cell')].find(
                cell => Math.abs(cell.getBoundingClientRect().left - left) < 2).innerText)""",
        head["x"],
    )
    return [float(cell.replace("−", "-")) for cell in cells]


def test_only_the_rows_that_are_seen_are_in_the_page(table):
    assert table.locator(".grid-row").count() < 80
    assert table.locator("[role=grid]").get_attribute("aria-rowcount") == str(RUNS + 1)
    table.locator(".grid").evaluate("grid => grid.scrollTop = grid.scrollHeight")
    last = table.locator(f"[data-row='{RUNS - 1}'] .name a")
    expect(last).to_have_text("adam-00000", timeout=SOON_MS)
    assert table.locator(".grid-row").count() < 80


def test_the_best_run_by_last_value_is_the_first_after_one_click(table):
    table.get_by_role("button", name="val/loss", exact=True).click()
    expect(table).to_have_url(re.compile("order="))
    expect(table.locator(".head[aria-sort=ascending]")).to_be_visible()
    table.wait_for_timeout(800)
    found = numbers(table, "val/loss ↑")
    assert found == sorted(found)
    assert found[0] < 0.2


def test_the_best_run_by_its_lowest_value_shows_that_number(site, page):
    address = "/?tenant=sweeps&col=min+metrics.val/loss&col=metrics.val/loss"
    page.goto(f"{site.url}{address}&order=min(metrics.%22val/loss%22)+ASC")
    cell = page.locator("[data-row='0'] .cell").first
    expect(cell).not_to_be_empty()
    found = numbers(page, "min val/loss ↑")
    assert found == sorted(found)
    with site.client("sweeps") as http:
        query = {"order_by": 'min(metrics."val/loss") ASC', "limit": 1}
        run = http.get("/api/v1/experiments/runs", params=query).json()["runs"][0]
        series = http.get(f"/api/v1/experiments/runs/{run['run_id']}/metrics").json()["series"]
    lowest = next(one["min"] for one in series if one["key"] == "val/loss")
    assert cell.locator("span").get_attribute("title") == repr(lowest)


def test_parameters_that_are_numbers_are_flush_with_their_heads(site, page):
    columns = "col=params.lr&col=params.optimizer&col=metrics.val/loss"
    page.goto(f"{site.url}/?tenant=sweeps&{columns}")
    row = page.locator("[data-row='0'] .cell")
    expect(row.first).not_to_be_empty()
    for part in (row, page.locator(".head:not(.grid-fixed *)")):
        found = part.evaluate_all("all => all.map(one => one.classList.contains('number'))")
        assert found == [True, False, True]
    assert row.first.evaluate("cell => getComputedStyle(cell).textAlign") == "right"


def test_a_metric_is_on_a_phones_screen(site, page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site.url}/?tenant=sweeps")
    cells = page.locator("[data-row='0'] .cell")
    expect(cells.nth(1)).to_have_text(re.compile(r"^\d+\.\d+$"))
    expect(page.locator(".head button").nth(2)).to_have_text("val/loss")
    expect(cells.nth(1)).to_be_in_viewport(ratio=1)


def test_a_filter_finds_what_it_says_and_its_mistake_is_told(table):
    search = table.get_by_role("searchbox")
    search.fill("params.optimizer = 'adam' and metrics.\"val/loss\" < 0.2")
    expect(table.locator(".count")).not_to_contain_text("10,000", timeout=SOON_MS)
    for name in table.locator(".grid-row .name").all_inner_texts():
        assert name.startswith("adam-")
    search.fill("params.optimizer = = 3")
    expect(table.get_by_role("alert")).to_be_visible(timeout=SOON_MS)


def test_a_search_without_a_match_leads_back_to_all_runs(table):
    table.get_by_role("searchbox").fill("no such words")
    expect(table.get_by_text("No run matches.")).to_be_visible()
    table.get_by_role("button", name="Show all runs").click()
    expect(table.locator(".count")).to_have_text("10,000 runs", timeout=SOON_MS)
    expect(table.get_by_text("No run matches.")).to_have_count(0)
    expect(table.get_by_role("searchbox")).to_have_value("")


@pytest.mark.parametrize("words", [f"{ODD:05d}", "odd one", "ODD"])
def test_last_weeks_run_is_found_by_name_and_note(table, words):
    table.get_by_role("searchbox").fill(words)
    expect(table.locator(".count")).to_contain_text("1 run", timeout=SOON_MS)
    expect(table.locator("[data-row='0'] .name")).to_contain_text(f"{ODD:05d}")


def test_a_tag_of_an_old_run_is_found(site, page):
    with site.client("tags") as http:
        http.run("ancient", tags={"campaign": "winter"}, start_time=1)
        for n in range(70):
            http.run(f"recent-{n}", tags={"team": "x"})
    page.goto(f"{site.url}/?tenant=tags&q=winter")
    expect(page.locator(".count")).to_contain_text("1 run")
    expect(page.locator("[data-row='0'] .name")).to_have_text("ancient")


def test_a_tag_is_found_by_its_value(table):
    table.get_by_role("searchbox").fill("vision")
    expect(table.locator(".count")).to_contain_text("5,000 runs", timeout=SOON_MS)


def test_what_is_chosen_is_hidden_tagged_deleted_and_restored(site, page):
    with site.client("bulk") as http:
        for n in range(6):
            http.run(f"run-{n}", start_time=1_790_000_000_000 + n)
    page.goto(f"{site.url}/?tenant=bulk")
    for n in (1, 2, 3):
        page.get_by_label(f"Choose run-{n}").click()
    page.get_by_role("button", name="Hide", exact=True).click()
    expect(page.locator(".count")).to_contain_text("3 runs")
    page.get_by_role("button", name="show 3 hidden").click()
    expect(page.locator(".count")).to_contain_text("6 runs")
    page.get_by_role("button", name="Tag…").click()
    page.get_by_label("Tag", exact=True).fill("debug")
    page.get_by_label("Value").fill("yes")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("searchbox").fill("tags.debug = 'yes'")
    expect(page.locator(".count")).to_contain_text("3 runs")
    page.get_by_label("Choose all rows").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".count")).to_contain_text("0 runs")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".count")).to_contain_text("3 runs")
    page.get_by_label("Choose all rows").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".count")).to_contain_text("0 runs")
    page.get_by_label("Deleted runs").select_option("deleted")
    expect(page.locator(".count")).to_contain_text("3 runs")
    page.get_by_label("Choose all rows").click()
    page.get_by_role("button", name="Restore", exact=True).click()
    page.get_by_label("Deleted runs").select_option("active")
    expect(page.locator(".count")).to_contain_text("3 runs")


def test_a_bulk_reaches_the_rows_that_were_not_scrolled_to(site, page):
    with site.client("many") as http:
        for n in range(250):
            http.run(f"run-{n:03d}", tags={"kind": "debug" if n % 5 else "kept"})
    page.goto(f"{site.url}/?tenant=many&q=tags.kind+%3D+'debug'")
    expect(page.locator(".count")).to_contain_text("200 runs")
    page.get_by_label("Choose all rows").click()
    expect(page.get_by_role("toolbar", name="Chosen runs")).to_contain_text("200 runs")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_text("Deleted 200 runs")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("searchbox").fill("")
    expect(page.locator(".count")).to_contain_text("50 runs")


def test_a_link_shows_the_same_to_a_colleague(table, context):
    table.get_by_role("searchbox").fill("params.depth = 4")
    expect(table.locator(".count")).to_contain_text("2,500 runs", timeout=SOON_MS)
    table.get_by_role("button", name="val/accuracy", exact=True).click()
    table.get_by_role("button", name="val/accuracy ↑").click()
    expect(table.locator(".head[aria-sort=descending]")).to_be_visible()
    table.wait_for_timeout(800)
    other = context.new_page()
    other.goto(table.url)
    expect(other.locator(".count")).to_contain_text("2,500 runs")
    expect(other.locator("[data-row='3'] .name")).not_to_be_empty()
    names = "[...document.querySelectorAll('.grid-row')].slice(0, 9).map(r => r.dataset.run)"
    assert other.evaluate(names) == table.evaluate(names)


def test_the_table_as_csv_has_every_row_and_digit(table):
    table.get_by_role("searchbox").fill("attributes.name LIKE '%-000%'")
    expect(table.locator(".count")).to_contain_text("100 runs", timeout=SOON_MS)
    with table.expect_download() as download:
        table.get_by_role("button", name="CSV", exact=True).click()
    text = download.value.path().read_text().splitlines()
    assert text[0].startswith("run_id,name,status,started,duration,experiment,metrics.val/loss")
    assert len(text) == 101
    assert len(text[1].split(",")[6]) > 10


def test_a_run_that_begins_appears_by_itself(site, page):
    page.goto(f"{site.url}/?tenant=newcomers")
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    code = page.get_by_label("Python that logs a run").inner_text()
    assert site.url in code
    compile(code, "the five lines", "exec")
    with site.client("newcomers") as http:
        run_id = http.run("first")
        expect(page.locator("[data-row='0'] .name")).to_have_text("first")
        http.call("POST", run_id, "/log-metrics", json={"metrics": {"loss": 0.25}, "step": 1})
        page.reload()
        expect(page.locator("[data-row='0']")).to_contain_text("0.25")
        http.call("POST", run_id, "/log-metrics", json={"metrics": {"loss": 0.125}, "step": 2})
        expect(page.locator("[data-row='0']")).to_contain_text("0.125")


def test_the_table_answers_soon(table):
    begun = time.perf_counter()
    table.get_by_role("searchbox").fill("metrics.\"train/loss\" < 0.3 and params.optimizer = 'sgd'")
    expect(table.locator(".count")).not_to_contain_text("10,000")
    assert time.perf_counter() - begun < SOON_MS / 1_000


def test_a_range_has_the_rows_that_were_jumped_over(table):
    table.locator("[data-row='0'] input").click()
    table.locator(".grid").evaluate(
        "grid => grid.scrollTop = 450 * grid.querySelector('[data-row]').offsetHeight"
    )
    table.locator("[data-row='450'] input").click(modifiers=["Shift"])
    expect(table.get_by_role("toolbar", name="Chosen runs")).to_contain_text("451 runs")


def test_a_range_is_whole_though_the_table_is_read_again_meanwhile(table):
    table.evaluate(
        """() => {
            const read = window.fetch;
            window.fetch = async (address, ...more) => {
                const late = /offset=|cursor=/.test(address) ? 1000 : 0;
                await new Promise(done => setTimeout(done, late));
                return read(address, ...more);
            };
        }"""
    )
    table.locator("[data-row='0'] input").click()
    table.locator(".grid").evaluate(
        "grid => grid.scrollTop = 450 * grid.querySelector('[data-row]').offsetHeight"
    )
    expect(table.locator("[data-row='450'] .name")).not_to_be_empty()
    table.locator("[data-row='450'] input").click(modifiers=["Shift"])
    table.get_by_role("searchbox").fill("attributes.name LIKE '%-%'")
    expect(table.get_by_role("toolbar", name="Chosen runs")).to_contain_text("451 runs")


def test_keys_choose_find_and_open(table):
    table.keyboard.press("/")
    expect(table.get_by_role("searchbox")).to_be_focused()
    table.locator(".grid").focus()
    table.keyboard.press("ArrowDown")
    table.keyboard.press("ArrowDown")
    table.keyboard.press("x")
    expect(table.get_by_role("toolbar", name="Chosen runs")).to_contain_text("1 run")
    table.keyboard.press("ArrowDown")
    table.keyboard.press("ArrowDown")
    table.keyboard.press("Shift+X")
    expect(table.get_by_role("toolbar", name="Chosen runs")).to_contain_text("3 runs")
    table.keyboard.press("?")
    expect(table.get_by_role("dialog", name="Keys")).to_be_visible()
    table.keyboard.press("Escape")
    table.keyboard.press("Enter")
    expect(table).to_have_url(re.compile("/runs/"))


def test_a_rounded_parameter_fits_its_column(site, page):
    """Cut numbers look alike: 0.005263 and 0.005556 would both be 0.005…"""
    with site.client("narrow") as http:
        for n, lr in enumerate(("0.005263157894736842", "-0.0001234567", "nan", "1.2345e-120")):
            http.run(f"narrow-{n}", params={"lr": lr})
    page.goto(f"{site.url}/?tenant=narrow")
    cells = page.locator(".cell", has=page.locator("span[title]"))
    expect(page.get_by_text("0.005263", exact=True)).to_be_visible()
    cut = "(all) => all.filter((c) => c.scrollWidth > c.clientWidth).map((c) => c.textContent)"
    assert cells.evaluate_all(cut) == []
