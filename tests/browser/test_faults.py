"""The server goes and comes back; runs are gone, deleted, another tenant's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Route, expect

from tests.browser.seeding import Client
from tests.serving import serving

RECONNECT_MS = 15_000
"""The page tries every two seconds; a server on a busy machine takes some to start."""


def test_a_page_goes_on_when_the_server_is_there_again(shaken, tmp_path):
    page = shaken
    data = tmp_path / "data"
    with serving(data) as served, Client(served.url, "outage") as http:
        run_id, port = http.run("through it all"), served.port
        http.points(run_id, "loss", np.arange(5.0))
        page.goto(f"{served.url}/runs/{run_id}?tenant=outage")
        plot = page.locator("[data-metric='loss'] .plot")
        expect(plot).to_have_attribute("data-points", "5")
        expect(page.locator(".live.live")).to_be_visible()
    expect(page.locator(".live")).to_have_text("no answer, trying again", timeout=RECONNECT_MS)
    with serving(data, port=port) as served, Client(served.url, "outage") as http:
        http.points(run_id, "loss", np.arange(5.0, 8.0), 5)
        expect(page.locator(".live.live")).to_be_visible(timeout=RECONNECT_MS)
        expect(plot).to_have_attribute("data-points", "8", timeout=RECONNECT_MS)
        http.points(run_id, "loss", np.array([8.0]), 8)
        expect(plot).to_have_attribute("data-points", "9", timeout=RECONNECT_MS)
        assert "Traceback" not in served.errors


def test_a_table_goes_on_when_the_server_is_there_again(shaken, tmp_path):
    page = shaken
    data = tmp_path / "data"
    with serving(data) as served, Client(served.url, "outage") as http:
        http.run("before")
        port = served.port
        page.goto(f"{served.url}/?tenant=outage")
        expect(page.locator("[data-row='0'] .name")).to_have_text("before")
        expect(page.locator(".live.live")).to_be_visible()
    page.get_by_role("searchbox").fill("after")  # it asks while nobody answers
    expect(page.get_by_text("The server does not answer").first).to_be_visible()
    with serving(data, port=port) as served, Client(served.url, "outage") as http:
        http.run("after")
        row = page.locator("[data-row='0'] .name")
        expect(row).to_have_text("after", timeout=RECONNECT_MS)
        expect(page.get_by_text("The server does not answer")).to_have_count(0)


BUSY = '{"type": "urn:stepwell:problem:busy", "title": "Busy", "status": 503, "detail": "full"}'


@pytest.mark.parametrize("asked", ["/runs/series", r"/runs/[0-9a-f]{32}$", r"/runs\?"])
def test_what_was_refused_is_asked_for_again(site, shaken, asked):
    """Charts, a zoomed stretch of them, runs and the table come by themselves after a 503."""
    page = shaken
    with site.client("refused") as http:
        ids = [http.run(f"run-{n}") for n in range(2)]
        for run_id in ids:
            http.points(run_id, "loss", np.arange(50.0))
    address = f"{site.url}/compare?tenant=refused&runs={','.join(ids)}&zoom=10,20"
    if asked == r"/runs\?":
        address = f"{site.url}/?tenant=refused"
    refused: list[str] = []

    def refuse(route: Route) -> None:
        if len(refused) == 4:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503, content_type="application/problem+json", body=BUSY)

    page.route(re.compile(asked), refuse)
    page.goto(address)
    if asked == r"/runs\?":
        expect(page.locator("[data-row='1'] .name")).to_have_text("run-0", timeout=RECONNECT_MS)
    else:
        plot = page.locator("[data-metric='loss'] .plot")
        expect(plot).to_have_attribute("data-points", "26", timeout=RECONNECT_MS)  # 9 to 21, twice
    assert len(refused) == 4
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_page_that_found_no_server_says_so_and_goes_on(shaken, tmp_path):
    """The page itself is there (a cache, a proxy), its data is not: it says so, and goes on."""
    page = shaken
    with serving(Path(tmp_path) / "data") as served, Client(served.url, "late") as http:
        run_id = http.run("late")
        http.points(run_id, "loss", np.arange(3.0))
        page.route(re.compile("/api/"), lambda route: route.abort())
        page.goto(f"{served.url}/runs/{run_id}?tenant=late")
        expect(page.get_by_role("heading", name="The run cannot be read")).to_be_visible()
        expect(page.get_by_role("alert").last).to_contain_text("The server does not answer")
        page.unroute(re.compile("/api/"))
        expect(page.get_by_role("heading", name="late")).to_be_visible(timeout=RECONNECT_MS)
        plot = page.locator("[data-metric='loss'] .plot")
        expect(plot).to_have_attribute("data-points", "3", timeout=RECONNECT_MS)


@pytest.mark.parametrize("tenant", ["sweeps", "nobody"])
def test_a_run_of_another_tenant_or_none_is_no_such_run(site, shaken, tenant):
    asked: list[str] = []
    shaken.on("request", lambda request: asked.append(request.url))
    shaken.goto(f"{site.url}/runs/{site.long[0]}?tenant={tenant}")
    expect(shaken.get_by_role("heading", name="No such run")).to_be_visible()
    expect(shaken.get_by_role("alert")).to_contain_text(f"Tenant {tenant} has no run")
    shaken.wait_for_timeout(3_000)
    assert len([url for url in asked if "/events" in url]) == 1  # nobody goes on asking
    shaken.get_by_role("link", name="All runs").click()
    expect(shaken).to_have_url(f"{site.url}/?tenant={tenant}")


def test_a_run_that_is_deleted_elsewhere_looks_deleted(site, page):
    with site.client("deleted") as http:
        run_id = http.run("short-lived")
        http.points(run_id, "loss", np.arange(3.0))
        page.goto(f"{site.url}/runs/{run_id}?tenant=deleted")
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        http.delete(f"/api/v1/experiments/runs/{run_id}").raise_for_status()
        expect(page.locator(".run-head .status")).to_have_text("deleted")
        expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        page.get_by_role("button", name="Restore").click()
        expect(page.locator(".run-head .status")).to_have_text("running")
