"""What the pages cost in a real Chromium: ``python -m tests.browser.measure``.  One line of JSON.

Times are milliseconds.  ``paint`` is the first contentful paint, ``ready`` is when the rows or
lines are on the screen, both from the beginning of the navigation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from tests.browser import seeding
from tests.browser.seeding import Client
from tests.needs import program
from tests.serving import serving

POINTS = 1_000_000
HOUR_S = 3_600
METRICS = 20
WIDE = 50_000
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
_FRAMES = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
"""Two frames on, what was drawn is painted: the second waits for the first's."""
_BYTES = "performance.getEntries().reduce((sum, e) => sum + (e.transferSize ?? 0), 0)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="in the table (10000)")
    parser.add_argument("--lines", type=int, default=100, help="of a million points (100)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        seeding.sweep(data, "sweeps", options.runs)
        with serving(data) as served, Client(served.url, "long") as client:
            ids = [
                client.long_run(f"run-{n:03d}", POINTS, n * 1_000 + 5, params={"seed": n % 5})
                for n in range(options.lines)
            ]
            with Client(served.url, "wide") as http:
                wide = http.run("wide")
                http.keys(wide, [f"layer{n % 100}/unit{n:05d}" for n in range(WIDE)])
            print(json.dumps(measured(served.url, ids, wide)))  # noqa: T201
    return 0


def measured(url: str, ids: list[str], wide_run: str) -> dict[str, Any]:
    path = program("chromium", "chromium-browser", package="chromium libatomic1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        # The strict policy refuses the eval by which Playwright waits.
        page = browser.new_page(viewport={"width": 1440, "height": 900}, bypass_csp=True)
        found = {
            "table": table(page, url),
            "sweep": sweep(page, url),
            "wide": wide(page, url, wide_run),
            "overlay": overlay(page, url, ids),
            "live": live(page, url),
        }
        browser.close()
    return found


def opened(page: Page, address: str, ready: str, first: str = "") -> dict[str, float]:
    """Loads twice, the second time from the cache, and times the second.

    ``first`` is when something of it is on the screen, where that is earlier than ``ready``.
    """
    for _ in range(2):
        times = {}
        begun = time.perf_counter()
        page.goto(address, wait_until="commit")
        for name, condition in (("first", first), ("ready", ready)):
            if condition:
                page.wait_for_function(condition, polling="raf")
                page.evaluate(_FRAMES)
                times[name] = round((time.perf_counter() - begun) * 1_000)
    page.wait_for_timeout(500)
    return {"paint": round(page.evaluate(_PAINT)), **times}


def sweep(page: Page, url: str) -> dict[str, Any]:
    """Every run at once: parallel coordinates, then the scatter and what matters."""
    ready = (
        "document.querySelector('h1')?.innerText === '10,000 runs' &&"
        " document.querySelector('.sweep-chart[aria-busy=false] canvas') !== null"
    )
    found: dict[str, Any] = opened(page, f"{url}/compare?tenant=sweeps&tab=parallel", ready)
    found["bytes"] = page.evaluate(_BYTES)
    ready += " && document.querySelector('.bars tbody tr') !== null"
    found["scatter"] = opened(page, f"{url}/compare?tenant=sweeps&tab=scatter", ready)["ready"]
    return found


def wide(page: Page, url: str, run_id: str) -> dict[str, Any]:
    """A run with very many metrics: its first charts, all of its tree, and one metric found."""
    address = f"{url}/runs/{run_id}?tenant=wide"
    found: dict[str, Any] = opened(page, address, "document.querySelector('.chart-note b')")
    begun = time.perf_counter()
    page.goto(address, wait_until="commit")
    whole = f"document.querySelector('.choice')?.innerText.includes('{WIDE:,}')"
    page.wait_for_function(whole, polling="raf")
    found["tree"] = round((time.perf_counter() - begun) * 1_000)
    found["find"] = timed(
        page, lambda: page.get_by_label("Find a metric").fill("unit12345"),
        "document.querySelectorAll('.chart-note b').length === 1", "0",
    )  # fmt: skip
    return found


def table(page: Page, url: str) -> dict[str, Any]:
    rows = "document.querySelectorAll('.grid-row .name a').length > 10"
    found: dict[str, Any] = opened(page, f"{url}/?tenant=sweeps", rows)
    found["bytes"] = page.evaluate(_BYTES)
    found["sort"] = timed(
        page, lambda: page.get_by_role("button", name="val/loss", exact=True).click(),
        "document.querySelector('[data-row=\"0\"]').dataset.run !== window.before",
        "window.before = document.querySelector('[data-row=\"0\"]').dataset.run",
    )  # fmt: skip
    found["filter"] = timed(
        page, lambda: page.get_by_role("searchbox").fill("params.optimizer = 'adam'"),
        "document.querySelector('.count').innerText !== window.before",
        "window.before = document.querySelector('.count').innerText",
    )  # fmt: skip
    return found


def timed(page: Page, act: Any, done: str, before: str) -> int:
    page.evaluate(before)
    begun = time.perf_counter()
    act()
    page.wait_for_function(done, polling="raf")
    page.evaluate(_FRAMES)
    return round((time.perf_counter() - begun) * 1_000)


def overlay(page: Page, url: str, ids: list[str]) -> dict[str, Any]:
    address = f"{url}/compare?tenant=long&runs={','.join(ids)}&focus=loss"
    plot = "dialog [data-metric=loss] .plot"
    lines = f"Number(document.querySelector('{plot}')?.dataset.lines)"
    found: dict[str, Any] = opened(page, address, f"{lines} === {len(ids)}", f"{lines} > 0")
    found["lines"] = len(ids)
    found["points_drawn"] = int(page.locator(plot).get_attribute("data-points") or 0)
    found["bytes"] = page.evaluate(_BYTES)
    box = page.locator("dialog .u-over").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=3)
    note = "document.querySelector('dialog .chart-note').title"
    done = "document.querySelector('dialog .chart').ariaBusy === 'false'"
    found["zoom"] = timed(
        page, page.mouse.up, f"{note} !== window.before && {done}", f"window.before = {note}"
    )
    page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=3)
    zoomed = "location.search.split('zoom=')[1]"
    found["zoom_seen"] = timed(  # the stretch as it was known before, at once
        page, page.mouse.up, f"{zoomed} !== window.before", f"window.before = {zoomed}"
    )
    return found


