"""One server with 10,000 runs, one Chromium, and for each test a page that must not complain."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from tests.browser import seeding
from tests.browser.seeding import Client
from tests.needs import program
from tests.serving import serving

RUNS = 10_000
POINTS = 1_000_000
SPIKE = 654_321
WIDTH, HEIGHT = 1440, 900
WAIT_MS = 20_000
expect.set_options(timeout=WAIT_MS)  # what is quick is measured by measure.py, on a quiet machine


@dataclass
class Site:
    """The server's address, and what is in it."""

    url: str
    long: list[str]
    """Runs of a million points, in the tenant ``long``."""

    def client(self, tenant: str) -> Client:
        return Client(self.url, tenant)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ended with its module: while it lives, Playwright's event loop occupies this thread, and no
    other suite could run one of its own."""
    path = program("chromium", "chromium-browser", package="chromium libatomic1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("site") / "data"
    with ThreadPoolExecutor() as threads:  # this thread may have Playwright's event loop
        threads.submit(seeding.sweep, data, "sweeps", RUNS).result()
    with serving(data) as served:
        with Client(served.url, "long") as client:
            long = [
                client.long_run(f"million-{n}", POINTS, SPIKE + n, params={"seed": n})
                for n in range(3)
            ]
        yield Site(served.url, long)
        assert "Traceback" not in served.errors


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, timezone_id="UTC")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(WAIT_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Errors of the console, of scripts and of the policy fail the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda told: errors.append(told.text) if _is_bad(told) else None)
    page.on("pageerror", lambda error: errors.append(f"{error.message}\n{error.stack}"))
    yield page
    page.close()
    assert errors == []


@pytest.fixture
def shaken(context: BrowserContext) -> Iterator[Page]:
    """A page whose requests may fail: Chromium reports each.  Errors of scripts fail the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"{error.message}\n{error.stack}"))
    yield page
    page.close()
    assert errors == []


def _is_bad(told: ConsoleMessage) -> bool:
    """A filter's mistake is the user's; Chromium reports every answer of 422 as an error."""
    return told.type in ("error", "warning") and "status of 422" not in told.text


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="folder to keep the pages' pictures in")


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = request.config.getoption("--screenshots")
    return tmp_path if folder is None else Path(folder)


def hide(page: Page, hidden: bool) -> None:
    """As if another tab had been brought to the front, or this one again."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
            document.dispatchEvent(new Event('visibilitychange')); }""",
        hidden,
    )
