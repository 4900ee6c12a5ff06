"""A tenant that has something of everything, and everything that it answers."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any

from stepwell_storage.errors import NotFound, Purged, StorageError
from stepwell_storage.records import (
    ConsoleLine,
    Dataset,
    DatasetUse,
    ListQuery,
    ModelMetric,
    ModelUse,
    NewModel,
    NewVersion,
    RunChange,
    RunQuery,
)
from stepwell_storage.series import ChartQuery
from stepwell_storage.shared import Steps
from stepwell_storage.store import Options, Store
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import batch, new_run

RUNS = [str(n) * 32 for n in range(1, 5)]
GONE, GOING = "8" * 32, "9" * 32
"""Purged runs: of one nothing is left, of the other some rows."""
MODEL = "m-" + "2" * 32
CRASHED = "crashed"
Answers = dict[str, object]
"""Place to value: ``run.name <run id>``."""


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def make(data: Path) -> None:
    """The tenant ``acme``, closed: sealed chunks, a journal's tail, texts, models, purged runs."""
    store = await Store.open(data, Options(compact=False))
    async with store.lease("acme", create=True) as tenant:
        await tenant.set_note("description", "a note")
        await tenant.create_experiment("lab", description="of things", tags={"place": "cellar"})
        for number, run in enumerate([*RUNS, GONE, GOING]):
            await _make_run(tenant, run, number)
        await _make_models(tenant)
        await store.compact("acme")
        for number, run in enumerate(RUNS):
            await tenant.log(run, batch("loss", range(600, 650), value=number))
        await tenant.change_run(RUNS[0], RunChange(status="failed", end_time=9_000))
        await tenant.change_run(RUNS[1], RunChange(lifecycle="deleted"))
        await tenant.purges.run(GONE)
        await store.dispose("acme")
        await tenant.purges.run(GOING)
    await store.close()
    with closing(sqlite3.connect(data / "tenants/acme/tenant.db")) as connection:
        connection.execute("vacuum")  # what is left of older rows would be hit most of the time


async def _make_run(tenant: Tenant, run: str, number: int) -> None:
    await tenant.create_run(
        new_run(run, experiment_name="lab", description=f"run {number}", user_id="alice",
                parent_run_id=RUNS[0] if number else None,
                params={"lr": "0.1", "optimizer": "adam", "n": str(number)},
                tags={"team": "vision", "note": f"text {number}"}),
    )  # fmt: skip
    await tenant.log(run, batch("loss", range(600), value=number))
    ranked = batch("val/acc", range(0, 90, 3), value=-number)
    ranked.rank = number
    await tenant.log(run, ranked)
    await tenant.log_console(run, [ConsoleLine("stdout", 1, f"line {n}") for n in range(5)])
    data = Dataset("mnist", str(number), "local", '{"a": 1}', '{"s": 2}', '{"p": 3}')
    uses = [DatasetUse(data, {"mlflow.data.context": "train"})]
    await tenant.datasets.link(run, uses, [ModelUse("output", MODEL, number)])
    await tenant.artifacts.of_run(run).put("deep/card.md", body(b"# card" * 50))


async def _make_models(tenant: Tenant) -> None:
    lab = await tenant.experiment_by_name("lab")
    new = NewModel(MODEL, lab.number, "net", "torch", RUNS[0], {"layers": "3"}, {"a": "b"})
    await tenant.models.create(new)
    await tenant.models.log([(MODEL, ModelMetric("acc", 0.5, 1, 2, RUNS[0], "mnist", "0"))])
    await tenant.models.set_status(MODEL, "ready")
    await tenant.registry.create("shop", description="what is sold", tags={"owner": "bob"})
    for number in range(3):
        version = NewVersion("shop", f"runs:/{number}", f"at/{number}", f"version {number}", "eve",
                             RUNS[0], "http://link", MODEL, {"checked": "yes"})  # fmt: skip
        await tenant.registry.create_version(version)
    await tenant.registry.set_alias("shop", "champion", 2)
    await tenant.registry.set_stage("shop", 3, "Production")


