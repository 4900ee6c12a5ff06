"""The buffer: whatever interrupts a call, a row is in it whole or not at all, and never lost."""

import math
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from stepwell import buffer as module
from stepwell.buffer import Buffer, RunMetrics
from stepwell.errors import WrongUse
from stepwell.records import Params, Points, Tags, parse
from stepwell.requests import columns


class Sink:
    """Takes frames and turns them back into (key, step, timestamp, bits of the value)."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, frames: list[bytes], items: int, essential: bool) -> bool:
        self.data += b"".join(frames)
        return True

    def rows(self) -> list[tuple[str, int, int, bytes]]:
        records = parse(self.data).records
        return [
            (series.key, step, stamp, series.values[at * 8 : at * 8 + 8])
            for series in columns([r for r in records if isinstance(r, Points)])
            for at, (step, stamp) in enumerate(
                zip(memoryview(series.steps).cast("q"), memoryview(series.timestamps).cast("q"),
                    strict=True)
            )
        ]  # fmt: skip

    def values(self, key: str) -> list[tuple[int, float]]:
        rows = [
            (step, struct.unpack("<d", bits)[0]) for k, step, _, bits in self.rows() if k == key
        ]
        return sorted(rows, key=lambda row: row[0])


def make(
    room: int = 10_000, wrong: Callable[[WrongUse], None] = lambda error: None
) -> tuple[Buffer, Sink]:
    sink = Sink()
    buffer = Buffer(room, lambda: buffer.drain(sink), wrong)
    return buffer, sink


VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**60), 2**60),
    st.booleans(),
    st.floats(width=32).map(np.float32),
    st.integers(-100, 100).map(np.int64),
)
CALLS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "b", "c", "train/loss", "ü"]), VALUES, max_size=4),
        st.one_of(st.none(), st.integers(-(2**63), 2**62)),
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        st.booleans(),
    ),
    max_size=40,
)


@given(CALLS, st.integers(1, 20))
def test_what_is_drained_is_what_was_logged(calls: list[Any], room: int):
    buffer, sink = make(room)
    expected: list[tuple[str, int, int, bytes]] = []
    steps = [-1]
    for metrics, step, stamp, drain in calls:
        at = max(steps) + 1 if step is None else step
        buffer.add(metrics, step, 5 if stamp is None else stamp)
        if metrics:
            steps = [at] if not expected else [*steps, at]
        for key, value in metrics.items():
            bits = struct.pack("<d", float(value))
            expected.append((key, at, 5 if stamp is None else stamp, bits))
        if drain:
            buffer.drain(sink)
    assert buffer.points < max(room, 1)
    buffer.drain(sink)
    assert sorted(sink.rows()) == sorted(expected)
    assert buffer.points == 0


def test_a_dict_changed_after_the_call_changes_nothing():
    buffer, sink = make()
    metrics, array = {"loss": 1.0}, np.array(2.0)
    buffer.add(metrics, 0)
    metrics["loss"] = 9.0
    metrics["more"] = 9.0
    buffer.add({"loss": array}, 1)
    array[...] = 9.0
    buffer.drain(sink)
    assert sink.values("loss") == [(0, 1.0), (1, 2.0)]
    assert sink.values("more") == []


@pytest.mark.parametrize(
    "value", [np.float16(0.5), np.array(0.5), Decimal("0.5"), Fraction(1, 2)], ids=repr
)
@pytest.mark.parametrize("known", [False, True], ids=["new key", "known key"])
def test_anything_with_float_is_a_number(value: Any, *, known: bool):
    buffer, sink = make()
    if known:
        buffer.add({"loss": 1.0}, 0)
    buffer.add({"loss": value}, 1)
    buffer.drain(sink)
    assert sink.values("loss")[-1] == (1, 0.5)


class Hostile:
    def __float__(self) -> float:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    ["1.5", b"1", None, [], {}, 1j, Hostile(), 10**400, np.arange(3)],
    ids=["text", "bytes", "None", "list", "dict", "complex", "hostile", "huge", "array"],
)
@pytest.mark.parametrize("known", [False, True], ids=["new key", "known key"])
def test_what_is_no_number_is_told_and_the_rest_is_kept(value: Any, *, known: bool):
    said: list[WrongUse] = []
    buffer, sink = make(wrong=said.append)
    if known:
        buffer.add({"good": 1.0, "bad": 1.0}, 0)
    buffer.add({"good": 2.0, "bad": value})
    buffer.drain(sink)
    assert sink.values("good")[-1] == (1 if known else 0, 2.0)
    assert len(sink.values("bad")) == (1 if known else 0)
    assert len(said) == 1
    assert "bad" in str(said[0])


def test_a_call_that_logs_nothing_takes_no_step():
    buffer, sink = make()
    buffer.add({"loss": 1.0})
    buffer.add({"loss": "text"})
    buffer.add({})
    buffer.add({"loss": 2.0})
    buffer.drain(sink)
    assert sink.values("loss") == [(0, 1.0), (1, 2.0)]


def test_nan_and_infinities_keep_their_bits():
    buffer, sink = make()
    for step, value in enumerate([math.nan, math.inf, -math.inf, -0.0, 5e-324]):
        buffer.add({"x": value}, step)
    buffer.drain(sink)
    bits = [bits for *_, bits in sorted(sink.rows(), key=lambda row: row[1])]
    expected = [math.nan, math.inf, -math.inf, -0.0, 5e-324]
    assert bits == [struct.pack("<d", value) for value in expected]


def test_the_last_step_of_all_has_no_step_after_it():
    said: list[WrongUse] = []
    buffer, _ = make(wrong=said.append)
    buffer.add({"x": 1.0}, 2**63 - 1)
    buffer.add({"x": 1.0})
    assert len(said) == 1
    assert "int64" in str(said[0])


def test_keys_that_change_all_the_time_are_kept_and_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "MAX_SHAPES", 4)
    buffer, sink = make()
    for step in range(100):
        buffer.add({f"k{step}": 1.0, "all": step}, step)
    buffer.drain(sink)
    assert len(buffer._shapes) == 4
    assert sink.values("all") == [(step, float(step)) for step in range(100)]


def log_many(buffer: Buffer, count: int) -> None:
    for _ in range(count):
        buffer.add({"x": 1.0})


def test_threads_that_take_the_next_step_never_share_one():
    buffer, sink = make(room=500)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        work = [threading.Thread(target=log_many, args=(buffer, 3_000)) for _ in range(4)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    buffer.drain(sink)
    assert len(sink.values("x")) == 12_000
    assert [step for step, _ in sink.values("x")] == list(range(12_000))


def interrupted_at(event: int, action: Callable[[], Any]) -> bool:
    """Run ``action`` with a KeyboardInterrupt at the n-th line of the buffer's own code."""
    left = event

    def trace(frame: FrameType, kind: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != module.__file__:
            return None
        if kind == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def lines() -> Iterator[int]:
    yield from range(1, 200)


def test_an_interrupt_at_any_line_of_a_drain_loses_nothing():
    for line in lines():
        buffer, sink = make()
        for step in range(10):
            buffer.add({"a": step, "b": -step}, step, timestamp=0)
        buffer.put(Params({"p": "1"}))
        interrupted = interrupted_at(line, partial(buffer.drain, sink))
        assert buffer.lock.acquire(timeout=1)
        buffer.lock.release()
        buffer.add({"a": 10}, 10, timestamp=0)
        buffer.drain(sink)
        assert set(sink.values("a")) == {(step, float(step)) for step in range(11)}
        assert set(sink.values("b")) == {(step, float(-step)) for step in range(10)}
        assert Params({"p": "1"}) in parse(sink.data).records
        assert (buffer.points, buffer.pending) == (0, 0)
        if not interrupted:
            break
    else:
        pytest.fail("the drain has more lines than were tried")


def test_an_interrupt_at_any_line_of_a_call_leaves_whole_rows():
    for line in lines():
        buffer, sink = make()
        buffer.add({"a": 0.0, "b": 0.0}, 0, timestamp=0)
        interrupted = interrupted_at(
            line, partial(buffer.add, {"a": 1.0, "b": 1.0}, 1, timestamp=0)
        )
        buffer.add({"a": 2.0, "b": 2.0}, 2, timestamp=0)
        buffer.drain(sink)
        assert sink.values("a") == sink.values("b")
        assert [row for row in sink.values("a") if row[0] != 1] == [(0, 0.0), (2, 2.0)]
        assert buffer.points == 0
        if not interrupted:
            break
    else:
        pytest.fail("the call has more lines than were tried")


def test_a_write_that_hangs_holds_up_one_caller_once():
    """A network disk that stalls: calls go on, and what no drain has taken is bounded."""
    stuck, go_on = threading.Event(), threading.Event()

    def write(frames: list[bytes], items: int, essential: bool) -> bool:
        stuck.set()
        return go_on.wait(10)

    buffer = Buffer(10, lambda: buffer.drain(write), lambda text: None)
    for step in range(9):
        buffer.add({"x": step}, step)
    drainer = threading.Thread(target=buffer.drain, args=(write,))
    drainer.start()
    assert stuck.wait(5)
    for step in range(9, 1_000):
        buffer.add({"x": step}, step)
    assert buffer.pending == 1_000
    assert buffer.shed() == 991
    go_on.set()
    drainer.join()
    sink = Sink()
    buffer.add({"x": 1.0}, 1_000)
    assert buffer.drain(sink)
    assert sink.values("x") == [(1_000, 1.0)]


def test_texts_keep_their_order():
    buffer, sink = make()
    buffer.put(Tags({"a": "1"}))
    buffer.put(Tags({"a": "2"}))
    buffer.drain(sink)
    assert parse(sink.data).records == [Tags({"a": "1"}), Tags({"a": "2"})]


def test_run_metrics_are_frozen():
    with pytest.raises(AttributeError):
        RunMetrics({"a": 1.0}).step = 5  # type: ignore[misc]


def test_a_handler_that_logs_and_drains_on_top_of_a_drain_loses_nothing():
    """SLURM's SIGUSR1, say: its handler logs, flushes and lets the training go on."""
    buffer, sink = make(room=20)
    handled: list[bool] = []

    def write(frames: list[bytes], items: int, essential: bool) -> bool:
        if not handled:
            for step in range(10, 50):
                buffer.add({"x": step, "y": step}, step)  # full again and again
            buffer.put(Tags({"signal": "USR1"}))
            handled.append(buffer.drain(sink))
            assert buffer.is_busy_here
        return sink(frames, items, essential)

    for step in range(9):
        buffer.add({"x": step, "y": step}, step)
    assert buffer.drain(write)
    assert handled == [False]
    assert not buffer.is_busy_here
    buffer.add({"x": 50, "y": 50}, 50)
    assert buffer.drain(sink)
    expected = [(step, float(step)) for step in [*range(9), *range(10, 51)]]
    assert sink.values("x") == sink.values("y") == expected
    assert Tags({"signal": "USR1"}) in parse(sink.data).records


def test_the_step_after_a_negative_one_is_one_more():
    buffer, sink = make()
    buffer.add({"a": 0.0}, -7)
    buffer.add({"a": 1.0})
    buffer.add({"b": 2.0})
    buffer.drain(sink)
    assert sink.values("a") == [(-7, 0.0), (-6, 1.0)]
    assert sink.values("b") == [(-5, 2.0)]


def test_a_wrong_value_takes_no_step_from_another_thread():
    """Whoever failed gives its step back, but not after somebody else went on."""
    buffer, sink = make()
    buffer.add({"a": 0.0}, 0)

    class Slow:
        def __float__(self) -> float:
            buffer.add({"a": 1.0})
            raise ValueError("no number")

    buffer.add({"a": Slow()})
    buffer.add({"a": 2.0})
    buffer.drain(sink)
    assert len({step for step, _ in sink.values("a")}) == len(sink.values("a"))
