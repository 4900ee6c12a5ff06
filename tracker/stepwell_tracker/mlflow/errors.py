"""Refusals in MLflow's form: ``{"error_code", "message"}``, and which status goes with a code.

The client's exceptions carry the code, and programs branch on it; some match the message's text.
A user's error is never a 5xx: the client repeats those for minutes.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.requests import ClientDisconnect

from stepwell_storage import errors as storage
from stepwell_tracker.errors import (
    BadRequest,
    Changed,
    Forbidden,
    HeadersTooLarge,
    MethodNotAllowed,
    RangeNotSatisfiable,
    Refusal,
    TooLarge,
    headers_of,
)
from stepwell_tracker.http import Reply

log = logging.getLogger(__name__)

INVALID: Final = "INVALID_PARAMETER_VALUE"
MISSING: Final = "RESOURCE_DOES_NOT_EXIST"
EXISTS: Final = "RESOURCE_ALREADY_EXISTS"
NO_ENDPOINT: Final = "ENDPOINT_NOT_FOUND"
STATUSES: Final = {
    INVALID: 400,
    EXISTS: 400,
    "BAD_REQUEST": 400,
    MISSING: 404,
    NO_ENDPOINT: 404,
    "NOT_IMPLEMENTED": 501,
}


class Refused(Refusal):
    """A refusal whose code and text are MLflow's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Told(Struct):
    error_code: str
    message: str


# type of exception -> (status, code); a subclass answers like its nearest ancestor.
_CODES: Final[dict[type[BaseException], tuple[int, str]]] = {
    storage.NotFound: (404, MISSING),
    storage.Invalid: (400, INVALID),
    storage.Conflict: (409, "RESOURCE_CONFLICT"),
    storage.Busy: (503, "TEMPORARILY_UNAVAILABLE"),
    storage.Closed: (503, "TEMPORARILY_UNAVAILABLE"),
    storage.Unreadable: (503, "TEMPORARILY_UNAVAILABLE"),
    storage.Full: (507, "RESOURCE_EXHAUSTED"),  # 507 is not repeated; 429 and 503 are
    BadRequest: (400, INVALID),
    Forbidden: (403, "PERMISSION_DENIED"),
    MethodNotAllowed: (405, NO_ENDPOINT),
    Changed: (412, INVALID),
    RangeNotSatisfiable: (416, INVALID),
    TooLarge: (413, INVALID),
    HeadersTooLarge: (431, INVALID),
    ClientDisconnect: (400, "BAD_REQUEST"),
}
_INTERNAL: Final = (500, "INTERNAL_ERROR")


def error_reply(exc: Exception) -> Reply:
    """The answer to whatever an endpoint raised; what is not in the table is logged, and a 500."""
    if isinstance(exc, Refused):
        status, code = STATUSES[exc.code], exc.code
    else:
        status, code = next(
            (_CODES[kind] for kind in type(exc).__mro__ if kind in _CODES), _INTERNAL
        )
    message = str(exc)
    if status == _INTERNAL[0]:
        log.error("MLflow's API: %s", exc, exc_info=exc)
        message = "the server failed; its log has the details"
    body = msgspec.json.encode(Told(code, message))
    return Reply(body, status=status, headers=headers_of(exc))


def missing_value(name: str) -> Refused:
    return Refused(INVALID, f"Missing value for required parameter '{name}'.")


def invalid_value(name: str, value: Any, why: str = "") -> Refused:
    """``value`` is shown as compact JSON, a long one cut."""
    shown = msgspec.json.encode(value).decode()
    if len(shown) > 500:
        shown = shown[:500] + "..."
    text = f"Invalid value {shown} for parameter '{name}' supplied"
    return Refused(INVALID, f"{text}: {why}" if why else f"{text}.")


def no_run(run_id: str) -> Refused:
    return Refused(MISSING, f"Run with id={run_id} not found")


def no_experiment(experiment_id: str) -> Refused:
    return Refused(MISSING, f"No Experiment with id={experiment_id} exists")


def no_model(model_id: str) -> Refused:
    return Refused(MISSING, f"Logged model with ID '{model_id}' not found.")


def deleted_run(run_id: str) -> Refused:
    return _not_active("run", run_id)


def deleted_experiment(experiment_id: str) -> Refused:
    return _not_active("experiment", experiment_id)


def _not_active(what: str, id: str) -> Refused:
    message = f"The {what} {id} must be in the 'active' state. Current state is deleted."
    return Refused(INVALID, message)
