"""``stepwell runs``: list and search."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from stepwell.wire import MAX_RUNS_PER_PAGE, Experiment, ExperimentPage, Run, RunPage
from stepwell_tracker.cli import DONE, fail, parser
from stepwell_tracker.cli_client import Client, Query, add_options, at_least, dump
from stepwell_tracker.cli_text import clean, duration, moment, number, table

EXAMPLE = (
    "stepwell runs --experiment fraud-detection-v3 --filter 'metrics.val_loss < 0.5'"
    " --order-by 'metrics.val_loss ASC' --metric val_loss"
)
SHOWN_METRICS = 3
STATUSES = ("running", "finished", "failed", "killed", "scheduled")


def main(arguments: list[str]) -> int:
    """Print the matching runs, newest first unless told otherwise."""
    options = _parser().parse_args(arguments)
    client = Client(options)
    runs, total = _search(client, options)
    if options.json:
        print(dump(runs))
        return DONE
    if not runs:
        print("no runs")
        return DONE
    asked = metrics_in(" ".join([*options.order_by, options.filter or ""]))
    keys = options.metric or list(dict.fromkeys([*asked, *common_keys(runs)]))
    names = {} if options.experiment else experiment_names(client)
    print(_table(runs, keys, names))
    if total > len(runs):
        print(f"\n{len(runs)} of {total} runs; --limit shows more, --filter fewer")
    return DONE


def common_keys(runs: Sequence[Run]) -> list[str]:
    """The few metrics that most of the runs have."""
    found = Counter(key for run in runs for key in run.metrics)
    return sorted(key for key, _ in found.most_common(SHOWN_METRICS))


def metrics_in(text: str) -> list[str]:
    """The metrics that a filter or an order names: who asks by them wants to see them."""
    quoted = re.findall(r"\bmetrics\.(?:([\"`])(.+?)\1|([\w./-]+))", text)
    return [name or plain for _, name, plain in quoted]


def experiments(client: Client) -> list[Experiment]:
    """All experiments of the tenant that are not deleted."""
    found: list[Experiment] = []
    cursor: str | None = None
    while True:
        query: Query = [("limit", 1000), *([("cursor", cursor)] if cursor else [])]
        page = client.get("", ExperimentPage, query)
        found += page.experiments
        cursor = page.next_cursor
        if cursor is None:
            return found


def experiment_names(client: Client) -> dict[str, str]:
    return {one.experiment_id: one.name for one in experiments(client)}


def _search(client: Client, options: argparse.Namespace) -> tuple[list[Run], int]:
    query: list[tuple[str, str | int]] = [("status", status) for status in options.status]
    query += [("order_by", order) for order in options.order_by]
    query += [("keys", key) for key in options.metric]
    if options.filter:
        query.append(("filter", options.filter))
    if options.experiment:
        query.append(("experiment_id", _experiment_id(client, options.experiment)))
    runs: list[Run] = []
    total, cursor = 0, None
    while len(runs) < options.limit:
        page_query = [*query, ("limit", min(MAX_RUNS_PER_PAGE, options.limit - len(runs)))]
        if cursor:
            page_query += [("cursor", cursor), ("total", "false")]
        page = client.get("/runs", RunPage, page_query)
        runs += page.runs
        total = page.total if isinstance(page.total, int) else total
        cursor = page.next_cursor
        if cursor is None:
            break
    return runs, total


def _experiment_id(client: Client, name: str) -> str:
    known = experiments(client)
    ids = [one.experiment_id for one in known if name in (one.name, one.experiment_id)]
    if not ids:
        names = ", ".join(clean(one.name) for one in islice(known, 10))
        fail(f"there is no experiment {name!r}; there are: {names}")
    return ids[0]


def _table(runs: Sequence[Run], keys: Sequence[str], names: dict[str, str]) -> str:
    header = ["RUN", *(["EXPERIMENT"] if names else []), "NAME", "STATUS", "STARTED", "TOOK", *keys]
    rows = [
        [
            run.run_id,
            *([names.get(run.experiment_id, run.experiment_id)] if names else []),
            run.name,
            run.status,
            moment(run.start_time),
            duration(run.duration_seconds),
            *(number(run.metrics.get(key)) for key in keys),
        ]
        for run in runs
    ]
    right = "<" * (len(header) - len(keys) - 1) + ">" * (len(keys) + 1)
    return table([clean(cell) for cell in header], rows, right)


def _parser() -> argparse.ArgumentParser:
    options = parser("runs", "List and search runs, newest first.", EXAMPLE)
    options.add_argument("--experiment", metavar="NAME", help="of this experiment (name or id)")
    options.add_argument("--filter", metavar="TEXT", help="in the language of docs/filters.md")
    options.add_argument(
        "--order-by",
        action="append",
        default=[],
        metavar="KEY",
        help="repeatable, with ASC or DESC",
    )
    options.add_argument(
        "--status", action="append", default=[], choices=STATUSES, help="repeatable"
    )
    options.add_argument(
        "--metric", action="append", default=[], metavar="KEY", help="show this one; repeatable"
    )
    options.add_argument("--limit", type=at_least(1), default=50, metavar="N", help="at most (50)")
    add_options(options)
    return options
