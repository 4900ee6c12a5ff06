"""The disk refuses the n-th write or sync, or is full: 507, nothing half there, nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash import engine_work, failing_work, shim

SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))
ROOT = Path(__file__).parents[2]


def storm(folder: Path, fault: str, first: int, stride: int) -> dict[str, Any]:
    disk = folder / "disk"
    disk.mkdir()
    environment = shim.environment(shim.build(folder), disk) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, failing_work.__file__, str(disk), fault, str(first), str(stride)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", failing_work.FAULTS)
def test_the_disk_refuses_a_call(tmp_path: Path, fault: str):
    """A share of all n: those from a seeded place, so far apart that it is about a dozen."""
    stride = 31 if failing_work.FAULTS[fault].what == engine_work.ANY_WRITE else 7
    answer = storm(tmp_path, fault, 1 + SEED % stride, stride)
    assert answer["wrong"] == []
    assert answer["struck"] >= answer["tried"] >= 5
    assert answer["refused"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", failing_work.FAULTS)
def test_the_disk_refuses_every_call_in_turn(tmp_path: Path, fault: str):
    answer = storm(tmp_path, fault, 1, 1)
    assert answer["wrong"] == []
    assert answer["struck"] >= answer["tried"] > 40
