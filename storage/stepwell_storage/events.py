"""What happened to runs, pushed to whoever follows them.

The committer publishes after each commit.  A *feed* exists for a run (or for all of them) from its
first subscriber until a while after its last one has gone, and remembers recent events, so that a
reader who lost the connection goes on without a gap.  Where that cannot be promised - the feed is
too young, the number is of another life of the server, the reader was too slow - the reader gets
one ``reset`` instead, which means: fetch again, then follow from here.  Nothing here polls.

Everything runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from types import TracebackType
from typing import Final

import numpy as np

from stepwell_storage.points import FLOAT64, INT64, Points, canonical, to_ordered
from stepwell_storage.records import Batch, Event, Position

RESET: Final = "reset"
KEPT_EVENTS: Final = 1_024
KEPT_ENTRIES: Final = 20_000
"""Of a feed, and of what a subscriber has not read yet; more than that becomes one reset.  An event
is one entry, and one for each item of the lists and dicts in its data."""
LINGER_S: Final = 120.0


def points_of(batch: Batch) -> dict[str, object]:
    """The data of a ``points`` event: for each key the number of points that the batch has of it,
    and the last of them in the order of the series (not the one written last)."""
    found: dict[str, tuple[int, Position, float]] = {}
    steps, timestamps = np.frombuffer(batch.steps, INT64), np.frombuffer(batch.timestamps, INT64)
    points = Points(steps, timestamps, canonical(np.frombuffer(batch.values, FLOAT64)))
    end = 0
    for key, count in zip(batch.keys, batch.counts, strict=True):
        start, end = end, end + count
        if not count:
            continue
        row = start + _last(points[start:end])
        position, value = points.position(row), float(points.values[row])
        if key in found:
            before = found[key]
            count += before[0]
            if before[1] > position:
                _, position, value = before
        found[key] = (count, position, value)
    series = [
        {
            "key": key,
            "count": count,
            "last": {"step": last.step, "timestamp": last.timestamp, "value": value},
        }
        for key, (count, last, value) in found.items()
    ]
    return {"series": series}


def _last(points: Points) -> int:
    """The row of the greatest point."""
    if len(points) == 1:
        return 0
    order = np.lexsort((to_ordered(points.values), points.timestamps, points.steps))
    return int(order[-1])


class Events:
    """The events of one tenant.  Numbers start at the Unix time in µs, so they only grow, across
    restarts too, and stay below 2**53."""

    def __init__(self, *, linger_s: float = LINGER_S) -> None:
        self.number = time.time_ns() // 1_000
        self._linger_s = linger_s
        self._feeds: dict[str | None, _Feed] = {}
        self._closed = False

    def watched(self, run_id: str) -> bool:
        """Whether an event of this run would reach or be kept for anybody.

        Where not, ``publish`` may be left out: who comes later is told to fetch.
        """
        if not self._feeds:
            return False
        return run_id in self._feeds or None in self._feeds

    def publish(self, run_id: str, kind: str, data: dict[str, object]) -> int:
        """Push an event to its subscribers; ``data`` must not change afterwards.  Its number."""
        self.number += 1
        if self._feeds:
            event = Event(self.number, run_id, kind, data)
            weight = 1 + sum(len(v) for v in data.values() if isinstance(v, dict | list))
            for name in (run_id, None):
                if feed := self._feeds.get(name):
                    feed.add(event, weight)
        return self.number

    def subscribe(self, run_id: str | None = None, after: int | None = None) -> Subscription:
        """Follow one run, or all with None; ``after`` is the last event's number that was seen.

        Use it as ``async with events.subscribe(...) as subscription: async for event in ...``.
        """
        return Subscription(self, run_id, after)

    def close(self) -> None:
        """End every iterator once it has handed out what it holds; later ones end at once."""
        self._closed = True
        for feed in self._feeds.values():
            feed.keep()
            for subscription in feed.subscribers:
                subscription.end()
        self._feeds.clear()

    @property
    def subscribers(self) -> int:
        return sum(len(feed.subscribers) for feed in self._feeds.values())

    def enter(self, subscription: Subscription, run_id: str | None, after: int | None) -> None:
        if self._closed:
            subscription.end()
            return
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = _Feed(self.number)
        feed.keep()
        if after is not None:
            if feed.floor <= after <= self.number:
                feed.replay(subscription, after)
            else:
                subscription.push(Event(self.number, run_id or "", RESET, {}), 1)
        feed.subscribers.add(subscription)

    def leave(self, subscription: Subscription, run_id: str | None) -> None:
        feed = self._feeds.get(run_id)
        if feed is not None:
            feed.subscribers.discard(subscription)
            if not feed.subscribers:
                loop = asyncio.get_running_loop()
                feed.expiry = loop.call_later(self._linger_s, self._feeds.pop, run_id, None)


class _Feed:
    """Recent events; whoever has seen ``floor`` has missed nothing that is not kept."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.subscribers: set[Subscription] = set()
        self.expiry: asyncio.TimerHandle | None = None
        self._kept: deque[tuple[Event, int]] = deque()
        self._weight = 0

    def add(self, event: Event, weight: int) -> None:
        self._kept.append((event, weight))
        self._weight += weight
        while len(self._kept) > KEPT_EVENTS or self._weight > KEPT_ENTRIES:
            dropped, its_weight = self._kept.popleft()
            self._weight -= its_weight
            self.floor = dropped.number
        for subscription in self.subscribers:
            subscription.push(event, weight)

    def keep(self) -> None:
        """Do not expire."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def replay(self, subscription: Subscription, after: int) -> None:
        for event, weight in self._kept:
            if event.number > after:
                subscription.push(event, weight)


class Subscription:
    """One reader's events, in order.  ``started_at`` is the number when it was entered: what was
    fetched after that, and what comes from here, leave no gap between them."""

    def __init__(self, events: Events, run_id: str | None, after: int | None) -> None:
        self.started_at = events.number
        self._events = events
        self._run_id = run_id
        self._after = after
        self._pending: deque[tuple[Event, int]] = deque()
        self._weight = 0
        self._ended = False
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Subscription:
        self.started_at = self._events.number
        self._events.enter(self, self._run_id, self._after)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._events.leave(self, self._run_id)
        self._pending.clear()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        await self._arrival()
        if not self._pending:
            raise StopAsyncIteration
        event, weight = self._pending.popleft()
        self._weight -= weight
        return event

    async def take(self) -> list[Event]:
        """All that is there, once there is something; nothing at the end.

        Cancelling it loses no event.
        """
        await self._arrival()
        events = [event for event, _ in self._pending]
        self._pending.clear()
        self._weight = 0
        return events

    async def _arrival(self) -> None:
        while not self._pending and not self._ended:
            self._wake.clear()
            await self._wake.wait()

    def push(self, event: Event, weight: int) -> None:
        """Called by the feed.  Too much that nobody reads becomes one reset."""
        if len(self._pending) >= KEPT_EVENTS or self._weight + weight > KEPT_ENTRIES:
            self._pending.clear()
            self._weight = 0
            event, weight = Event(event.number, event.run_id, RESET, {}), 1
        self._weight += weight
        self._pending.append((event, weight))
        self._wake.set()

    def end(self) -> None:
        """No more events; those that are there can still be read."""
        self._ended = True
        self._wake.set()