def live(page: Page, url: str) -> dict[str, Any]:
    """From a call of the API to the pixel, then an hour of one point a second of 20 metrics."""
    with Client(url, "live") as http:
        run_id = http.run("live")
        for key in range(METRICS):
            http.points(run_id, f"m{key:02d}", np.arange(2.0))
        page.goto(f"{url}/runs/{run_id}?tenant=live")
        seen = "Number(document.querySelector('[data-metric=m00] .plot')?.dataset.points) >= {}"
        page.wait_for_function(seen.format(2))
        page.wait_for_timeout(1_500)
        delays = []
        for step in range(2, 32):
            begun = time.perf_counter()
            http.points(run_id, "m00", np.array([1.0 / step]), step)
            page.wait_for_function(seen.format(step + 1), polling="raf")
            delays.append((time.perf_counter() - begun) * 1_000)
        before = heap(page)
        for step in range(32, HOUR_S):
            metrics = {f"m{key:02d}": 1.0 / (step + key) for key in range(METRICS)}
            body = {"metrics": metrics, "step": step, "timestamp": seeding.START + step * 1_000}
            http.call("POST", run_id, "/log-metrics", json=body)
        page.wait_for_timeout(4_000)
        after = heap(page)
        held = int(page.locator("[data-metric=m00] .plot").get_attribute("data-points") or 0)
    return {
        "latency_median": round(statistics.median(delays), 1),
        "latency_worst": round(max(delays), 1),
        "heap_before_mb": before,
        "heap_after_an_hour_mb": after,
        "points_held": held,
    }


def heap(page: Page) -> float:
    """Of JavaScript, after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    size: float = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return round(size / 1e6, 1)


if __name__ == "__main__":
    sys.exit(main())
