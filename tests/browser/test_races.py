"""Answers that come late: an older one never stands in the place of a newer one."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.browser.conftest import Site, hide
from tests.browser.seeding import Client

RUNS = "/api/v1/experiments/runs"


class Held:
    """Answers of a page's requests, read at once but kept back until they are released."""

    def __init__(self, page: Page, pattern: str, most: int = 1) -> None:
        self._page, self._pattern, self._most = page, re.compile(pattern), most
        self._held: list[tuple[Route, APIResponse]] = []

    def __enter__(self) -> Held:
        self._page.route(self._pattern, self._take)
        return self

    def _take(self, route: Route) -> None:
        if len(self._held) < self._most:
            self._held.append((route, route.fetch()))
        else:
            route.continue_()

    def wait(self) -> None:
        """Until one is held."""
        for _ in range(100):
            if self._held:
                return
            self._page.wait_for_timeout(100)
        pytest.fail("nothing was asked for")

    def release(self) -> None:
        for route, answer in self._held:
            route.fulfill(response=answer)
        self._page.wait_for_timeout(500)

    def __exit__(self, *_: object) -> None:
        self._page.unroute(self._pattern)


def metric(http: Client, run_id: str, value: float, step: int) -> None:
    body = {"metrics": {"loss": value}, "step": step}
    http.call("POST", run_id, "/log-metrics", json=body)


def test_a_row_keeps_what_was_told_while_the_table_was_read(site: Site, page: Page):
    with site.client("late-rows") as http:
        run_id = http.run("first", start_time=2)
        metric(http, run_id, 0.25, 1)
        page.goto(f"{site.url}/?tenant=late-rows")
        row = page.locator(f"[data-run='{run_id}']")
        expect(row).to_contain_text("0.25")
        with Held(page, r"/runs\?.*total=true") as held:
            http.run("second", start_time=1)
            held.wait()
            metric(http, run_id, 0.125, 2)
            expect(row).to_contain_text("0.125")
            held.release()
        expect(page.locator(".count")).to_contain_text("2 runs")
        expect(row).to_contain_text("0.125")


def test_rows_that_were_scrolled_to_stay_while_they_are_read_again(site: Site, page: Page):
    with site.client("late-pages") as http:
        for n in range(250):
            http.run(f"run-{n:03d}", start_time=1_000 + n)
        page.goto(f"{site.url}/?tenant=late-pages")
        expect(page.locator(".count")).to_contain_text("250 runs")
        page.locator(".grid").evaluate("grid => grid.scrollTop = grid.scrollHeight")
        names = page.locator(".grid-row .name a")
        expect(page.locator("[data-row='249'] .name")).to_have_text("run-000")
        with Held(page, r"/runs\?.*(offset=[1-9]|cursor=)", 2) as held:
            http.run("new", start_time=1)
            held.wait()
            page.wait_for_timeout(500)
            assert names.count() > 10
            held.release()
        expect(page.locator(".count")).to_contain_text("251 runs")
        expect(page.locator("[data-row='250'] .name")).to_have_text("new")


def test_the_head_of_a_run_keeps_what_was_told_while_it_was_read(site: Site, page: Page):
    with site.client("late-head") as http:
        run_id = http.run("one")
        metric(http, run_id, 0.25, 1)
        page.goto(f"{site.url}/runs/{run_id}?tenant=late-head")
        shown = page.locator(".latest dd")
        expect(shown).to_have_attribute("title", re.compile("^0.25 at step 1;"))
        expect(page.locator(".live.live")).to_be_visible()
        with Held(page, r"/metrics\?limit") as held:
            http.call("POST", run_id, "/log-params", json={"params": {"lr": 1}})
            held.wait()
            metric(http, run_id, 0.125, 2)
            expect(shown).to_have_attribute("title", re.compile("^0.125 at step 2;"))
            held.release()
        now = "0.125 at step 2; lowest 0.125, highest 0.25"
        expect(shown).to_have_attribute("title", now)
        page.get_by_role("link", name="Details").click()
        expect(page.get_by_role("row", name="loss").locator("td").last).to_have_text("2")


