"""The other sources: the folder ``mlruns``, and a server; and the files that come along."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from stepwell_storage.artifacts import ArtifactFile
from stepwell_storage.check import verify
from stepwell_storage.exports import all_models, all_registered
from stepwell_tracker.app import create_app
from stepwell_tracker.config import Settings
from tests.tracker.live import serving
from tests.tracker.mlflow_stores import GONE, MODEL, ONE, TWO, changing, database, folder, loss, odd
from tests.tracker.porting import Opened, complete, import_mlflow, points


async def test_a_folder_of_mlflows_arrives(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root, data = folder(tmp_path / "mlruns"), tmp_path / "data"
    assert await import_mlflow(root, data, "--artifacts") == 0, capsys.readouterr().out
    assert "files: 3 copied" in capsys.readouterr().out
    run = await complete(data, ONE)
    assert (run.name, run.status, run.start_time, run.end_time) == ("named", "finished", 1000, 2000)
    assert run.params == {"lr": "0.1", "a/b": ""}
    assert run.tags == {"note": "two\nlines"}
    [use] = run.datasets
    assert (use.dataset.name, use.tags) == ("mine", {"mlflow.data.context": "train"})
    assert use.dataset.schema == '{"s": 1, "words": "a long text that is folded"}'
    assert [tuple(one) for one in run.models] == [("input", MODEL, 0), ("output", MODEL, 3)]
    assert (await points(data, TWO, "loss")).values.tolist() == [i / 3 for i in range(300)]
    found = await points(data, ONE, "odd/key a")
    assert list(zip(found.steps, found.timestamps, strict=True)) == [
        (0, 5), (0, 7), (1, 5), (2, 5), (3, 9)
    ]  # fmt: skip
    assert found.values.tolist()[1:] == [0.5, np.inf, -np.inf, 1]
    async with Opened(data) as tenant:
        old = await tenant.experiment_by_number(5)
        assert (old.name, old.lifecycle, old.artifact_location) == ("old", "deleted", None)
        assert (await tenant.experiment_by_number(12)).name == "12"
        assert (await tenant.experiment_by_number(12)).tags == {"team/name": "x"}
        async with await tenant.artifacts.of_run(GONE).open("sub/a.txt") as file:
            assert await file.read(0, 100) == GONE.encode()
        async with tenant.whole() as reader:
            [(model, _)] = [one async for one in all_models(reader)]
            [(best, versions)] = [one async for one in all_registered(reader)]
    assert (model.status, model.params, model.metrics[0].dataset_name) == (
        "ready",
        {"p": "1"},
        "mine",
    )
    assert (best.aliases, versions[0].source) == ({"champion": 1}, f"runs:/{ONE}/model")
    assert await import_mlflow(root, data, "--artifacts") == 0
    said = capsys.readouterr().out
    assert "0 runs new, 0 brought up to date, 3 here already" in said
    assert "files: 0 copied, 3 here already" in said


@pytest.mark.parametrize(
    ("place", "text", "words"),
    [
        ("metrics/loss", "1 2 3\n1 abc 4\n", "line 2 of metric 'loss' is no point"),
        ("metrics/loss", "1\n", "line 1 of metric"),
        ("metrics/loss", "1 2 99999999999999999999\n", "out of range"),
        ("meta.yaml", "a: [", "meta.yaml cannot be read"),
        ("meta.yaml", "", "empty or damaged"),
        ("meta.yaml", "status: 9\nrun_name: x\n", "status 9 is unknown"),
        ("meta.yaml", "status: 3\nstart_time: soon\n", "start_time is 'soon'"),
    ],
)
async def test_a_damaged_run_of_a_folder_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, text: str, words: str
):
    root, data = folder(tmp_path / "mlruns"), tmp_path / "data"
    (root / "12" / ONE / place).write_text(text)
    assert await import_mlflow(root, data) == 1
    said = capsys.readouterr().out
    assert f"PROBLEM: run {ONE} is not imported: " in said
    assert words in said
    assert "2 runs new" in said


async def test_a_server_is_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = tmp_path / "first", tmp_path / "second"
    assert await import_mlflow(database(tmp_path / "mlflow.db"), first) == 0
    async with Opened(first) as tenant:
        await tenant.artifacts.of_run(ONE).put("deep/größe 100%.txt", one_chunk(b"words"))
        await tenant.artifacts.of_model(MODEL).put("MLmodel", one_chunk(b"words"))
    app = create_app(Settings(data=first))
    async with app.router.lifespan_context(app), serving(app) as port:
        url = f"http://127.0.0.1:{port}"
        assert await import_mlflow(url, second, "--artifacts") == 0, capsys.readouterr().out
        assert "files: 2 copied" in capsys.readouterr().out
        assert await import_mlflow(f"{url}/", second, "--artifacts") == 0
        assert "0 runs new, 0 brought up to date, 3 here already" in capsys.readouterr().out
        assert await import_mlflow(url, tmp_path / "third", "--workspace", "nobody") == 0
        assert await import_mlflow(f"{url}/nowhere", tmp_path / "fourth") == 2
        assert "does not answer as MLflow does" in capsys.readouterr().err
    assert await import_mlflow(url, tmp_path / "fourth") == 3
    assert "no server answers at http" in capsys.readouterr().err
    assert not (tmp_path / "fourth").exists()
    for run_id in (ONE, TWO, GONE):
        here, there = await complete(second, run_id), await complete(first, run_id)
        assert (here.params, here.tags, here.datasets) == (there.params, there.tags, there.datasets)
        assert (here.lifecycle, here.status, here.models) == (
            there.lifecycle,
            there.status,
            there.models,
        )
        assert await points(second, run_id, "loss") == loss()
        assert await points(second, run_id, "odd/key a") == odd()
    async with Opened(second) as tenant:
        async with await tenant.artifacts.of_run(ONE).open("deep/größe 100%.txt") as file:
            assert await file.read(0, 9) == b"words"
        async with await tenant.artifacts.of_model(MODEL).open("MLmodel") as file:
            assert file.size == 5


async def test_credentials_come_from_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    seen = []

    async def refuse(request: Request) -> JSONResponse:
        seen.append(request.headers.get("authorization"))
        return JSONResponse({"error_code": "UNAUTHENTICATED", "message": "no"}, 401)

    app = Starlette(routes=[Route("/{path:path}", refuse, methods=["GET", "POST"])])
    async with serving(app) as port:
        url = f"http://127.0.0.1:{port}"
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
        assert await import_mlflow(url, tmp_path / "data") == 2
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass")
        assert await import_mlflow(url.replace("//", "//a:b@"), tmp_path / "data") == 2
    assert seen == ["Bearer secret", "Basic bWU6cGFzcw=="]
    said = capsys.readouterr()
    assert "wants credentials" in said.err
    assert "secret" not in said.err + said.out
    assert "a:b@" not in said.err + said.out


async def test_files_that_cannot_be_stored_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, data = database(tmp_path / "mlflow.db"), tmp_path / "data"
    top = tmp_path / "mlartifacts" / "1" / ONE / "artifacts"
    top.mkdir(parents=True)
    (top / "good 100%+ü.bin").write_bytes(b"x" * 3_000_000)
    (top / "bad\\name").write_text("x")
    (top / "link").symlink_to(top / "good 100%+ü.bin")
    with changing(source) as db:
        db.execute("update runs set artifact_uri=? where run_uuid=?", (f"s3://bucket/{TWO}", TWO))
    assert await import_mlflow(source, data, "--artifacts") == 1
    said = capsys.readouterr().out
    assert f"file 'bad\\\\name' of run {ONE} is not copied" in said
    assert "files: 2 copied" in said
    assert "files of 1 runs and models stay where they are: s3:" in said
    async with Opened(data) as tenant:
        for name in ("good 100%+ü.bin", "link"):
            async with await tenant.artifacts.of_run(ONE).open(name) as file:
                read = await file.read(0, 4_000_000)
            assert hashlib.sha256(read).digest() == hashlib.sha256(b"x" * 3_000_000).digest()


async def test_files_that_changed_in_the_source_follow_and_those_changed_here_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Of the same size, so that their bytes alone tell."""
    source, data = database(tmp_path / "mlflow.db"), tmp_path / "data"
    top = tmp_path / "mlartifacts" / "1" / ONE / "artifacts"
    top.mkdir(parents=True)
    for name in ("same", "theirs", "ours", "both"):
        (top / name).write_text("old")
    assert await import_mlflow(source, data, "--artifacts") == 0
    assert line_of(capsys.readouterr().out, "files ")[1:3] == ["4", "4"]
    (top / "theirs").write_text("new")
    (top / "both").write_text("new")
    await asyncio.sleep(0.01)
    async with Opened(data) as tenant:
        for name in ("ours", "both"):
            await tenant.artifacts.of_run(ONE).put(name, one_chunk(b"own"))
    for copied in (1, 0):
        assert await import_mlflow(source, data, "--artifacts") == 0
        said = capsys.readouterr().out
        assert f"files: {copied} copied, {2 - copied} here already" in said
        assert line_of(said, "files ")[1:3] == ["2", "2"]
        for name in ("ours", "both"):
            assert f"changed here since its import: file '{name}' of run {ONE}" in said
    async with Opened(data) as tenant:
        for name, text in (
            ("same", b"old"),
            ("theirs", b"new"),
            ("ours", b"own"),
            ("both", b"own"),
        ):
            async with await tenant.artifacts.of_run(ONE).open(name) as file:
                assert await file.read(0, 9) == text


