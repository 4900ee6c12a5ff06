"""``stepwell serve``: arguments to settings; what may not be served is refused here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from stepwell_tracker.cli import WRONG_USE, fail, parser
from stepwell_tracker.config import Settings

EXAMPLE = "stepwell serve --data stepwell-data --port 7837"


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    options = _parser()
    parsed = vars(options.parse_args(arguments))
    access_log = bool(parsed.pop("access_log"))
    prefix = parsed["root_path"].strip("/")
    parsed["root_path"] = f"/{prefix}" if prefix else ""
    try:
        settings = msgspec.convert(parsed, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at `$.")
        options.error(f"argument --{field.rstrip('`').replace('_', '-')}: {reason}")
    from stepwell_tracker.cli_server import serve
    from stepwell_tracker.gate import is_loopback

    if not settings.no_auth and not is_loopback(settings.host.lower()):
        fail(
            f"{settings.host} can be reached from other machines, and there are no tokens:"
            " anyone could read and write; say --no-auth if that is meant",
            WRONG_USE,
        )
    return serve(settings, access_log=access_log)


def _parser() -> argparse.ArgumentParser:
    """One option for each setting; what it is and its default stand in Settings alone."""
    options = parser("serve", "Run the server until SIGTERM or Ctrl-C.", EXAMPLE)
    for field in inspect.type_info(Settings).fields:  # type: ignore[attr-defined]
        option = f"--{field.name.replace('_', '-')}"
        text = _description(field.type)
        kind = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
        if isinstance(kind, inspect.BoolType):
            options.add_argument(option, action="store_true", help=text)
        elif isinstance(kind, inspect.VarTupleType):
            options.add_argument(
                option, action="extend", nargs="+", default=[], metavar="NAME", help=text
            )
        else:
            options.add_argument(
                option,
                default=field.default,
                help=f"{text} (%(default)s)" if field.default else text,
            )
    options.add_argument(
        "--access-log", action="store_true", help="one line on stderr for each request"
    )
    return options


def _decode(kind: type[Any], value: object) -> object:
    """What msgspec does not know by itself."""
    return Path(str(value)) if kind is Path else value


def _description(kind: inspect.Type) -> str:
    extra = kind.extra_json_schema if isinstance(kind, inspect.Metadata) else None
    return str((extra or {}).get("description", ""))