# --- what it answers ------------------------------------------------------------------------------


async def answers(data: Path) -> Answers:
    """Everything, field by field; of what is refused the refusal."""
    found: Answers = {}
    store = await Store.open(data, Options(compact=False))
    try:
        async with store.lease("acme", create=False) as tenant:
            await _fill(found, tenant)
    except StorageError as error:
        found["tenant"] = type(error).__name__
    finally:
        await store.close()
    return found


async def _fill(found: Answers, tenant: Tenant) -> None:
    everything = ListQuery(lifecycle="all", limit=100)
    _put(found, "note", "description", await _try(tenant.note("description")))
    for query in (RunQuery(lifecycle="all", complete=True), RunQuery(filter="params.n > 1")):
        page = await _try(tenant.search(query))
        _put(found, f"search {query.filter}", "", _ids(page, "run_id"))
        _each(found, "run", getattr(page, "runs", []), "run_id")
    for run in RUNS:
        await _fill_run(found, tenant, run)
    page = await _try(tenant.experiments(lifecycle="all"))
    _each(found, "experiment", getattr(page, "experiments", []), "number")
    _put(found, "experiments", "", _ids(page, "number"))
    _put(found, "datasets", "", await _try(tenant.datasets.of_experiments([0, 1])))
    models = await _try(tenant.models.search(everything))
    _each(found, "model", getattr(models, "models", []), "model_id")
    _put(found, "models", "", _ids(models, "model_id"))
    for kind, call in (
        ("registered_model", tenant.registry.search(everything)),
        ("model_version", tenant.registry.search_versions(everything)),
    ):
        page = await _try(call)
        several = page[0] if isinstance(page, tuple) else []
        _each(found, kind, several, "name" if kind == "registered_model" else "version")
        _put(found, f"{kind}s", "", page if isinstance(page, str) else len(several))
    for run in (GONE, GOING):
        _put(found, "purged", run, await _refusal(tenant, run))


async def _fill_run(found: Answers, tenant: Tenant, run: str) -> None:
    page = await _try(tenant.series(run))
    _each(found, f"series {run}", getattr(page, "series", []), "key")
    _put(found, "series", run, _ids(page, "key"))
    for key in ("loss", "val/acc"):
        points = await _try(tenant.points(run, key))
        rows = points if isinstance(points, str) else _rows(points)
        _put(found, "points", f"{run} {key}", rows)
        charts = await _try(tenant.charts([run], ChartQuery([key], Steps.of(None, None), 50)))
        drawn = charts if isinstance(charts, str) else [_rows(one.points) for one in charts]
        _put(found, "chart", f"{run} {key}", drawn)
    lines = await _try(tenant.console(run))
    _put(found, "console", run, getattr(lines, "lines", lines))


def _rows(points: Any) -> list[tuple[int, ...]]:
    return [tuple(points.position(row)) for row in range(len(points))]


async def _try(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except StorageError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001 - of which there shall be none
        return f"{CRASHED}: {type(error).__name__}: {error}"


async def _refusal(tenant: Tenant, run: str) -> str:
    try:
        await tenant.create_run(new_run(run))
    except Purged:
        return "purged"
    except (NotFound, StorageError) as error:
        return type(error).__name__
    return "taken again"


def _put(found: Answers, what: str, place: str, value: object) -> None:
    found[f"{what} {place}".strip()] = value


def _each(found: Answers, kind: str, several: list[Any], name: str) -> None:
    for one in several:
        for field in dataclasses.fields(one):
            value = getattr(one, field.name)
            text = "NaN" if isinstance(value, float) and math.isnan(value) else value
            found[f"{kind}.{field.name} {getattr(one, name)}"] = text


def _ids(page: Any, name: str) -> object:
    if isinstance(page, str):
        return page
    several = next(getattr(page, field) for field in ("runs", "series", "experiments", "models")
                   if hasattr(page, field))  # fmt: skip
    return [getattr(one, name) for one in several]