async def test_a_file_that_does_not_read_back_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A disk that keeps other bytes than it was given."""
    source, data = database(tmp_path / "mlflow.db"), tmp_path / "data"
    top = tmp_path / "mlartifacts" / "1" / ONE / "artifacts"
    top.mkdir(parents=True)
    (top / "a").write_text("words")
    read = ArtifactFile.read

    async def damaged(self: ArtifactFile, offset: int, count: int) -> bytes:
        return (await read(self, offset, count)).replace(b"w", b"v")

    monkeypatch.setattr(ArtifactFile, "read", damaged)
    assert await import_mlflow(source, data, "--artifacts") == 1
    said = capsys.readouterr().out
    assert f"PROBLEM: file 'a' of run {ONE} is not copied: it does not read back" in said
    assert line_of(said, "files ")[1:] == ["1", "0", "0000000000000000", "NO"]


async def one_chunk(data: bytes) -> AsyncIterator[bytes]:
    yield data


def line_of(said: str, begin: str) -> list[str]:
    """The words of the report's line."""
    [line] = [line for line in said.splitlines() if line.startswith(begin)]
    return line.split()


def test_an_import_may_be_killed_at_any_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """SIGKILL after the first batches, again and again, then once to the end."""
    source, data = database(tmp_path / "mlflow.db", count=300), tmp_path / "data"
    arguments = ["--source", str(source), "--data", str(data)]
    program = (
        "from stepwell_tracker import cli_import_mlflow as command\n"
        "from stepwell_tracker.porting import importing\n"
        f"importing.BATCH_RUNS = 10\ncommand.main({arguments})"
    )
    partly = 0
    for attempt in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_runs(data, process)
        time.sleep(0.02 * attempt)
        process.kill()
        process.wait()
        findings = asyncio.run(verify(data))
        assert findings.problems == []
        partly += 3 < findings.runs < 303
    assert partly, "no import was killed half-way"
    assert asyncio.run(import_mlflow(source, data)) == 0, capsys.readouterr().out
    findings = asyncio.run(verify(data))
    assert (findings.problems, findings.runs) == ([], 303)
    assert findings.points == 300 * 400 + 3 * 705


def wait_for_runs(data: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the first ones are there, or the import has ended."""
    place = f"file:{data}/tenants/default/tenant.db?mode=ro"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(sqlite3.Error), closing(sqlite3.connect(place, uri=True)) as db:
            if db.execute("select count(*) from run").fetchone()[0]:
                return
        time.sleep(0.005)