def test_a_comparison_waits_for_all_of_its_runs(site: Site, page: Page):
    with site.client("late-runs") as http:
        ids = [http.run(f"run-{n}") for n in range(3)]
        for run_id in ids:
            metric(http, run_id, 0.5, 1)
    with Held(page, rf"/runs/{ids[2]}$", 2) as held:
        page.goto(f"{site.url}/compare?tenant=late-runs&runs={','.join(ids)}")
        held.wait()
        page.get_by_role("link", name="Parallel coordinates").click()
        page.wait_for_timeout(500)
        expect(page.get_by_role("heading", level=1)).to_have_text("Reading runs…")
        held.release()
    expect(page.get_by_role("heading", level=1)).to_have_text("3 runs")


def test_a_view_that_was_saved_stays_when_an_older_list_comes(site: Site, page: Page):
    with site.client("late-views") as http:
        http.run("one")
    page.goto(f"{site.url}/?tenant=late-views")
    expect(page.locator(".count")).to_contain_text("1 run")
    with Held(page, r"/experiments\?lifecycle=all") as held:
        page.get_by_label("Saved views").click()
        held.wait()
        page.get_by_label("Name of the view").fill("mine")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("link", name="mine")).to_be_visible()
        held.release()
        expect(page.get_by_role("link", name="mine")).to_be_visible()


def test_more_files_of_one_folder_are_none_of_another(site: Site, page: Page):
    with site.client("late-files") as http:
        run_id = http.run("one")
        for name in ("a/1.txt", "a/2.txt", "a/3.txt", "b/other.txt"):
            http.call("PUT", run_id, f"/artifacts/{name}", content=b"x")
    few = re.compile(r"/artifacts\?path=a$")
    page.route(few, lambda route: route.continue_(url=f"{route.request.url}&limit=2"))
    page.goto(f"{site.url}/runs/{run_id}?tenant=late-files&tab=artifacts&folder=a")
    files = page.get_by_role("region", name="Files").get_by_role("row")
    expect(files).to_have_count(2)
    with Held(page, r"/artifacts\?.*cursor=") as held:
        page.get_by_role("button", name="More", exact=True).click()
        held.wait()
        page.get_by_role("button", name="artifacts", exact=True).click()
        page.get_by_role("button", name="b/").click()
        expect(files).to_contain_text(["other.txt"])
        held.release()
    expect(files).to_contain_text(["other.txt"])
    page.goto(f"{site.url}/runs/{run_id}?tenant=late-files&tab=artifacts&folder=a")
    page.get_by_role("button", name="More", exact=True).dblclick()
    expect(files).to_have_count(3)


def test_the_console_of_a_run_that_prints_without_end_is_shown(site: Site, page: Page):
    """Each line is told sooner than the answer about the one before has come."""
    with site.client("late-console") as http:
        run_id = http.run("chatty")
        delays = [700]

        def slowly(route: Route) -> None:
            answer = route.fetch()
            page.wait_for_timeout(delays[-1])
            route.fulfill(response=answer)

        page.route(re.compile(r"/console\?"), slowly)
        page.goto(f"{site.url}/runs/{run_id}?tenant=late-console&tab=console")
        expect(page.locator(".live.live")).to_be_visible()
        for n in range(20):
            line = {"stream": "stdout", "timestamp": n, "text": f"line {n}."}
            http.call("POST", run_id, "/console", json={"lines": [line]})
            page.wait_for_timeout(200)
            if page.get_by_text("line 0.").count():
                break
        else:
            pytest.fail("nothing was shown while it printed")
        delays.append(0)
        expect(page.get_by_text(f"line {n}.")).to_be_visible()


def test_a_point_that_was_told_and_read_is_there_once(site: Site, page: Page):
    """Of a crowd what is told is drawn a little later: a tail that is read meanwhile has it too."""
    with site.client("late-tails") as http:
        ids = [http.run(f"run-{n}") for n in range(22)]
        for run_id in ids:
            http.points(run_id, "loss", np.arange(10.0))
        page.goto(f"{site.url}/compare?tenant=late-tails&runs={','.join(ids)}")
        plot = page.locator("[data-metric='loss'] .plot")
        expect(plot).to_have_attribute("data-points", "220")
        expect(page.locator(".live.live")).to_be_visible()
        page.wait_for_timeout(1_500)  # nothing is on its way any more

        def late(route: Route) -> None:
            answer = route.fetch()
            if json.loads(route.request.post_data or "").get("start_step"):
                page.wait_for_timeout(900)
            route.fulfill(response=answer)

        page.route(re.compile("/runs/series"), late)
        http.points(ids[0], "loss", np.array([10.0]), 10)
        http.points(ids[0], "loss", np.array([11.0, 12.0]), 11)
        expect(plot).to_have_attribute("data-points", "223")
        page.wait_for_timeout(2_000)
        assert plot.get_attribute("data-points") == "223"


