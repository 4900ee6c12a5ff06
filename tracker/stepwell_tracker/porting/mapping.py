"""MLflow's words for our records, and ours for theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from stepwell import ids
from stepwell_storage.records import Run
from stepwell_tracker.mlflow.views import NOTE, PARENT, RUN_NAME
from stepwell_tracker.porting.source import Damaged

STATUSES: Final = {
    "RUNNING": "running", "SCHEDULED": "scheduled", "FINISHED": "finished", "FAILED": "failed",
    "KILLED": "killed",
}  # fmt: skip
STATUS_NUMBERS: Final = {
    1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed",
}  # fmt: skip
MODEL_STATUSES: Final = {1: "pending", 2: "ready", 3: "failed"}
RUN_ID: Final = re.compile(r"[a-zA-Z0-9][\w-]{0,255}")


def integer(value: object, what: str) -> int:
    """An int64 of the source.  Raises Damaged."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise Damaged(f"{what} is {value!r}, and no integer")
    return value


def optional_integer(value: object, what: str) -> int | None:
    return None if value is None else integer(value, what)


def text(value: object, what: str) -> str:
    """A text of the source, empty where it is null.  Raises Damaged."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Damaged(f"{what} is {value!r}, and no text")
    return value


def optional_text(value: object, what: str) -> str | None:
    return None if value is None else text(value, what)


def lifecycle(value: object) -> str:
    """Raises Damaged for what is neither active nor deleted."""
    if value not in ("active", "deleted", None):
        raise Damaged(f"lifecycle stage {value!r} is unknown")
    return str(value or "active")


def status(value: object) -> str:
    found = STATUSES.get(value) if isinstance(value, str) else None
    if found is None:
        raise Damaged(f"status {value!r} is unknown")
    return found


def set_tags(run: Run, tags: Mapping[str, str]) -> None:
    """Give a run its tags; those that stand for fields go to the fields, as the API does it."""
    run.tags = dict(tags)
    run.name = run.name or tags.get(RUN_NAME, "")
    run.tags.pop(RUN_NAME, None)
    if tags.get(NOTE):
        run.description = run.tags.pop(NOTE)
    run.parent_run_id = parent(tags.get(PARENT, ""))


def parent(tag: str) -> str | None:
    return ids.parse_run_id(tag) or (tag if RUN_ID.fullmatch(tag) else None)


def check(run: Run) -> None:
    """Raises Damaged where a text of the run cannot be stored: no UTF-8, or NUL."""
    if not RUN_ID.fullmatch(run.run_id):
        raise Damaged(f"{run.run_id!r} is no run id")
    for use in (*run.datasets, *run.models):
        check_record(use)
    texts = [run.name, run.description, run.user_id or "", *run.tags, *run.tags.values()]
    texts += [*run.params, *run.params.values()]
    for one in texts:
        if "\0" in one or not _encodable(one):
            raise Damaged(f"the text {one[:60]!r} is damaged")


def check_record(record: object) -> None:
    """Raises Damaged where a field of a record is of another type than it says, or a text of it
    cannot be stored."""
    fields = msgspec.to_builtins(record, builtin_types=(bytes,))
    try:
        msgspec.convert(fields, type(record))
    except msgspec.ValidationError as error:
        raise Damaged(str(error)) from None
    for one in _texts(fields):
        if "\0" in one or not _encodable(one):
            raise Damaged(f"the text {one[:60]!r} is damaged")


def _texts(fields: object) -> Iterator[str]:
    if isinstance(fields, str):
        yield fields
    elif isinstance(fields, dict):
        yield from (text for item in fields.items() for one in item for text in _texts(one))
    elif isinstance(fields, list | tuple):
        yield from (text for one in fields for text in _texts(one))


def _encodable(one: str) -> bool:
    if one.isascii():
        return True
    try:
        one.encode()
    except UnicodeEncodeError:
        return False
    return True


def blank(run_id: str, experiment: int) -> Run:
    """A run to be filled in."""
    return Run(
        run_id=run_id,
        experiment_id="",
        experiment_number=experiment,
        name="",
        description="",
        user_id=None,
        parent_run_id=None,
        status="running",
        start_time=0,
        end_time=None,
        heartbeat_at=0,
        lifecycle="active",
        stop_requested=False,
    )
