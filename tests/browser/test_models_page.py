"""The model registry: which models there are, their versions, and the runs they came from."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.gallery import REGISTRY, register


@pytest.fixture(scope="module")
def registered(site: Site) -> str:
    """A model of three versions, the second one the champion; the run it came from."""
    with site.client("models") as http:
        run_ids = [http.run(f"fit-{n}") for n in range(3)]
        register(http, "churn'\"<b>", run_ids)
        http.post(f"{REGISTRY}/registered-models/create", json={"name": "empty"})
    return run_ids[1]


def test_a_model_and_the_run_of_its_champion_are_found(site: Site, page: Page, registered: str):
    page.goto(f"{site.url}/?tenant=models")
    page.get_by_role("link", name="Models", exact=True).click()
    expect(page.get_by_role("heading", name="2 models")).to_be_visible()
    row = page.get_by_role("row", name="churn")
    expect(row).to_contain_text("v3")
    expect(row).to_contain_text("champion v2")
    row.get_by_role("link").click()
    second = page.get_by_role("row", name="v2")
    expect(second).to_contain_text("champion")
    expect(second).to_contain_text("beats the old one")
    expect(second).to_contain_text("reviewed by mara")
    page.get_by_role("button", name="Copy Python").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "@champion" in copied
    compile(copied, "copied", "exec")
    second.get_by_role("link", name="fit-1").click()
    expect(page.get_by_role("heading", name="fit-1")).to_be_visible()
    page.get_by_role("link", name="Details").click()
    page.get_by_role("link", name="v2").click()
    expect(page.get_by_role("row", name="v1")).to_be_visible()
    assert page.evaluate("document.querySelector('main b')") is None


def test_no_model_or_one_without_versions_says_what_to_do(site: Site, page: Page, registered: str):
    page.goto(f"{site.url}/models?tenant=nobody")
    expect(page.get_by_role("heading", name="No models yet")).to_be_visible()
    code = page.get_by_label("Python that registers a model").inner_text()
    assert site.url in code
    page.goto(f"{site.url}/models?tenant=models&model=empty")
    expect(page.get_by_text("No version yet")).to_be_visible()