def test_a_chart_that_appears_under_the_pointer_is_read_there(site: Site, page: Page):
    with site.client("under") as http:
        run_id = http.run("one")
        http.points(run_id, "loss", np.arange(10.0))
    page.mouse.move(700, 400)
    with Held(page, r"/metrics\?limit", 2) as held:
        page.goto(f"{site.url}/runs/{run_id}?tenant=under")
        held.wait()
        held.release()
    expect(page.locator("[data-metric='loss'] .plot")).to_have_attribute("data-points", "10")
    page.mouse.move(701, 401)
    expect(page.locator(".tooltip")).to_contain_text("step ")


def test_a_late_batch_leaves_the_last_value_as_it_is(site: Site, page: Page):
    """The table shows the end of a series, not of the batch that came last."""
    with site.client("late-batches") as http:
        run_id = http.run("one")
        metric(http, run_id, 0.25, 10)
        page.goto(f"{site.url}/?tenant=late-batches")
        row = page.locator(f"[data-run='{run_id}']")
        expect(row).to_contain_text("0.25")
        expect(page.locator(".live.live")).to_be_visible()
        metric(http, run_id, 0.75, 5)
        page.wait_for_timeout(1_000)
        expect(row).to_contain_text("0.25")
        metric(http, run_id, 0.5, 11)
        expect(row).to_contain_text("0.5")
        metric(http, run_id, 0.875, 6)
        page.wait_for_timeout(1_000)
        expect(row).to_contain_text("0.5")
        metric(http, run_id, 0.125, 12)
        expect(row).to_contain_text("0.125")


def test_an_answer_from_before_a_reset_is_not_put_over_what_was_read_after_it(
    site: Site, page: Page
):
    """What was missed between the two is in the second one alone."""
    with site.client("late-resets") as http:
        run_id = http.run("one")
        metric(http, run_id, 0.25, 1)
        page.goto(f"{site.url}/?tenant=late-resets")
        row = page.locator(f"[data-run='{run_id}']")
        expect(row).to_contain_text("0.25")
        expect(page.locator(".live.live")).to_be_visible()
        with Held(page, r"/runs/series") as held:
            metric(http, run_id, 0.5, 2)
            held.wait()
            hide(page, True)
            expect(page.locator(".live.paused")).to_be_visible()
            metric(http, run_id, 0.75, 3)
            events = re.compile(r"/runs/events\?")
            told: list[str] = []

            def nothing_but_a_reset(route: Route) -> None:
                body = "" if told else "event: reset\ndata: {}\n\n"
                told.append(body)
                route.fulfill(body=body, content_type="text/event-stream")

            page.route(events, nothing_but_a_reset)
            hide(page, False)
            expect(row).to_contain_text("0.75")
            held.release()
        page.wait_for_timeout(500)
        expect(row).to_contain_text("0.75")


def test_a_list_of_files_goes_on_while_files_are_stored(site: Site, page: Page):
    """One is stored sooner than the answer about the one before has come."""
    with site.client("late-lists") as http:
        run_id = http.run("one")
        http.call("PUT", run_id, "/artifacts/a/0.txt", content=b"x")

        def slowly(route: Route) -> None:
            answer = route.fetch()
            page.wait_for_timeout(400)
            route.fulfill(response=answer)

        page.goto(f"{site.url}/runs/{run_id}?tenant=late-lists&tab=artifacts&folder=a")
        files = page.get_by_role("region", name="Files").get_by_role("row")
        expect(files).to_have_count(1)
        expect(page.locator(".live.live")).to_be_visible()
        page.route(re.compile(r"/artifacts\?path="), slowly)
        for n in range(1, 21):
            http.call("PUT", run_id, f"/artifacts/a/{n}.txt", content=b"x")
            page.wait_for_timeout(150)
            if files.count() > 1:
                break
        else:
            pytest.fail("nothing was shown while files were stored")
        expect(files).to_have_count(n + 1)
        page.unroute_all(behavior="wait")
