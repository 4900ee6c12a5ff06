"""What is printed reaches the run, in order and once, and the terminal as ever."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell import ExperimentTracker
from stepwell.console import capture
from stepwell.requests import Lines, without
from stepwell.wire import MAX_TEXT_CHARS, ConsoleEntry, ConsoleLine
from tests.sdk.fault_server import Fault, FaultServer


def texts(server: FaultServer, stream: str = "stdout") -> list[str]:
    return [line.text for line in server.only_run().console if line.stream == stream]


def test_both_streams_are_logged_and_still_shown(
    server: FaultServer, tracker: ExperimentTracker, capsys: pytest.CaptureFixture[str]
):
    found = sys.stdout, sys.stderr
    with tracker.start_run() as run:
        capture(run)
        print("epoch 1", 0.5)
        print("in", end=" ")
        print("pieces")
        sys.stderr.write("a warning\nand no end")
        sys.stdout.writelines(["x\n", "\n"])
    print("after the end")
    assert (sys.stdout, sys.stderr) == found
    assert texts(server) == ["epoch 1 0.5", "in pieces", "x", ""]
    assert texts(server, "stderr") == ["a warning", "and no end"]
    assert capsys.readouterr() == (
        "epoch 1 0.5\nin pieces\nx\n\nafter the end\n", "a warning\nand no end"
    )  # fmt: skip


def test_a_block_ends_it_and_two_runs_may_listen(server: FaultServer, tracker: ExperimentTracker):
    found = sys.stdout
    first, second = tracker.start_run(), tracker.start_run()
    with capture(first), capture(second):
        print("both")
    print("nobody")
    with capture(first):
        print("one")
    assert sys.stdout is found
    assert first.end()
    assert second.end()
    assert [line.text for line in server.runs[first.run_id].console] == ["both", "one"]
    assert [line.text for line in server.runs[second.run_id].console] == ["both"]


def test_whoever_took_the_stream_over_keeps_it(server: FaultServer, tracker: ExperimentTracker):
    found = sys.stdout
    with tracker.start_run() as run:
        capture(run)
        inner = sys.stdout
        sys.stdout = found
    assert sys.stdout is found
    inner.write("late\n")
    assert run.flush()
    assert texts(server) == []


def test_a_progress_bar_is_its_last_state_and_odd_characters_arrive(
    server: FaultServer, tracker: ExperimentTracker
):
    with tracker.start_run() as run, capture(run) as console:
        for percent in range(0, 101, 10):
            console.take("stderr", f"\r{percent}%|##########|")
        console.take("stderr", "\nwindows\r\n")
        console.take("stderr", "nul \0, lone \ud800, \x1b[1mbold\x1b[0m\n")
        console.take("stderr", "x" * (MAX_TEXT_CHARS + 5) + "\n")
    assert texts(server, "stderr") == [
        "100%|##########|", "windows", "nul \ufffd, lone ?, \x1b[1mbold\x1b[0m",
        "x" * MAX_TEXT_CHARS, "xxxxx",
    ]  # fmt: skip


def test_lines_of_threads_stay_whole(server: FaultServer, tracker: ExperimentTracker):
    with tracker.start_run() as run, capture(run) as console:

        def work(name: str) -> None:
            for number in range(500):
                console.take("stdout", f"{name} ")
                console.take("stdout", f"{number}\n")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in "abcd":
        mine = [text for text in texts(server) if text.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(500)]


@pytest.mark.parametrize("kind", ["reply lost", "half a reply", "reset"])
def test_a_lost_reply_puts_no_line_there_twice(
    kind: str, server: FaultServer, tracker: ExperimentTracker
):
    with tracker.start_run() as run, capture(run):
        server.faults = [Fault(kind, times=2, path="/console")]
        for number in range(100):
            print(number % 3)  # equal lines within a millisecond are many
        assert run.flush(timeout_s=20)
        print("more")
    assert server.faults[0].met == 2
    assert texts(server) == [*(str(number % 3) for number in range(100)), "more"]


def test_lines_of_a_dead_process_are_there_once(
    server: FaultServer, spool_dir: Path, settings: Callable[..., None]
):
    """It was killed after the server had committed, and before it heard so."""
    settings(url=server.url, console=1)
    server.faults = [Fault("reply lost", times=1, path="/console")]
    script = """
    import os, time
    from stepwell import ExperimentTracker
    run = ExperimentTracker().start_run("exp")
    for number in range(50):
        print("line", number)
    time.sleep(0.4)
    print("the last")
    time.sleep(0.3)
    os._exit(1)
    """
    body = "\n".join(line.strip() for line in script.splitlines() if line).replace(
        'print("line', '    print("line'
    )
    subprocess.run([sys.executable, "-c", body], capture_output=True, timeout=60)
    from stepwell.sync import main

    assert main([str(spool_dir)]) == 0
    assert texts(server) == [*(f"line {number}" for number in range(50)), "the last"]


def test_what_is_missing_begins_where_the_console_ends():
    def entries(*texts: str) -> list[ConsoleEntry]:
        return [ConsoleEntry(number, "stdout", 5, text) for number, text in enumerate(texts)]

    part = Lines([ConsoleLine("stdout", 5, text) for text in "abc"])
    assert without(part, []) == part
    assert without(part, entries("x", "y")) == part
    assert without(part, entries("x", "a", "b", "c")).lines == []
    assert without(part, entries("a", "b", "z")).lines == part.lines[2:]
    assert without(part, entries("a", "x", "a", "b", "c", "z")).lines == []


def test_one_refused_line_does_not_take_the_others_along(
    server: FaultServer, tracker: ExperimentTracker
):
    server.refuse = lambda kind, _, text: (422, "no") if kind == "line" and text == "13" else None
    with tracker.start_run() as run, capture(run):
        for number in range(40):
            print(number)
    assert texts(server) == [str(number) for number in range(40) if number != 13]


def test_the_environment_asks_for_it_and_a_forked_child_is_not_heard(
    server: FaultServer, settings: Callable[..., None]
):
    settings(url=server.url, console=1, rank=3)
    script = """if True:
    import os
    from stepwell import ExperimentTracker
    run = ExperimentTracker().start_run("exp")
    print("parent", flush=True)
    if os.fork() == 0:
        print("child", flush=True)
        os._exit(0)
    os.wait()
    raise ValueError("the end")
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "parent\nchild\n"
    assert texts(server) == ["[3] parent"]
    assert texts(server, "stderr")[-1] == "[3] ValueError: the end"
    assert "Traceback" in done.stderr
