"""One run: followed live, its console and its tree of metrics, stopped, renamed and linked."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import Route, expect

from stepwell import ExperimentTracker, RunConfig
from tests.browser.conftest import POINTS, hide
from tests.browser.seeding import RUNS, START

LIVE_MS = 3_000


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


def test_a_wide_runs_names_are_read_now_and_then(site, page):
    """It logs a new key at each step: that is no reason to read all names at each step."""
    with site.client("widening") as http:
        run_id = http.run("widening")
        http.keys(run_id, [f"unit{n:05d}" for n in range(1_200)])
        reads: list[str] = []
        page.on("request", lambda request: reads.append(request.url))
        page.goto(f"{site.url}/runs/{run_id}?tenant=widening")
        tree = page.get_by_role("navigation", name="Metrics")
        expect(tree.locator(".choice").first).to_contain_text("1,200")
        expect(page.locator(".live.live")).to_be_visible()
        page.wait_for_timeout(1_000)
        reads.clear()
        for n in range(20):
            http.keys(run_id, [f"later{n:05d}"])
            page.wait_for_timeout(100)
        expect(tree.locator(".choice").first).to_contain_text("1,220")
        assert 1 <= sum("metric-keys" in url for url in reads) <= 3


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


def test_a_console_goes_on_from_what_is_there(site, page):
    """A line more is no reason to read a thousand; many more are, and none is missing."""
    with site.client("goes-on") as http:
        run_id = http.run("chatty")

        def print_lines(first: int, last: int) -> None:
            lines = [
                {"stream": "stdout", "timestamp": n, "text": f"line {n}."}
                for n in range(first, last)
            ]
            http.call("POST", run_id, "/console", json={"lines": lines})

        print_lines(0, 990)
        tails: list[int] = []
        page.on(
            "request",
            lambda request: tails.extend(map(int, re.findall("tail=(\\d+)", request.url))),
        )
        page.goto(f"{site.url}/runs/{run_id}?tenant=goes-on&tab=console")
        expect(page.get_by_text("line 989.")).to_be_in_viewport()
        expect(page.locator(".live.live")).to_be_visible()
        page.wait_for_timeout(500)
        tails.clear()
        print_lines(990, 991)
        expect(page.get_by_text("line 990.")).to_be_in_viewport()
        assert page.locator(".lines .line-number").count() == 991
        assert max(tails) < 990
        print_lines(991, 1_500)
        expect(page.get_by_text("line 1499.")).to_be_in_viewport()
        numbers = page.locator(".lines .line-number").all_inner_texts()
        assert len(numbers) == 1_000
        assert [int(one) for one in numbers] == list(range(500, 1_500))


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


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_end_of_a_console_is_in_sight_at_once(site, page, width, height):
    with site.client("end") as http:
        run_id = http.run("a name that takes lines of its own " * 6, user_id="alice")
        for key in ("loss", "accuracy"):
            http.points(run_id, key, np.ones(3))
        lines = [{"stream": "stdout", "timestamp": n, "text": f"line {n}."} for n in range(300)]
        http.call("POST", run_id, "/console", json={"lines": lines})
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{site.url}/runs/{run_id}?tenant=end&tab=console")
    expect(page.locator(".latest")).to_contain_text("accuracy")
    last = page.locator(".lines > div").last
    expect(last).to_contain_text("line 299.")
    expect(last).to_be_in_viewport(ratio=0.9)
    page.set_viewport_size({"width": width, "height": height - 100})
    expect(last).to_be_in_viewport(ratio=0.9)
    assert page.locator(".lines").bounding_box()["height"] > 150
