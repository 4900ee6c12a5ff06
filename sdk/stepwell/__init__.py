"""Stepwell's client: what a training script imports.

The names below are loaded when they are first used, so that a server which imports
``stepwell.wire`` does not load a client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stepwell.buffer import RunMetrics
    from stepwell.errors import (
        BadReply,
        Denied,
        NotFound,
        Refused,
        ServerError,
        StepwellError,
        Unavailable,
        Unreachable,
        WrongUse,
    )
    from stepwell.reader import MetricArrays, Run
    from stepwell.run import ActiveRun
    from stepwell.tracker import ExperimentTracker, RunConfig

_HOMES = {
    "stepwell.buffer": ("RunMetrics",),
    "stepwell.errors": (
        "BadReply",
        "Denied",
        "NotFound",
        "Refused",
        "ServerError",
        "StepwellError",
        "Unavailable",
        "Unreachable",
        "WrongUse",
    ),
    "stepwell.reader": ("MetricArrays", "Run"),
    "stepwell.run": ("ActiveRun",),
    "stepwell.tracker": ("ExperimentTracker", "RunConfig"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ActiveRun",
    "BadReply",
    "Denied",
    "ExperimentTracker",
    "MetricArrays",
    "NotFound",
    "Refused",
    "Run",
    "RunConfig",
    "RunMetrics",
    "ServerError",
    "StepwellError",
    "Unavailable",
    "Unreachable",
    "WrongUse",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'stepwell' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
