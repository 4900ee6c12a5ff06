"""``stepwell sync``: send what processes that are gone could not."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Final, TextIO

import msgspec

from stepwell import config as settings
from stepwell.config import Config
from stepwell.delivery import Delivery, Trouble
from stepwell.folders import bytes_of, folders, is_spool, remove_remnant
from stepwell.sender import Backoff
from stepwell.spool import Spool
from stepwell.transport import HttpTransport, Transport

DONE, UNSENT, WRONG_USE, REFUSED = 0, 1, 2, 3
BAR_CHARS: Final = 30
EPILOG: Final = """exit codes:
  0  nothing is left
  1  something could not be sent, or belongs to a process that still runs; run it again later
  3  the server refused something for good; it is kept in DIR/refused, with the reasons

Interrupting it and repeating it is harmless.  The token is taken from STEPWELL_TOKEN,
the spool from STEPWELL_SPOOL_DIR where DIR is not given.

example:
  stepwell sync --url http://127.0.0.1:7837"""


def main(argv: list[str]) -> int:
    """Send every spool of a folder; returns the exit code."""
    options = _parser().parse_args(argv)
    arguments: dict[str, object] = {"url": options.url, "spool_dir": options.dir, "mode": "online"}
    config, wrong = settings.load(arguments, os.environ)
    url_is_given = bool(options.url or os.environ.get("STEPWELL_URL"))
    for text in wrong:
        _say(text)
    if wrong:
        return WRONG_USE
    place = config.spool_dir
    try:
        found = _spools(place)
    except FileNotFoundError:
        found = []
        if options.dir:  # nothing is left there, but is that meant?
            _say(f"there is no folder {place}")
    except OSError as error:
        _say(f"{place}: {error.strerror}")
        return UNSENT
    sync = Sync(config, config.url if url_is_given else None, options.wait, found)
    for folder in found:
        sync.send(folder)
    sync.bar.clear()
    _say(sync.summary())
    return sync.exit_code


class Bar:
    """How far it is, in bytes: a bar on a terminal, else a line every 10 s.  On stderr."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = max(1, total)
        self._stream = stream
        self._terminal = stream.isatty()
        self._shown = time.monotonic()

    def show(self, left: int, what: str) -> None:
        now = time.monotonic()
        if now - self._shown < (0.1 if self._terminal else 10.0):
            return
        self._shown = now
        share = 1 - min(left, self._total) / self._total
        text = f"{share:4.0%} of {self._total / 1e6:,.1f} MB  {what}"
        if not self._terminal:
            self._stream.write(f"{text}\n")
        else:
            full = "#" * round(share * BAR_CHARS)
            self._stream.write(f"\r[{full:{BAR_CHARS}}] {text}\x1b[K")
        self._stream.flush()

    def clear(self) -> None:
        if self._terminal:
            self._stream.write("\r\x1b[K")


class Sync:
    """Sends spools one after the other, each to ``url`` or else to where it was meant to go."""

    def __init__(self, config: Config, url: str | None, wait_s: float, found: list[Path]) -> None:
        self._config = config
        place = config.spool_dir
        self._refused_dir = (place.parent if is_spool(place) else place) / "refused"
        self._url = url
        self._wait_s = wait_s
        self._transports: dict[str, Transport] = {}
        self._given_up: set[str] = set()
        self._left = sum(map(bytes_of, found))
        self.sent = self.unsent = self.refused = 0
        self.bar = Bar(self._left, sys.stderr)

    @property
    def exit_code(self) -> int:
        return REFUSED if self.refused else UNSENT if self.unsent else DONE

    def summary(self) -> str:
        text = f"{self.sent} runs sent"
        if self.unsent:
            text += f", {self.unsent} could not be sent"
        if self.refused:
            text += f", {self.refused:,} items refused (see {self._refused_dir})"
        return text

    def send(self, folder: Path) -> None:
        """One spool, whole or as far as it goes."""
        size = bytes_of(folder)
        try:
            spool = Spool.adopt(folder, self._config)
        except OSError as error:
            if not remove_remnant(folder):
                self.fail(folder, str(error))
            return
        if spool is None:
            self.fail(folder, "a running process has it, or a newer client wrote it")
            return
        try:
            self._deliver(spool)
        finally:
            spool.close()
            self._left -= size

    def _deliver(self, spool: Spool) -> None:
        url = self._url or spool.head.url
        if not spool.has_more():
            return
        if not url:
            self.fail(spool.folder, "no server was named for it; say which one by --url")
            return
        delivery = Delivery(spool, self._transport(url), self._tell)
        start = spool.unsent_bytes
        backoff = Backoff()
        patience = time.monotonic() + (0.0 if url in self._given_up else self._wait_s)
        while True:
            try:
                if not delivery.step(haste=True):
                    break
                backoff.reset()
                patience = time.monotonic() + self._wait_s
                left = self._left - (start - spool.unsent_bytes)
                self.bar.show(left, f"run {spool.head.run_id}")
            except Trouble as trouble:
                pause = max(trouble.after_s, backoff.next_s())
                if trouble.smaller:
                    patience = max(patience, time.monotonic() + self._wait_s)
                if trouble.refused or time.monotonic() + pause > patience:
                    if not trouble.refused:
                        self._given_up.add(url)
                    self.fail(spool.folder, str(trouble))
                    self.refused += delivery.refused + trouble.refused
                    return
                time.sleep(pause)
        self.sent += 1
        self.refused += delivery.refused

    def _transport(self, url: str) -> Transport:
        if url not in self._transports:
            config = msgspec.structs.replace(self._config, url=url)
            self._transports[url] = HttpTransport(config)
        return self._transports[url]

    def fail(self, folder: Path | None, reason: str) -> None:
        self.unsent += 1
        self._tell(f"{folder}: {reason}")

    def _tell(self, text: str) -> None:
        self.bar.clear()
        _say(text)


def _spools(place: Path) -> list[Path]:
    """Those in a folder, or itself where it is one: that is what a warning names.  Raises OSError
    where it cannot be read.
    """
    with os.scandir(place):
        return [place] if is_spool(place) else folders(place)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stepwell sync",
        description="Send what earlier runs of this machine could not.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("dir", metavar="DIR", nargs="?", help="the spool, or one run's part")
    parser.add_argument("--url", help="the server (STEPWELL_URL, else where it was meant to go)")
    parser.add_argument(
        "--wait", type=float, default=10.0, metavar="SECONDS",
        help="how long to go on trying while nothing gets through (10)",
    )  # fmt: skip
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"stepwell sync: {text}\n")
