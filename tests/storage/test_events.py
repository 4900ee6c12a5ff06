from __future__ import annotations

import asyncio
import math
import random
import struct
import time

import pytest

from stepwell_storage.events import KEPT_ENTRIES, KEPT_EVENTS, Events, Subscription, points_of
from stepwell_storage.records import Batch, Event

RUN, OTHER = "a" * 32, "b" * 32


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


async def now(subscription: Subscription) -> list[Event]:
    """What is there at this moment."""
    try:
        async with asyncio.timeout(0.01):
            return await subscription.take()
    except TimeoutError:
        return []


async def test_no_event_is_missed_or_out_of_order():
    events = Events()
    async with events.subscribe(RUN) as mine, events.subscribe() as all_runs:
        numbers = [
            events.publish(run, "points", {"n": n}) for n in range(5) for run in (RUN, OTHER)
        ]
        assert numbers == sorted(set(numbers))
        got = await now(mine)
        assert [event.data["n"] for event in got] == [0, 1, 2, 3, 4]
        assert {event.run_id for event in got} == {RUN}
        assert [event.number for event in await now(all_runs)] == numbers


async def test_a_subscriber_that_waits_sleeps_on():
    events = Events()
    async with events.subscribe(RUN) as subscription:
        waiting = asyncio.create_task(anext(subscription))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        events.publish(RUN, "tags", {})
        assert (await asyncio.wait_for(waiting, 1)).kind == "tags"


async def test_waiting_with_a_deadline_loses_no_event():
    events = Events()
    async with events.subscribe(RUN) as subscription:
        got: list[Event] = []
        for n in range(200):
            data: dict[str, object] = {"n": n}
            asyncio.get_running_loop().call_later(0.0004, events.publish, RUN, "e", data)
            try:
                async with asyncio.timeout(0.0004):
                    got += await subscription.take()
            except TimeoutError:
                pass
        await asyncio.sleep(0.05)  # a busy machine publishes the last ones late
        while len(got) < 200 and (more := await now(subscription)):
            got += more
        assert [event.data["n"] for event in got] == list(range(200))


async def test_unwatched_runs_cost_something():
    events = Events()
    assert not events.watched(RUN)
    async with events.subscribe(RUN):
        assert events.watched(RUN)
        assert not events.watched(OTHER)
        async with events.subscribe():
            assert events.watched(OTHER)
    assert events.subscribers == 0


@pytest.mark.parametrize("seen", range(6))
async def test_a_reconnect_leaves_no_gap(seen):
    events = Events()
    async with events.subscribe(RUN) as subscription:
        start = subscription.started_at
        numbers = [start] + [events.publish(RUN, "e", {"n": n}) for n in range(3)]
    numbers += [events.publish(RUN, "e", {"n": n}) for n in range(3, 5)]  # nobody is connected
    async with events.subscribe(RUN, after=numbers[seen] if seen < 6 else None) as subscription:
        events.publish(RUN, "e", {"n": 5})
        assert [event.data["n"] for event in await now(subscription)] == list(range(seen, 6))


async def test_a_gap_goes_unnoticed():
    """Each way in which events may have been missed is answered by one reset, and then goes on."""
    events = Events(linger_s=0.01)
    before = events.number
    events.publish(RUN, "e", {})  # nobody watched: not kept
    for after in [before, 0, -1, events.number + 1, 2**63]:
        async with events.subscribe(RUN, after=after) as subscription:
            assert kinds(await now(subscription)) == ["reset"]
            number = events.publish(RUN, "e", {})
            assert [event.number for event in await now(subscription)] == [number]
        await asyncio.sleep(0.03)
        assert not events.watched(RUN)


async def test_a_feed_is_kept_for_ever():
    events = Events(linger_s=0.02)
    async with events.subscribe(RUN):
        pass
    assert events.watched(RUN)
    async with events.subscribe(RUN):
        await asyncio.sleep(0.05)
        assert events.watched(RUN)  # the first one's end does not end the second
    await asyncio.sleep(0.05)
    assert not events.watched(RUN)


async def test_a_slow_subscriber_is_reset_and_fills_no_memory():
    events = Events()
    async with events.subscribe(RUN) as slow, events.subscribe(RUN) as quick:
        for _ in range(KEPT_EVENTS + 10):
            last = events.publish(RUN, "e", {})
            assert kinds(await now_quick(quick)) == ["e"]
        got = await now(slow)
        assert kinds(got) == ["reset"] + ["e"] * 9
        assert got[-1].number == last
        events.publish(RUN, "later", {})
        assert kinds(await now(slow)) == ["later"]


