"""Saved views: kept for everybody in a tenant, and nobody's is lost."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site


def test_a_view_that_was_saved_is_there_again(site, page):
    with site.client("views") as http:
        http.run("one", metrics={})
    page.goto(f"{site.url}/?tenant=views&q=one&order=attributes.name+ASC")
    expect(page.locator(".count")).to_contain_text("1 run")
    page.get_by_label("Saved views").click()
    page.get_by_label("Name of the view").fill("my view")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name="my view")).to_be_visible()
    page.goto(f"{site.url}/?tenant=views")
    page.get_by_label("Saved views").click()
    page.get_by_role("link", name="my view").click()
    expect(page).to_have_url(f"{site.url}/?tenant=views&q=one&order=attributes.name+ASC")


def test_a_view_saved_by_somebody_else_meanwhile_is_kept_and_seen(site: Site, page: Page):
    """Two people with open pages: each sees the other's view once the menu is opened."""
    other = page.context.new_page()
    for one, name in ((page, "mine"), (other, "yours")):
        one.goto(f"{site.url}/?tenant=two")
        one.get_by_label("Saved views").click()
        one.get_by_label("Name of the view").fill(name)
    for one in (page, other):
        one.get_by_role("button", name="Save", exact=True).click()
    for one in (page, other):
        one.get_by_label("Saved views").click()
        one.get_by_label("Saved views").click()
        for name in ("mine", "yours"):
            expect(one.get_by_role("link", name=name)).to_be_visible()
    page.get_by_label("Name of the view").fill("yours")
    expect(page.get_by_role("button", name="Replace")).to_be_enabled()
    other.close()


def addresses(site: Site, tenant: str) -> dict[str, str]:
    """The saved views of a tenant."""
    with site.client(tenant) as http:
        tags = http.get("/api/v1/experiments").json()["experiments"][-1]["tags"]
    return {key.removeprefix("stepwell.view."): value for key, value in tags.items()}


def save(page: Page, name: str) -> None:
    page.get_by_label("Name of the view").fill(name)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def test_a_view_is_renamed_and_nobody_elses_is_lost(site: Site, page: Page):
    with site.client("renames") as http:
        http.run("one")
    page.goto(f"{site.url}/?tenant=renames&q=one")
    page.get_by_label("Saved views").click()
    save(page, "draft")
    save(page, "other")
    kept = "/?tenant=renames&q=one"
    page.get_by_label("Rename the view draft").click()
    field = page.get_by_label("New name of the view draft")
    expect(field).to_be_focused()
    field.fill("other")
    expect(page.get_by_role("button", name="Taken")).to_be_disabled()
    field.press("Escape")
    page.get_by_label("Rename the view draft").click()
    field.fill("best runs")
    field.press("Enter")
    expect(page.get_by_role("link", name="best runs")).to_have_attribute("href", kept)
    assert addresses(site, "renames") == {"best runs": kept, "other": kept}


@pytest.mark.parametrize("act", ["rename", "save", "delete"])
def test_a_view_that_somebody_changed_meanwhile_stays_theirs(site: Site, shaken: Page, act: str):
    """The page was read before: it is told, and shows what is there now."""
    page, tenant = shaken, f"meanwhile-{act}"
    with site.client(tenant) as http:
        http.run("one")
        page.goto(f"{site.url}/?tenant={tenant}&q=one")
        page.get_by_label("Saved views").click()
        save(page, "mine")
        home = http.get("/api/v1/experiments").json()["experiments"][-1]["experiment_id"]
        theirs = {"stepwell.view.new": "/?q=theirs"}
        if act == "delete":
            theirs = {"stepwell.view.mine": "/?q=theirs"}
        http.patch(f"/api/v1/experiments/{home}", json={"tags": theirs}).raise_for_status()
    if act == "rename":
        page.get_by_label("Rename the view mine").click()
        page.get_by_label("New name of the view mine").fill("new")
        page.keyboard.press("Enter")
    elif act == "save":
        page.get_by_label("Name of the view").fill("new")
        page.get_by_role("button", name="Save", exact=True).click()
    else:
        page.get_by_label("Delete the view mine").click()
    expect(page.get_by_text("Somebody has changed that view meanwhile")).to_be_visible()
    name = "mine" if act == "delete" else "new"
    expect(page.get_by_role("link", name=name)).to_have_attribute("href", "/?q=theirs")
    assert addresses(site, tenant)[name] == "/?q=theirs"
    assert "mine" in addresses(site, tenant)
