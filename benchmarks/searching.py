"""Searches over 5,000 and 100,000 runs, and how soon a server with 100,000 runs is ready."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import msgspec
import numpy as np

from benchmarks import fill
from benchmarks.api import Caller
from benchmarks.meters import compacted
from benchmarks.plan import Plan
from benchmarks.processes import Server, scratch, stepwell
from benchmarks.report import Goal, Result, at_most
from benchmarks.timing import expect, repeat
from stepwell import wire

_page = msgspec.json.Decoder(wire.RunPage)


@dataclass(frozen=True)
class Search:
    """``filter`` holds ``{loss}``, which differs in every call, so that no answer is kept."""

    name: str
    filter: str
    loss: tuple[float, float]
    share: float
    """Of all runs that it finds, at the middle of ``loss``; an answer far from it is wrong."""
    goals: tuple[Goal, ...] = ()
    order_by: str = "metrics.val_loss ASC"
    total: bool = True


_FEW = (
    Search(
        "search_few",
        "metrics.val_loss < {loss} and params.model = 'xgboost'",
        (0.3, 0.5),
        0.4 / 4,
        (at_most("p50_ms", 10.0),),
    ),
)
MANY = (
    Search(
        "search_many_selective",
        "metrics.val_loss < {loss} and params.model = 'xgboost' and params.optimizer = 'lion'",
        (0.01, 0.03),
        0.02 / 12,
        (at_most("p50_ms", 50.0),),
    ),
    Search(
        "search_many_most_match",
        "metrics.val_loss < {loss} and metrics.f1 > 0.02 and params.layers > 2",
        (0.96, 0.99),
        0.975 * 0.98 * 45 / 46,
        (at_most("p50_ms", 100.0),),
    ),
    Search(
        "search_many_most_match_no_total",
        "metrics.val_loss < {loss} and metrics.f1 > 0.02 and params.layers > 2",
        (0.96, 0.99),
        0.975 * 0.98 * 45 / 46,
        total=False,
    ),
    Search("search_many_newest", "", (0, 1), 1.0, order_by="attributes.start_time DESC"),
)


def searches(plan: Plan) -> Iterator[Result]:
    with scratch() as folder:
        data = folder / "data"
        with stepwell(data) as server:
            fill.runs(server.port, plan.few_runs, "few")
            fill.runs(server.port, plan.many_runs, "many")
            compacted(server)
            for tenant, count, cases in (
                ("few", plan.few_runs, _FEW),
                ("many", plan.many_runs, MANY),
            ):
                with Caller(server.port, f"{wire.TENANT_HEADER}: {tenant}\r\n") as caller:
                    for case in cases:
                        yield _measure(server, caller, case, count, plan)
        yield _restarted(plan, data)


def _measure(server: Server, caller: Caller, case: Search, count: int, plan: Plan) -> Result:
    losses = iter(np.linspace(*case.loss, plan.searches + 1))
    totals = []

    def call() -> None:
        query = {"filter": case.filter.format(loss=round(float(next(losses)), 6))}
        query |= {"order_by": case.order_by, "limit": "50"}
        query |= {} if case.total else {"total": "false"}
        page = _page.decode(caller.get(f"/api/v1/experiments/runs?{urlencode(query)}"))
        totals.append(page.total if isinstance(page.total, int) else 0)

    figures = repeat(call, plan.searches, server)
    figures["matches"] = float(np.median(totals))
    if case.total and case.share * count > 100:
        expect(abs(figures["matches"] / (case.share * count) - 1) < 0.3, f"{case.name}: {figures}")
    return Result(
        case.name,
        figures,
        {"runs": count, "filter": case.filter, "order_by": case.order_by, "calls": plan.searches},
        goals=case.goals,
    )


def _restarted(plan: Plan, data: Path) -> Result:
    """Ready, and its first search answered, on the data that the searches left."""
    ready = []
    for _ in range(plan.starts):
        with stepwell(data) as server:
            ready.append(server.ready_s)
            memory = server.memory_mb()
    return Result(
        "start_many_runs",
        {"ready_s": median(ready), "slowest_s": max(ready), "rss_mb": memory},
        {"runs": plan.many_runs, "starts": plan.starts},
        goals=(at_most("ready_s", 1.5),),
    )
