"""What the client's tests share: a clean environment, a spool, a server with faults."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwell import ExperimentTracker
from stepwell.lifecycle import LIFECYCLE
from tests.sdk.fault_server import FaultServer


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("STEPWELL_") or name in ("RANK", "SLURM_PROCID"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STEPWELL_SPOOL_DIR", str(tmp_path / "spool"))
    yield
    for run in list(LIFECYCLE.runs.values()):
        # Its sender may sit in a black hole for a while; the next test shall not hear of that.
        run._notices.say = lambda *_: None  # type: ignore[method-assign]
        run.end("failed", timeout_s=0)
        LIFECYCLE.remove(run)


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def tracker(server: FaultServer) -> ExperimentTracker:
    return ExperimentTracker(server.url)


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings that a person would have seen so far."""
    caplog.set_level(logging.WARNING, "stepwell")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "stepwell"]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``settings(buffer_points=10)`` sets STEPWELL_BUFFER_POINTS."""

    def apply(**values: Any) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"STEPWELL_{name.upper()}", str(value))

    return apply
