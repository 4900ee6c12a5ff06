"""The Python of an environment with MLflow, and what a program of it is given."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def mlflow_python() -> str:
    """Skips where none can be made, never in CI."""
    made = subprocess.run(
        [ROOT / "scripts" / "mlflow-client"], capture_output=True, text=True, check=False
    )
    if made.returncode == 0:
        return made.stdout.strip()
    reason = f"MLflow cannot be installed: {made.stderr[-500:]}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a 5xx fails at once, and not after minutes
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # six processes that nobody needs here
        "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        "HOME": str(home),
    }
