"""The examples of docs/filters.md, run."""

import re
from pathlib import Path

import pytest

from stepwell_storage.fields import ATTRIBUTES
from stepwell_storage.records import RunQuery
from stepwell_storage.tenant import Tenant
from tests.storage.run_sets import Logged, log_into

DOCS = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the table whose first column has that heading."""
    after = DOCS[DOCS.index(f"\n| {heading} |") + 1 :]
    lines = after.split("\n\n")[0].splitlines()[2:]
    return [line.split("|")[1:-1] for line in lines]


def plain(cell: str) -> str:
    """Without the spaces around it, and the backticks."""
    code = re.fullmatch(r"\s*(`+)\s*(.*?)\s*\1\s*", cell)
    return code.group(2) if code else cell.strip()


def cells(heading: str) -> list[list[str]]:
    return [[plain(cell) for cell in row] for row in table(heading)]


def pairs(cell: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in cell.split(", ") if pair)


@pytest.fixture
async def documented(tenant: Tenant) -> Tenant:
    runs = []
    for number, (name, status, params, tags, metrics) in enumerate(cells("name")):
        run = Logged(f"{number:032x}", name, "", "Default", status, number)
        run.end_time = None if status == "running" else 1_000 + number
        run.params, run.tags = pairs(params), pairs(tags)
        run.metrics = {key: [float(value)] for key, value in pairs(metrics).items()}
        runs.append(run)
    assert len(runs) == 5
    await log_into(tenant, runs)
    return tenant


async def test_every_example_finds_what_the_page_says(documented: Tenant) -> None:
    examples = cells("filter")
    assert len(examples) > 20
    for filter, found in examples:
        page = await documented.search(RunQuery(filter=filter, order_by=("start_time",)))
        assert ", ".join(run.name for run in page.runs) == found, filter


async def test_every_order_gives_what_the_page_says(documented: Tenant) -> None:
    examples = cells("order_by")
    assert len(examples) > 3
    for order, found in examples:
        page = await documented.search(RunQuery(order_by=(order,)))
        assert ", ".join(run.name for run in page.runs) == found, order


def test_the_page_lists_every_attribute() -> None:
    listed = set(re.findall(r"`(\w+)`", " ".join(row[0] for row in table("attribute"))))
    assert listed == {name for name in ATTRIBUTES if name.isidentifier()}
