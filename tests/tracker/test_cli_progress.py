"""Progress: a bar for a person, few lines for a log, nothing on stdout."""

import io

import pytest

from stepwell_tracker.cli_progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def walk(stream: io.StringIO, seconds: int, total: int | None) -> str:
    clock = Clock()
    with Progress("checking", total, stream=stream, clock=clock) as progress:
        for _ in range(seconds * 10):
            clock.now += 0.1
            progress.advance("runs")
    return stream.getvalue()


def test_a_log_file_gets_one_line_every_ten_seconds():
    lines = walk(io.StringIO(), 35, 350).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("checking: 10")
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_a_short_job_writes_nothing_to_a_log():
    assert walk(io.StringIO(), 5, 50) == ""


@pytest.mark.parametrize("total", [None, 100])
def test_a_terminal_is_left_as_it_was(total: int | None):
    written = walk(Terminal(), 10, total)
    assert "\n" not in written
    assert written.endswith("\r\x1b[K")
    assert written.count("checking") > 50


def test_a_total_that_was_too_small_never_shows_more_than_all():
    clock = Clock()
    stream = Terminal()
    progress = Progress("checking", 1, stream=stream, clock=clock)
    clock.now = 1.0
    progress.advance(count=5)
    assert "100%" in stream.getvalue()


def test_nothing_to_do_is_no_division_by_zero():
    clock = Clock()
    stream = Terminal()
    clock.now = 0.0
    progress = Progress("checking", 0, stream=stream, clock=clock)
    clock.now = 1.0
    progress.advance(count=0)
    assert "0 of 0" in stream.getvalue()
