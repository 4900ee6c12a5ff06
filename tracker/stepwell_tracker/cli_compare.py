"""``stepwell compare RUN RUN``: what differs between runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from stepwell.wire import Run, Value
from stepwell_tracker.cli import DONE, parser
from stepwell_tracker.cli_client import Client, add_options, dump, run_id
from stepwell_tracker.cli_show import all_series
from stepwell_tracker.cli_text import NONE, duration, number, table
from stepwell_tracker.schema import SeriesSummary

EXAMPLE = "stepwell compare 018d9c4230808f13be8df00000000000 018d9c4230808f13be8df00000000001"
Values = dict[str, list[str | Value | None]]
"""Name -> the value of each run, None where it has none."""


def main(arguments: list[str]) -> int:
    """Print the parameters and metrics in which runs differ."""
    known = _parser()
    options = known.parse_args(arguments)
    if len(options.runs) < 2:
        known.error("two runs at least")
    client = Client(options)
    runs = [client.get(f"/runs/{run}", Run) for run in options.runs]
    series = [{one.key: one for one in all_series(client, run.run_id)} for run in runs]
    params = columns([run.params for run in runs])
    metrics = columns([_metrics(one) for one in series])
    if not options.all:
        params, metrics = differing(params), differing(metrics)
    if options.json:
        ids = [run.run_id for run in runs]
        print(dump({"runs": ids, "params": params, "metrics": metrics}))
        return DONE
    print(_heads(runs))
    _section("parameters", len(runs), params)
    _section("metrics", len(runs), metrics)
    if not params and not metrics:
        print("\nno parameter and no metric differs")
    return DONE


def columns(each: Sequence[Mapping[str, str | Value | None]]) -> Values:
    """Every name that any run has, with each run's value."""
    names = sorted({name for one in each for name in one})
    return {name: [one.get(name) for one in each] for name in names}


def differing(values: Values) -> Values:
    return {name: row for name, row in values.items() if any(one != row[0] for one in row)}


def _metrics(series: Mapping[str, SeriesSummary]) -> dict[str, Value | None]:
    """Last, lowest and highest value of each series."""
    found: dict[str, Value | None] = {}
    for key, one in series.items():
        found |= {f"{key} last": one.last, f"{key} min": one.min, f"{key} max": one.max}
    return found


def _heads(runs: Sequence[Run]) -> str:
    rows = [
        [_letter(index), run.run_id, run.name, run.status, duration(run.duration_seconds)]
        for index, run in enumerate(runs)
    ]
    return table(["", "RUN", "NAME", "STATUS", "TOOK"], rows, "<<<<>")


def _section(title: str, runs: int, values: Values) -> None:
    if not values:
        return
    rows = [[name, *map(_text, row)] for name, row in values.items()]
    header = ["NAME", *(_letter(index) for index in range(runs))]
    print(f"\n{title}\n{table(header, rows, '<' + '>' * runs)}")


def _text(value: str | Value | None) -> str:
    if value is None:
        return NONE
    return number(value) if isinstance(value, float | int) else value


def _letter(index: int) -> str:
    """A, B, ... Z, then 27, 28: what a column is called."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def _parser() -> argparse.ArgumentParser:
    options = parser("compare", "Show in which parameters and metrics runs differ.", EXAMPLE)
    options.add_argument("runs", metavar="RUN", type=run_id, nargs="+", help="two runs or more")
    options.add_argument("--all", action="store_true", help="show what is equal, too")
    add_options(options)
    return options
