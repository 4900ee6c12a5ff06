"""Every setting of the client: arguments first, then ``STEPWELL_*``, then defaults."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from stepwell.wire import DEFAULT_PORT, DEFAULT_TENANT

MODES: Final = ("online", "offline", "disabled")
MAX_WHOLE: Final = 2**63 - 1
MAX_S: Final = 1e9
"""Thirty years; much longer is more than the system's own waiting takes."""


class Config(Struct, frozen=True):
    """What one tracker works with.  Units are in the names."""

    url: str = f"http://127.0.0.1:{DEFAULT_PORT}"
    tenant: str = DEFAULT_TENANT
    token: str | None = None
    mode: str = "online"
    spool_dir: Path = Path()
    exit_timeout_s: float = 10.0
    experiment: str | None = None
    run_id: str | None = None
    rank: int | None = None
    strict: bool = False
    console: bool = False
    system_s: float = 0.0
    buffer_points: int = 10_000
    buffer_age_ms: int = 500
    spool_bytes: int = 8 * 1024**3
    memory_bytes: int = 64 * 1024**2
    artifact_copy_bytes: int = 8 * 1024**2
    request_bytes: int = 512 * 1024
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    heartbeat_s: float = 30.0

    def __repr__(self) -> str:
        """Without the token: a repr ends up in logs and tracebacks."""
        return f"Config(url={self.url!r}, tenant={self.tenant!r}, mode={self.mode!r})"

    def for_pickling(self) -> Config:
        """Without the token, but for a child process: a pickle may end up in a checkpoint."""
        context = sys.modules.get("multiprocessing.context")
        if context is not None and context.get_spawning_popen() is not None:
            return self
        return replace(self, token=None)

    def with_token(self) -> Config:
        """With the environment's token, where a pickle has lost it."""
        return self if self.token else replace(self, token=load({}, os.environ)[0].token)


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("below 0")
    if number > MAX_WHOLE:
        raise ValueError("too large")
    return number


def _millis(text: str) -> int:
    number = _whole(text)
    if number > MAX_S * 1000:
        raise ValueError("not a time")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not (isfinite(number) and 0 <= number <= MAX_S):
        raise ValueError("not a time")
    return number


def _patience(text: str) -> float:
    number = _seconds(text)
    if not number:
        raise ValueError("nobody answers in no time")
    return number


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True}
    known |= {"0": False, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise ValueError("neither 1 nor 0")
    return known[text.lower()]


def _mode(text: str) -> str:
    if text.lower() not in MODES:
        raise ValueError(f"none of {', '.join(MODES)}")
    return text.lower()


def _url(text: str) -> str:
    place = urlsplit(text if "://" in text else f"http://{text}")
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ValueError("not an http or https address")
    if "@" in place.netloc:
        raise ValueError("an address has no password in it; use STEPWELL_TOKEN")
    if place.query or place.fragment or " " in place.netloc:
        raise ValueError("an address has a host, a port and a path")
    _ = place.port  # raises where it is none
    return f"{place.scheme}://{place.netloc.lower()}{place.path.rstrip('/')}"


def _url_instead(text: str) -> str:
    """What stands for an address that is none: itself without its password, else no address.

    Never the default: that may be somebody else's server.
    """
    start, at, host = text.rpartition("@")
    with suppress(ValueError):
        return _url(f"{start.partition('://')[0]}://{host}") if at and "://" in start else ""
    return ""


def _token(text: str) -> str:
    """As a file or a secret's volume gives it, with the end of its line."""
    token = text.strip()
    if not (token.isascii() and token.isprintable()):
        raise ValueError("a token has no such characters")
    return token


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


class Setting(NamedTuple):
    """One row of the table: ``STEPWELL_<NAME>`` and what it means."""

    name: str
    parse: Callable[[str], object]
    meaning: str

    @property
    def variable(self) -> str:
        return f"STEPWELL_{self.name.upper()}"


SETTINGS: Final = (
    Setting("url", _url, "the server"),
    Setting("tenant", str, "whose data it is"),
    Setting("token", _token, "sent as a bearer token"),
    Setting("mode", _mode, "`online`, `offline` (spool only) or `disabled` (nothing at all)"),
    Setting("spool_dir", _folder, "where the spool lies"),
    Setting("exit_timeout_s", _seconds, "how long the end of a run or of the process may wait"),
    Setting("experiment", str, "the experiment of runs that name none"),
    Setting("run_id", str, "join this run"),
    Setting("rank", _whole, "this process among the run's writers; else `RANK`, `SLURM_PROCID`"),
    Setting("strict", _flag, "`1`: wrong use raises `WrongUse` instead of warning"),
    Setting("console", _flag, "`1`: what is printed goes to the run's console too"),
    Setting("system_s", _seconds, "how often CPU, memory and GPUs are logged; 0: never"),
    Setting("buffer_points", _whole, "how many points memory alone may hold"),
    Setting("buffer_age_ms", _millis, "how old a point in memory alone may become"),
    Setting("spool_bytes", _whole, "how large the spool folder may become"),
    Setting("memory_bytes", _whole, "the bound in memory when the disk refuses the spool"),
    Setting("artifact_copy_bytes", _whole, "files up to this size are copied into the spool"),
    Setting("request_bytes", _whole, "about a request's size; four times it while somebody waits"),
    Setting("connect_timeout_s", _patience, "how long a connection may take"),
    Setting("read_timeout_s", _patience, "how long an answer may take"),
    Setting("heartbeat_s", _seconds, "how often an idle run says that it lives"),
)
RANK_VARIABLES: Final = ("RANK", "SLURM_PROCID")


def default_spool_dir(environ: Mapping[str, str]) -> Path:
    """The user's state directory; never /tmp, which a reboot empties."""
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or "~").expanduser() / "stepwell" / "spool"
    state = environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(state).expanduser() / "stepwell" / "spool"
    except RuntimeError:  # no home at all
        with suppress(OSError):  # the current folder may be gone
            return Path("stepwell-spool").absolute()
        return Path("stepwell-spool")


def load(arguments: Mapping[str, object], environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The settings, and a sentence for each one that makes no sense (its default stands then)."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for setting in SETTINGS:
        given = arguments.get(setting.name)
        source = setting.name
        if given is None:
            given, source = _from_environment(setting, environ)
        if given is None or given == "":
            continue
        try:
            values[setting.name] = setting.parse(str(given))
        except (ValueError, RuntimeError, OSError) as error:  # a ~user, a folder that are none
            secret = setting.name == "token" or "@" in str(given)
            text = f"{source}: {'the value' if secret else repr(given)} is ignored ({error})"
            if setting.name == "url":
                values["url"] = url = _url_instead(str(given))
                text += f", {url} is used" if url else ", so runs wait in the spool"
            wrong.append(text)
    if values.get("url") == "" and values.get("mode") != "disabled":
        values["mode"] = "offline"  # what is logged waits until somebody names the server
    values.setdefault("spool_dir", default_spool_dir(environ))
    return Config(**values), wrong


def _from_environment(setting: Setting, environ: Mapping[str, str]) -> tuple[str | None, str]:
    names = (setting.variable, *(RANK_VARIABLES if setting.name == "rank" else ()))
    for name in names:
        if environ.get(name):
            return environ[name], name
    return None, setting.variable
