"""MLflow's own newest client, unmodified, against a real server: what users' scripts do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.mlflow_python import environment, mlflow_python
from tests.serving import Served, serving

CASES = [
    (script, case)
    for script in ("mlflow_session.py", "mlflow_models_session.py")
    for case in re.findall(r"for case in \((.*?)\)", Path(__file__).with_name(script).read_text())[
        0
    ].split(", ")
]


@pytest.fixture(scope="module")
def python() -> str:
    return mlflow_python()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of its own: these cases count runs of the default tenant."""
    with serving(tmp_path_factory.mktemp("mlflow") / "data") as served:
        yield served
        assert "Traceback" not in served.errors


@pytest.mark.timeout(900)  # a first installation takes minutes
@pytest.mark.parametrize(("script", "case"), CASES, ids=[case for _, case in CASES])
def test_the_client(python: str, served: Served, tmp_path: Path, script: str, case: str):
    run_case(python, served.url, tmp_path, script, case)


@pytest.mark.timeout(900)
def test_the_client_with_credentials_behind_a_path_prefix(python: str, tmp_path: Path):
    """A server without tokens takes any, on transfers of files too."""
    login = {"MLFLOW_TRACKING_USERNAME": "alice", "MLFLOW_TRACKING_PASSWORD": "secret"}
    with serving(tmp_path / "data", "--root-path", "/tracking") as served:
        url = served.url.removesuffix("/tracking") + "/tracking"
        run_case(python, url, tmp_path, "mlflow_session.py", "artifacts", **login)


def run_case(python: str, url: str, folder: Path, script: str, case: str, **more: str) -> None:
    done = subprocess.run(
        [python, "-W", "ignore", Path(__file__).with_name(script), url, case],
        cwd=folder, env=environment(folder) | more, capture_output=True, text=True, check=False,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
