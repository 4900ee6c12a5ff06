"""Our threads let the training go first."""

from __future__ import annotations

import os
import threading
import time

import pytest

from stepwell import courtesy
from stepwell.courtesy import give_way, writers


def test_a_stretch_begins_when_the_buffer_is_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(courtesy, "MAX_PAUSES", 1_000_000)
    writer = object()
    writers.add(writer)
    thread = threading.Thread(target=give_way)
    thread.start()
    time.sleep(0.05)
    assert thread.is_alive()
    writers.discard(writer)
    thread.join(30)
    assert not thread.is_alive()


def test_a_disk_that_hangs_does_not_hold_the_sending():
    writer = object()
    writers.add(writer)
    thread = threading.Thread(target=give_way)
    try:
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        writers.discard(writer)


def test_the_main_thread_gives_way_to_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(courtesy, "MAX_PAUSES", 1_000_000)
    writer = object()
    writers.add(writer)
    try:
        give_way()  # else for ever
    finally:
        writers.discard(writer)


def test_a_forked_child_waits_for_no_writer_of_its_parent():
    writer = object()
    writers.add(writer)
    try:
        child = os.fork()
        if not child:
            os._exit(len(courtesy.writers))
        _, status = os.waitpid(child, 0)
    finally:
        writers.discard(writer)
    assert os.waitstatus_to_exitcode(status) == 0
