"""A real MLflow server beside a real Stepwell: the same script, and everything moved over and back.

What is compared is what MLflow's own client says of both.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stepwell.__main__ import main
from tests.end_to_end.mlflow_python import environment, mlflow_python
from tests.serving import serving

HERE = Path(__file__).parent
READY_WITHIN_S = 120.0

DIFFERENCES = {
    "history odd/key a": "infinities come back as infinities; MLflow makes 1.797e308 of them",
    "files of files": "an empty file has 0 bytes; MLflow's answer leaves the size out",
    "rename a deleted one": "a user's mistake is a 400; MLflow's 500 makes clients repeat it",
}
"""What the script is told otherwise here, and why."""


@dataclass
class Mlflow:
    """MLflow's server, with its database and files in ``folder``; ``answers`` are the script's."""

    python: str
    url: str
    folder: Path
    answers: dict[str, Any]

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"


def run(python: str, program: str, uri: str, folder: Path) -> Any:
    """What one of the programs beside this file wrote, of the store at ``uri``."""
    place = folder / f"{program}.json"
    done = subprocess.run(
        [python, "-W", "ignore", HERE / program, uri, place],
        cwd=folder, env=environment(folder), capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(place.read_text())


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """The reference, after the script: one process for the whole module."""
    folder = tmp_path_factory.mktemp("reference")
    python = mlflow_python()
    with server(python, folder) as url:
        yield Mlflow(python, url, folder, run(python, "mlflow_script.py", url, folder))


@contextlib.contextmanager
def server(python: str, folder: Path) -> Iterator[str]:
    port = _free_port()
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
               "--artifacts-destination", f"{folder}/mlartifacts"]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process, folder / "log")
        yield url
    finally:
        os.killpg(process.pid, 15)  # it starts workers of its own
        process.wait(30)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2_000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2):
            return
        time.sleep(0.2)
    pytest.fail(f"MLflow's server does not answer: {log.read_text()[-2_000:]}")


def differing(there: Any, here: Any, at: str = "") -> dict[str, tuple[Any, Any]]:
    """The places in which two pictures are not the same."""
    if isinstance(there, dict) and isinstance(here, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in {*there, *here}:
            found |= differing(there.get(key), here.get(key), f"{at}/{key}")
        return found
    return {} if there == here else {at: (there, here)}


@pytest.mark.timeout(900)  # a first installation of MLflow takes minutes
def test_the_same_script_is_told_the_same(mlflow: Mlflow, tmp_path: Path):
    with serving(tmp_path / "data") as served:
        ours = run(mlflow.python, "mlflow_script.py", served.url, tmp_path)
        assert "Traceback" not in served.errors
    assert len(ours) > 90
    assert ours.keys() == mlflow.answers.keys()
    assert {what for what in ours if ours[what] != mlflow.answers[what]} == set(DIFFERENCES)
    told = [point["value"] for point in ours["history odd/key a"]]
    kept = [point["value"] for point in mlflow.answers["history odd/key a"]]
    assert told == ["nan", "inf", "-inf", 0.0, -5.5]
    assert kept == ["nan", 1.7976931348623157e308, -1.7976931348623157e308, 0.0, -5.5]
    assert ours["rename a deleted one"] == ["refused", "INVALID_PARAMETER_VALUE"]
    assert ours["files of files"] == [["files/empty.bin", False, 0], ["files/sub", True, None]]


@pytest.mark.timeout(900)
def test_an_imported_database_is_equal_run_by_run(mlflow: Mlflow, tmp_path: Path):
    """From the database and through the server, each compared by the client; then out again."""
    reference = run(mlflow.python, "mlflow_picture.py", mlflow.url, tmp_path)
    assert len(reference["runs"]) == 3
    for number, source in enumerate((mlflow.database, mlflow.url)):
        data = tmp_path / f"data{number}"
        arguments = ["--source", source, "--artifacts", "--data", str(data)]
        assert main(["import", "mlflow", *arguments]) == 0
        with serving(data) as served:
            picture = run(mlflow.python, "mlflow_picture.py", served.url, tmp_path)
        assert differing(reference, picture) == {}
    direct = run(mlflow.python, "mlflow_picture.py", mlflow.database, tmp_path)
    out = tmp_path / "out"
    assert main(["export", "mlflow", str(out), "--data", str(tmp_path / "data0")]) == 0
    _upgrade(mlflow.python, out)
    back = run(mlflow.python, "mlflow_picture.py", f"sqlite:///{out}/mlflow.db", tmp_path)
    # What the files' addresses are to a client without a server: proxied ones it cannot read.
    assert _without_files(differing(direct, back)) == {}
    files = {run_id: found["files"] for run_id, found in back["runs"].items()}
    assert files == {run_id: found["files"] for run_id, found in reference["runs"].items()}


def plain(told: Any) -> Any:
    """Without the places of files, which are another's now, and as it reads after a wire: numbers
    of versions are texts and what is not set is empty."""
    if isinstance(told, dict):
        places = ("artifact_location", "artifact_uri")
        return {key: plain(value) for key, value in told.items() if key not in places}
    if isinstance(told, list):
        return [plain(one) for one in told]
    return "" if told is None else str(told)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_folder_that_mlflow_wrote_is_equal_run_by_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its histories come as they were written, repeats included; and it reads a point that names a
    dataset as one of step 0."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    python, root, data = mlflow_python(), tmp_path / "mlruns", tmp_path / "data"
    run(python, "mlflow_script.py", root.as_uri(), tmp_path)
    reference = run(python, "mlflow_picture.py", root.as_uri(), tmp_path)
    arguments = ["--source", str(root), "--artifacts", "--data", str(data)]
    assert main(["import", "mlflow", *arguments]) == 0
    with serving(data) as served:
        picture = run(python, "mlflow_picture.py", served.url, tmp_path)
    for found in (*reference["runs"].values(), *picture["runs"].values()):
        found["histories"].pop("acc", None)
        for key, points in found["histories"].items():
            found["histories"][key] = sorted({tuple(map(str, point)) for point in points})
    assert len(picture["runs"]) == 3
    assert differing(plain(reference), plain(picture)) == {}


@pytest.mark.timeout(900)
def test_databases_of_older_versions_arrive(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As MLflow's own migrations made them, from the first schema to the newest."""
    databases = tmp_path / "databases"
    databases.mkdir()
    made = subprocess.run(
        [mlflow_python(), "-W", "ignore", HERE / "mlflow_old_databases.py", databases, "9"],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3_000:]
    found = sorted(databases.iterdir())
    assert len(found) >= 8
    for database in found:
        data = tmp_path / database.stem
        assert main(["import", "mlflow", "--source", str(database), "--data", str(data)]) == 0
        said = capsys.readouterr().out.split()
        for kind, count in (("experiments", "2"), ("runs", "1"), ("points", "50")):
            place = said.index(kind)
            assert said[place + 1 : place + 3] == [count, count], database


def _upgrade(python: str, out: Path) -> None:
    """A newer MLflow than the schema is of opens it after its own upgrade."""
    uri = f"sqlite:///{out}/mlflow.db"
    done = subprocess.run(
        [python, "-m", "mlflow", "db", "upgrade", uri],
        cwd=out, env=environment(out), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]


def _without_files(found: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    places = ("artifact_location", "artifact_uri")
    return {
        at: both
        for at, both in found.items()
        if at.rpartition("/")[2] not in places and "/files" not in at
    }
