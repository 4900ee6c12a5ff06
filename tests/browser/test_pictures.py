"""The pictures of docs/ui.md and the README; ``--screenshots docs/images`` takes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import gallery
from tests.browser.conftest import Site

MOST_BYTES = 250_000
"""Of a picture: they are in the repository."""

SWEEP = "/compare?tenant=birds&q=tags.stage+%3D+'sweep'"
REFINED = "/compare?tenant=birds&q=tags.stage+%3D+'refine'"
BEST: dict[str, str | int] = {
    "order_by": 'metrics."val/loss" ASC',
    "filter": "attributes.status = 'finished'",
    "limit": 6,
}
PICTURES = {
    "runs-light": ("/?tenant=birds", "[data-row='20'] .name a"),
    "run-light": ("/runs/{run}?tenant=birds&smooth=1", "[data-metric='val/loss'] .chart-note b"),
    "details-light": ("/runs/{run}?tenant=birds&tab=details", ".details .wide tbody tr"),
    "compare-dark": (f"{REFINED}&group=params.optimizer", "[data-metric='train/loss'] canvas"),
    "parameters-light": (f"{REFINED}&tab=params", ".diff .best"),
    "sweep-light": (
        f"{REFINED}&tab=parallel&axis=params.optimizer&axis=params.depth&axis=params.augment"
        "&axis=params.lr&axis=metrics.val/accuracy&axis=metrics.val/loss"
        "&keep=metrics.val/loss~0.3~0.55",
        ".sweep-chart canvas",
    ),
    "scatter-dark": (f"{SWEEP}&tab=scatter", ".sweep-chart canvas"),
    "model-light": ("/models?tenant=birds&model=birds", ".models tbody a"),
    "runs-phone": ("/?tenant=birds", "[data-row='10'] .name a"),
    "run-phone": ("/runs/{run}?tenant=birds", "[data-metric='val/loss'] .chart-note b"),
}


@pytest.fixture(scope="module")
def hung(site: Site) -> str:
    with site.client("birds") as client:
        run_id = gallery.hang(client)
        best = client.get("/api/v1/experiments/runs", params=BEST).json()["runs"]
        gallery.register(client, "birds", [run["run_id"] for run in reversed(best)])
        return run_id


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_data_and_is_small(
    site: Site, hung: str, page: Page, pictures: Path, name: str
) -> None:
    address, place = PICTURES[name]
    look = name.rpartition("-")[2]
    page.emulate_media(color_scheme="dark" if look == "dark" else "light")
    width, height = (390, 844) if look == "phone" else (1280, 800)
    page.set_viewport_size({"width": width, "height": height})
    page.goto(site.url + address.format(run=hung))
    expect(page.locator(place).first).to_be_visible()
    page.wait_for_timeout(1_000)  # what was drawn is painted
    path = pictures / f"{name}.png"
    page.screenshot(path=path)
    assert path.stat().st_size < MOST_BYTES