async def now_quick(subscription: Subscription) -> list[Event]:
    return await asyncio.wait_for(subscription.take(), 1)


async def test_wide_events_fill_no_memory():
    """A thousand keys an event: what is kept is bounded in entries, not only in events."""
    events = Events()
    wide: dict[str, object] = {"series": [{}] * 1_000}
    async with events.subscribe(RUN) as slow:
        for _ in range(KEPT_ENTRIES // 1_000 + 5):
            events.publish(RUN, "points", wide)
        got = await now(slow)
        assert got[0].kind == "reset"
        assert len(got) < 10
        dropped = events.number - 22
    async with events.subscribe(RUN, after=dropped) as subscription:
        assert kinds(await now(subscription))[0] == "reset"
    async with events.subscribe(RUN, after=events.number - 3) as subscription:
        assert kinds(await now(subscription)) == ["points"] * 3


async def test_a_closed_server_leaves_no_subscriber_hanging():
    events = Events()
    got: list[Event] = []

    async def follow() -> None:
        async with events.subscribe(RUN) as subscription:
            async for event in subscription:
                got.append(event)

    followers = [asyncio.create_task(follow()) for _ in range(3)]
    await asyncio.sleep(0)
    events.publish(RUN, "last", {})
    events.close()
    await asyncio.wait_for(asyncio.gather(*followers), 1)
    assert kinds(got) == ["last"] * 3
    await asyncio.wait_for(follow(), 1)
    events.publish(RUN, "after the end", {})
    assert not events.watched(RUN)


async def test_a_restarted_server_repeats_numbers():
    first = Events()
    for _ in range(1_000):
        last = first.publish(RUN, "e", {})
    time.sleep(0.002)  # noqa: ASYNC251 - a restart takes longer
    second = Events()
    assert last < second.number < 2**53
    async with second.subscribe(RUN, after=last) as subscription:
        assert kinds(await now(subscription)) == ["reset"]


def batch(*series: tuple[str, list[tuple[int, int, float]]]) -> Batch:
    points = [point for _, some in series for point in some]
    return Batch(
        keys=[key for key, _ in series],
        counts=[len(some) for _, some in series],
        steps=struct.pack(f"<{len(points)}q", *(p[0] for p in points)),
        timestamps=struct.pack(f"<{len(points)}q", *(p[1] for p in points)),
        values=struct.pack(f"<{len(points)}d", *(p[2] for p in points)),
    )


def test_the_last_point_is_the_one_written_last():
    data = points_of(
        batch(
            ("loss", [(5, 1, 0.5), (7, 2, 0.25), (6, 9, 0.75)]),
            ("nan", [(1, 1, math.inf), (1, 1, math.nan), (1, 1, -1.0)]),
            ("time", [(1, 5, 1.0), (1, 4, 2.0)]),
            ("none", []),
            ("loss", [(7, 1, 9.0)]),
        )
    )
    series = {entry["key"]: entry for entry in data["series"]}  # type: ignore[attr-defined]
    assert series["loss"] == {
        "key": "loss", "count": 4, "last": {"step": 7, "timestamp": 2, "value": 0.25},
    }  # fmt: skip
    assert math.isnan(series["nan"]["last"]["value"])
    assert series["time"]["last"] == {"step": 1, "timestamp": 5, "value": 1.0}
    assert set(series) == {"loss", "nan", "time"}


def test_the_last_point_of_a_random_batch_differs_from_a_plain_maximum():
    chance = random.Random(7)
    for _ in range(200):
        series = [
            (
                chance.choice("abc"),
                [
                    (chance.randrange(3), chance.randrange(3), chance.randrange(-2, 3) / 2)
                    for _ in range(chance.randrange(6))
                ],
            )
            for _ in range(4)
        ]
        expected: dict[str, list[tuple[int, int, float]]] = {}
        for key, points in series:
            if points:
                expected.setdefault(key, []).extend(points)
        found = {
            entry["key"]: (entry["count"], tuple(entry["last"].values()))
            for entry in points_of(batch(*series))["series"]  # type: ignore[attr-defined]
        }
        assert found == {key: (len(some), max(some)) for key, some in expected.items()}
