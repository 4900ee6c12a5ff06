"""What the client tells a person: one line each on the logger ``stepwell``, never twice.

Not ``warnings``: they become exceptions where somebody asked for that.
"""

from __future__ import annotations

import contextlib

from stepwell.errors import WrongUse


class Notices:
    """Counts what happened and says it once; ``strict`` raises the caller's mistakes instead."""

    def __init__(self, about: str, *, strict: bool) -> None:
        self._about = about
        self._strict = strict
        self._said: set[str] = set()
        self._outage = False
        self.wrong_uses = 0

    def wrong(self, error: WrongUse) -> None:
        """The caller's mistake; only the first one of its kind is said, all are counted."""
        if self._strict:
            raise error
        self.wrong_uses += 1
        self.once(f"wrong {error.kind}", "%s; it is dropped, and so will be others like it", error)

    def once(self, topic: str, text: str, *values: object) -> None:
        if topic not in self._said:
            self._said.add(topic)
            self.say("warning", text, *values)

    def outage(self, reason: str, waiting: int, where: str) -> None:
        """One line an outage, however long it lasts."""
        if not self._outage:
            self._outage = True
            what = "1 item waits" if waiting == 1 else f"{waiting:,} items wait"
            text = "%s. Training goes on; %s in %s until it works again"
            self.say("warning", text, reason, what, where)

    def recovered(self) -> None:
        if self._outage:
            self._outage = False
            self.say("info", "the server answers again")

    def say(self, level: str, text: str, *values: object) -> None:
        with contextlib.suppress(Exception):  # a handler of the application's may do anything
            import logging  # a slow import, for something that happens seldom

            log = getattr(logging.getLogger("stepwell"), level)
            line = " ".join((text % values).split())  # what a server says may have any shape
            log("stepwell: %s: %s", self._about, line)
