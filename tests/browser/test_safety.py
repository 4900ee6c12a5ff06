"""What users wrote is text, wherever it is shown; and everybody can use the pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.gallery import register

AXE = Path(__file__).parents[2] / "tracker/ui/node_modules/axe-core/axe.min.js"
CORPUS = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg onload=window.pwned=1>',
    "'-window.pwned=1-'",
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "</textarea><script>window.pwned=1</script>",
)
TABS = ("", "details", "console", "artifacts")


@pytest.fixture(scope="module")
def hostile(site: Site) -> str:
    """A run with the corpus in its name, notes, tags, parameters, keys, console and files."""
    with site.client("hostile") as http:
        run_id = http.run(
            CORPUS[0], description=CORPUS[1], experiment_name=CORPUS[2], user_id=CORPUS[3],
            tags={text: text for text in CORPUS}, params={text: text for text in CORPUS},
        )  # fmt: skip
        metrics = dict.fromkeys(CORPUS, 0.5)
        http.call("POST", run_id, "/log-metrics", json={"metrics": metrics, "step": 1})
        lines = [{"stream": "stderr", "timestamp": 1, "text": text} for text in CORPUS]
        http.call("POST", run_id, "/console", json={"lines": lines})
        body = "\n\n".join([*CORPUS, f"[link]({CORPUS[4]})", f"![picture]({CORPUS[4]})"]).encode()
        for name in (
            "a.md",
            "a.csv",
            "a.html",
            "a.svg",
            "a.json",
            "<img src=x onerror=alert(1)>.txt",
        ):
            http.call("PUT", run_id, f"/artifacts/{name}", content=body)
        register(http, CORPUS[1].replace("/", ""), [run_id, run_id])
    return run_id


def check(page: Page) -> None:
    page.wait_for_timeout(400)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script, main iframe, main [onerror], main [onload]").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0


@pytest.mark.parametrize("tab", TABS)
def test_a_runs_page_shows_what_its_run_says_as_text(site, page, hostile, tab):
    page.goto(f"{site.url}/runs/{hostile}?tenant=hostile&tab={tab}")
    expect(page.get_by_role("heading", name=CORPUS[0])).to_be_visible()
    if tab == "details":
        for text in CORPUS:
            expect(page.get_by_text(text, exact=True).first).to_be_visible()
    check(page)


@pytest.mark.parametrize("name", ["a.md", "a.csv", "a.html", "a.json"])
def test_a_file_is_shown_as_text(site, page, hostile, name):
    page.goto(f"{site.url}/runs/{hostile}?tenant=hostile&tab=artifacts&file={name}")
    expect(page.locator(".viewer")).to_contain_text("window.pwned")
    check(page)


def test_the_table_and_a_comparison_show_what_runs_say_as_text(site, page, hostile):
    columns = "".join(f"&col=params.{name}" for name in ("a", "b"))
    page.goto(f"{site.url}/?tenant=hostile{columns}")
    expect(page.locator("[data-row='0'] .name")).to_have_text(CORPUS[0])
    check(page)
    for tab in ("", "params", "parallel", "scatter"):
        page.goto(f"{site.url}/compare?tenant=hostile&runs={hostile}&tab={tab}")
        expect(page.get_by_role("heading", name="1 run")).to_be_visible()
        check(page)


def test_the_models_show_their_names_as_text(site, page, hostile):
    page.goto(f"{site.url}/models?tenant=hostile")
    page.get_by_role("link", name=CORPUS[1].replace("/", "")).click()
    expect(page.get_by_role("row", name="v2")).to_contain_text(CORPUS[0])
    check(page)


def test_an_address_runs_nothing_that_it_says(site, page):
    for part in CORPUS:
        page.goto(f"{site.url}/?tenant=default&q=attributes.name='x'&focus={part}&x={part}")
        check(page)


def test_a_file_is_no_page_of_this_site(site, page, hostile):
    with site.client("hostile") as http:
        answer = http.get(f"/api/v1/experiments/runs/{hostile}/artifacts/a.html")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_name_makes_no_page_wider(site, page, width):
    key = "m" * 200
    with site.client("long-names") as http:
        run_id = http.run("n" * 200, tags={key: key}, params={key: key}, description=key)
        metrics = {f"{key}/loss": 0.5, "loss": 0.5, key: 0.5}
        http.call("POST", run_id, "/log-metrics", json={"metrics": metrics, "step": 1})
    page.set_viewport_size({"width": width, "height": 800})
    for part in (
        "/?",
        f"/runs/{run_id}?",
        f"/runs/{run_id}?tab=details&",
        f"/compare?runs={run_id}&",
    ):
        page.goto(f"{site.url}{part}tenant=long-names")
        expect(page.get_by_text("n" * 200).first).to_be_visible()
        page.wait_for_timeout(300)
        assert page.locator("main").evaluate("main => main.scrollWidth") <= width, part


ADDRESSES = {
    "runs": "/?tenant=sweeps",
    "run": "/runs/{run}?tenant=sweeps",
    "details": "/runs/{run}?tenant=sweeps&tab=details",
    "console": "/runs/{run}?tenant=sweeps&tab=console",
    "artifacts": "/runs/{run}?tenant=sweeps&tab=artifacts",
    "compare": "/compare?tenant=sweeps&q=attributes.name+LIKE+'%-0012%'",
    "parameters": "/compare?tenant=sweeps&q=attributes.name+LIKE+'%-0012%'&tab=params",
    "sweep": "/compare?tenant=sweeps&q=params.depth+%3D+4&tab=parallel",
    "scatter": "/compare?tenant=sweeps&q=params.depth+%3D+4&tab=scatter",
    "models": "/models?tenant=birds-models",
    "model": "/models?tenant=birds-models&model=churn",
    "no models": "/models?tenant=nobody",
    "empty": "/?tenant=nobody",
}


@pytest.fixture(scope="module", autouse=True)
def registered(site: Site) -> None:
    with site.client("birds-models") as http:
        register(http, "churn", [http.run(f"fit-{n}") for n in range(3)])


def address(site: Site, name: str) -> str:
    with site.client("sweeps") as http:
        run = http.get("/api/v1/experiments/runs?limit=1").json()["runs"][0]["run_id"]
    return site.url + ADDRESSES[name].format(run=run)


def serious(page: Page) -> list[Any]:
    page.wait_for_timeout(1_000)
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        (one["id"], [node["html"][:120] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ADDRESSES)
def test_a_page_shuts_nobody_out(site, page, name, theme):
    """axe-core finds nothing serious."""
    page.emulate_media(color_scheme=theme)
    page.goto(address(site, name))
    found = serious(page)
    assert found == [], json.dumps(found, indent=1)


@pytest.mark.parametrize("name", ["runs", "run", "details", "compare", "models", "model"])
def test_a_page_fits_a_phone(site, page, name):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(address(site, name))
    found = serious(page)
    assert found == [], json.dumps(found, indent=1)
    parts = "[document.documentElement, document.querySelector('main')]"
    assert max(page.evaluate(f"{parts}.map(part => part.scrollWidth)")) <= 390
