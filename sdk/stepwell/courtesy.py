"""How a thread of ours shares the interpreter with the training's: they go first.

CPython takes the interpreter from a thread only after a switch interval of 5 ms, and one that lets
go for a system call mostly has it back before another one is awake.  So whoever works beside the
training does it in stretches that are short, and sleeps between them.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

PAUSE_S: Final = 0.0001
"""Not 0, after which this thread may well be quicker than the one that waits."""
MAX_PAUSES: Final = 20
"""A disk that hangs holds up those who write to it, not the sending."""

writers: Final[set[object]] = set()
"""Whoever writes a buffer to the disk just now: a call of the training's waits for that."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=writers.clear)


def give_way() -> None:
    """Between two stretches: let others have the interpreter, and no call wait for us twice.

    The main thread, which reads or runs ``stepwell sync``, works for itself and gives way to none.
    """
    if threading.current_thread() is threading.main_thread():
        return
    time.sleep(PAUSE_S)
    for _ in range(MAX_PAUSES):
        if not writers:
            break
        time.sleep(PAUSE_S)
