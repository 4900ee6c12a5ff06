"""``stepwell show RUN``: one run on a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from stepwell.wire import Artifact, ArtifactPage, Experiment, Run
from stepwell_tracker.cli import DONE, parser
from stepwell_tracker.cli_client import Client, Query, add_options, dump, run_id
from stepwell_tracker.cli_text import clean, duration, moment, number, size, sparkline, table
from stepwell_tracker.schema import (
    MAX_SERIES_PER_REQUEST,
    History,
    SeriesPage,
    SeriesReply,
    SeriesRequest,
    SeriesSummary,
)

EXAMPLE = "stepwell show 018d9c4230808f13be8df00000000000"
SPARKLINE_CHARS = 32
SERIES_PER_REQUEST = 200
FOLDERS_READ = 100
"""Artifact folders that are opened for the list; deeper trees end in a folder's name."""


def main(arguments: list[str]) -> int:
    """Print what was logged to a run."""
    options = _parser().parse_args(arguments)
    client = Client(options)
    run = client.get(f"/runs/{options.run}", Run)
    series = all_series(client, options.run, options.metric)
    files = artifacts(client, options.run)
    if options.json:
        print(dump({"run": run, "series": series, "artifacts": files}))
        return DONE
    client.ask_as_tenant_of(run.run_id)
    experiment = client.find(f"/{run.experiment_id}", Experiment)
    if experiment is None:
        sys.stderr.write("for the experiment's name say whose run it is: --tenant NAME\n")
    print(_head(run, experiment.name if experiment else run.experiment_id))
    _section("parameters", ["NAME", "VALUE"], sorted(run.params.items()))
    _section("tags", ["NAME", "VALUE"], sorted(run.tags.items()))
    charts = histories(client, run.run_id, [one.key for one in series])
    rows = [_metric_row(one, charts.get(one.key)) for one in series]
    _section("metrics", ["KEY", "POINTS", "LAST", "MIN", "MAX", ""], rows, "<>>>>")
    _section("artifacts", ["PATH", "SIZE"], [_file_row(one) for one in files], "<>")
    if run.truncated:
        print("\nthis run has more keys than one answer carries; --json lists every series")
    return DONE


def all_series(client: Client, run: str, keys: Sequence[str] = ()) -> list[SeriesSummary]:
    """The summaries of a run's series, in order; only of these keys where some are given."""
    found: list[SeriesSummary] = []
    cursor: str | None = None
    while True:
        query: Query = [("cursor", cursor)] if cursor else []
        page = client.get(f"/runs/{run}/metrics", SeriesPage, query)
        found += page.series
        cursor = page.next_cursor
        if cursor is None:
            return [one for one in found if not keys or one.key in keys]


def histories(client: Client, run: str, keys: Sequence[str]) -> dict[str, History]:
    """A few points of each series, enough for a sparkline."""
    found: dict[str, History] = {}
    for start in range(0, len(keys), min(SERIES_PER_REQUEST, MAX_SERIES_PER_REQUEST)):
        request = SeriesRequest(
            [run], list(keys[start : start + SERIES_PER_REQUEST]), max_points=8 * SPARKLINE_CHARS
        )
        reply = client.post("/runs/series", request, SeriesReply)
        found.update((history.key, history) for history in reply.series)
    return found


def artifacts(client: Client, run: str) -> list[Artifact]:
    """The files of a run with their whole paths; folders only where there are too many."""
    found: list[Artifact] = []
    folders = [""]
    read = 0
    while folders:
        folder = folders.pop()
        read += 1
        for one in _folder(client, run, folder):
            if one.is_dir and read + len(folders) < FOLDERS_READ:
                folders.append(one.path)
            else:
                found.append(one)
    return sorted(found, key=lambda one: one.path)


def _folder(client: Client, run: str, path: str) -> list[Artifact]:
    found: list[Artifact] = []
    cursor: str | None = None
    while True:
        query: list[tuple[str, str | int]] = [("path", path)] if path else []
        query += [("cursor", cursor)] if cursor else []
        page = client.get(f"/runs/{run}/artifacts", ArtifactPage, query)
        found += page.artifacts
        cursor = page.next_cursor
        if cursor is None:
            return found


def _head(run: Run, experiment: str) -> str:
    lines = [
        ("run", run.run_id),
        ("name", run.name),
        ("experiment", experiment),
        ("status", run.status + (" (asked to stop)" if run.stop_requested else "")),
        ("started", moment(run.start_time)),
        ("ended", moment(run.end_time) if run.end_time is not None else "-"),
        ("took", duration(run.duration_seconds)),
        ("user", run.user_id or ""),
        ("parent", run.parent_run_id or ""),
        ("description", run.description),
    ]
    return "\n".join(f"{name:11}  {clean(text)}" for name, text in lines if text)


def _section(title: str, header: list[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    if rows:
        print(f"\n{title}\n{table(header, rows, right)}")


def _metric_row(one: SeriesSummary, history: History | None) -> list[str]:
    return [
        one.key,
        f"{one.count}" if one.exact else f"<={one.count}",
        number(one.last),
        number(one.min),
        number(one.max),
        sparkline(history.points, SPARKLINE_CHARS) if history else "",
    ]


def _file_row(one: Artifact) -> list[str]:
    return [one.path + ("/" if one.is_dir else ""), size(one.size)]


def _parser() -> argparse.ArgumentParser:
    options = parser("show", "Show one run: parameters, tags, metrics, artifacts.", EXAMPLE)
    options.add_argument("run", metavar="RUN", type=run_id, help="the run's id")
    options.add_argument(
        "--metric", action="append", default=[], metavar="KEY", help="only this one; repeatable"
    )
    add_options(options)
    return options
