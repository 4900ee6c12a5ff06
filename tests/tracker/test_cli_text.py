"""What terminals are shown: names that come from anyone, values of every kind."""

import io
import math
import sys

import pytest

from stepwell.wire import Value, to_value
from stepwell_tracker.cli_text import (
    PLAIN_BLOCKS,
    clean,
    duration,
    moment,
    number,
    size,
    sparkline,
    table,
)
from stepwell_tracker.schema import Point


def points(*values: float) -> list[Point]:
    return [Point(step, 0, to_value(value)) for step, value in enumerate(values)]


def test_a_name_with_escape_sequences_cannot_command_the_terminal():
    assert "\x1b" not in clean("\x1b]0;owned\x07name\nrun")
    assert clean("naïve 模型") == "naïve 模型"


def test_a_table_cleans_its_cells_and_keeps_its_columns():
    text = table(["NAME", "N"], [["a\x1b[2J", "1"], ["longer", "10"]], "<>")
    assert text.splitlines() == ["NAME     N", "a\ufffd[2J    1", "longer  10"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1 + 0.2, "0.3"), ("NaN", "nan"), ("-Infinity", "-inf"), (None, "-"), (1e-9, "1e-09")],
)
def test_numbers_of_every_kind(value: Value | None, text: str):
    assert number(value) == text


def test_a_time_beyond_the_calendar_is_not_an_error():
    assert moment(2**63 - 1) == "9223372036854775807 ms"
    assert moment(1_707_723_600_000)[:8] == "2024-02-"


def test_durations_and_sizes_at_their_edges():
    assert [duration(s) for s in (None, 0.04, 59.94, 61, 3599.6, 90_000)] == [
        "-", "0.0s", "59.9s", "1m01s", "1h00m", "25h00m",
    ]  # fmt: skip
    assert [size(b) for b in (None, 0, 1023, 1024, 5 * 1024**5)] == [
        "-", "0 B", "1023 B", "1.0 KiB", "5120.0 TiB",
    ]  # fmt: skip


@pytest.fixture
def utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))


@pytest.mark.usefixtures("utf8")
def test_a_sparkline_has_the_shape_of_the_series():
    assert sparkline(points(*range(8)), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline(points(3, 3, 3), 8) == "▁▁▁"
    assert sparkline([], 8) == ""


@pytest.mark.usefixtures("utf8")
def test_a_sparkline_leaves_gaps_where_nothing_finite_is():
    assert sparkline(points(0, math.nan, 7), 8) == "▁ █"
    assert sparkline(points(math.nan, math.inf), 8) == ""
    assert len(sparkline([Point(0, 0, 1e308), Point(9, 0, -1e308)], 4)) == 4


@pytest.mark.usefixtures("utf8")
def test_a_sparkline_of_steps_at_the_ends_of_int64():
    far = [Point(-(2**63), 0, 0.0), Point(2**63 - 1, 0, 1.0)]
    assert sparkline(far, 4) == "▁  █"


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert sparkline(points(*range(8)), 8) == PLAIN_BLOCKS
