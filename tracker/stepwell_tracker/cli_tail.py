"""``stepwell tail RUN``: a run's points as they arrive, until it ends."""

from __future__ import annotations

import argparse
import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from stepwell.wire import Run
from stepwell_tracker.cli import DONE, parser
from stepwell_tracker.cli_client import Client, add_options, at_least, run_id
from stepwell_tracker.cli_show import all_series
from stepwell_tracker.cli_text import clean, duration, number
from stepwell_tracker.schema import MAX_SERIES_PER_REQUEST, Point, SeriesReply, SeriesRequest

EXAMPLE = "stepwell tail 018d9c4230808f13be8df00000000000 --metric val_loss"
GATHER_S = 0.2
"""Events that come so close together are answered by one look-up."""
RECONNECT_S = 60.0
ENDED = ("finished", "failed", "killed")
STALE = {"points", "state", "reset"}
"""After these there may be points not shown yet.  ``state`` begins every stream: what comes after
it will be told, and what came before it is looked up then, so nothing falls between."""
Event = tuple[str, dict[str, Any]]


def main(arguments: list[str]) -> int:
    """Print new points until the run ends (or until Ctrl-C)."""
    options = _parser().parse_args(arguments)
    client = Client(options)
    client.get(f"/runs/{options.run}", Run)
    client.patience_s = RECONNECT_S  # there is such a run: from here on a restart is sat out
    follower = Follower(client, options)
    while True:
        for group in gather(events(client.lines(f"/runs/{options.run}/events"))):
            follower.show(group)
            run = client.get(f"/runs/{options.run}", Run)
            if run.status in ENDED or run.lifecycle == "deleted":
                follower.catch_up()
                follower.end(run)
                return DONE


class Follower:
    """What was shown of a run, and what comes next.

    Points are shown in the order of their steps; one that comes later for a step already passed
    is left out (the history has it).
    """

    def __init__(self, client: Client, options: argparse.Namespace) -> None:
        self._client = client
        self._run: str = options.run
        self._keys: list[str] = options.metric
        self._json: bool = options.json
        self._steps: int = options.steps
        self._shown: dict[str, int] = {}

    def catch_up(self) -> None:
        """Print the points beyond those shown; of a series not seen before, its last steps."""
        starts: dict[int, list[str]] = {}
        for one in all_series(self._client, self._run, self._keys):
            shown = self._shown.get(one.key, one.last_step - self._steps)
            if one.last_step > shown:
                starts.setdefault(shown + 1, []).append(one.key)
        found: dict[str, list[Point]] = {}
        for start, keys in starts.items():
            found |= self._points(keys, start)
        for key, points in found.items():
            self._shown[key] = points[-1].step
        self._print(found)

    def show(self, kinds: Sequence[Event]) -> None:
        """Print what a group of events is about."""
        if STALE & {name for name, _ in kinds}:
            self.catch_up()
        for name, data in kinds:
            for word in ("params", "tags"):
                for key, value in (data.get(word) or {}).items():
                    self._line({word[:-1]: key, "value": value}, f"{word[:-1]} {key} = {value}")
            if name == "stop":
                self._line({"stop_requested": True}, "asked to stop")

    def end(self, run: Run) -> None:
        text = f"{run.status} after {duration(run.duration_seconds)}"
        if run.lifecycle == "deleted":
            text = "the run was deleted"
        self._line({"status": run.status, "lifecycle": run.lifecycle}, text)

    def _points(self, keys: Sequence[str], start: int) -> dict[str, list[Point]]:
        found: dict[str, list[Point]] = {}
        for index in range(0, len(keys), MAX_SERIES_PER_REQUEST):
            some = list(keys[index : index + MAX_SERIES_PER_REQUEST])
            request = SeriesRequest([self._run], some, start_step=start)
            reply = self._client.post("/runs/series", request, SeriesReply)
            found |= {history.key: history.points for history in reply.series if history.points}
        return found

    def _print(self, found: dict[str, list[Point]]) -> None:
        rows: dict[int, list[tuple[str, Point]]] = {}
        for key, points in found.items():
            for point in points:
                rows.setdefault(point.step, []).append((key, point))
        for step in sorted(rows):
            if self._json:
                for key, point in rows[step]:
                    self._line({"key": key, "step": step, "timestamp": point.timestamp,
                                "value": point.value}, "")  # fmt: skip
            else:
                words = (f"{key}={number(point.value)}" for key, point in rows[step])
                self._line({}, f"step {step}  {'  '.join(words)}")

    def _line(self, data: dict[str, object], text: str) -> None:
        print(json.dumps(data) if self._json else clean(text), flush=True)


def events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events: (kind, data)."""
    kind, data = "message", ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data += value
        elif not line:
            if data:
                yield kind, _object(data)
            kind, data = "message", ""


def gather(found: Iterator[Event]) -> Iterator[list[Event]]:
    """Events in groups, so that a fast run costs a look-up every GATHER_S and not one for each.

    A group may be empty, the last.
    """
    waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def read() -> None:
        for event in found:
            waiting.put(event)
        waiting.put(None)

    threading.Thread(target=read, daemon=True, name="events").start()
    open_still = True
    while open_still:
        group = [waiting.get()]
        if group[0] is not None:
            time.sleep(GATHER_S)
        while not waiting.empty():
            group.append(waiting.get())
        open_still = group[-1] is not None
        yield [event for event in group if event is not None]


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _parser() -> argparse.ArgumentParser:
    options = parser("tail", "Follow a run's points until it ends.", EXAMPLE)
    options.add_argument("run", metavar="RUN", type=run_id, help="the run's id")
    options.add_argument(
        "--metric", action="append", default=[], metavar="KEY", help="only this one; repeatable"
    )
    options.add_argument(
        "--steps",
        type=at_least(0),
        default=10,
        metavar="N",
        help="begin with the last N steps (10)",
    )
    add_options(options)
    return options
