"""What is damaged, full or interrupted costs its own tenant alone: backups, restores, servers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stepwell_storage.store import Options, Store
from stepwell_tracker.cli_client import BASE
from tests.end_to_end.conftest import Http
from tests.serving import serving, stepwell
from tests.storage.conftest import RUN, batch, new_run

DISK_BYTES = 7 * 1024 * 1024


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def make(data: Path) -> None:
    store = await Store.open(data, Options(compact=False))
    for name in ("cut", "gone", "rotten", "sound"):
        async with store.lease(name, create=True) as tenant:
            await tenant.create_run(new_run())
            await tenant.log(RUN, batch("loss", range(9_000)))
            await tenant.log(RUN, batch("acc", range(50)))
            await tenant.artifacts.of_run(RUN).put("card.md", body(b"# card"))
        await store.compact(name)
    await store.close()


def rot(file: Path) -> None:
    """A bit in the middle of a sealed series."""
    with closing(sqlite3.connect(file)) as connection, connection:
        query = "select c.id from chunk c join name n on n.id = c.key where n.text = 'loss' limit 1"
        [number] = connection.execute(query).fetchone()
        with connection.blobopen("chunk", "data", number) as blob:
            blob[len(blob) // 2] = blob[len(blob) // 2] ^ 8


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    asyncio.run(make(data))
    return data


@pytest.fixture
def damaged(data: Path) -> Path:
    cut = data / "tenants/cut/tenant.db"
    cut.write_bytes(cut.read_bytes()[:100])
    (data / "tenants/gone/tenant.db").unlink()
    rot(data / "tenants/rotten/tenant.db")
    return data


def served(http: Http, tenant: str) -> int:
    path = f"{BASE}/runs/{RUN}/metrics/loss"
    return len(http.ok("GET", path, tenant=tenant)["points"])


def test_a_backup_of_all_leaves_out_what_cannot_be_read_and_says_so(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    backup = tmp_path / "backup"
    assert stepwell("backup", "--data", damaged, backup) == 1
    shown = capsys.readouterr()
    assert f"{backup}: rotten, sound, " in shown.out
    [first, second] = shown.err.splitlines()
    assert "cut is not in the backup: database disk image is malformed" in first
    assert "gone is not in the backup: there is no tenant gone" in second
    assert sorted(one.name for one in (backup / "tenants").iterdir()) == ["rotten", "sound"]
    assert sorted(one.name for one in backup.iterdir()) == ["backup.jsonl", "tenants"]
    assert not [one for one in tmp_path.iterdir() if "partial" in one.name]
    assert stepwell("backup", "--data", damaged, "--tenant", "cut", tmp_path / "one") == 1
    assert "nothing was backed up: database disk image is malformed" in capsys.readouterr().err
    assert not (tmp_path / "one").exists()
    assert stepwell("restore", backup, "--tenant", "sound", "--data", tmp_path / "to") == 0
    assert stepwell("verify", tmp_path / "to") == 0


def test_a_tenant_that_was_damaged_before_its_backup_is_restored_only_when_told(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    backup, to = tmp_path / "backup", tmp_path / "to"
    assert stepwell("backup", "--data", damaged, "--tenant", "rotten", backup) == 0
    assert stepwell("verify", backup) == 1
    place = f"tenant rotten, run {RUN}, series loss, chunk "
    assert place in capsys.readouterr().out
    assert stepwell("restore", backup, "--data", to) == 1
    error = capsys.readouterr().err
    assert place in error
    assert "--damaged" in error
    assert list((to / "tenants").iterdir()) == []
    assert stepwell("restore", backup, "--data", to, "--damaged") == 0
    with serving(to) as running:
        http = Http(running.url)
        assert http("GET", f"{BASE}/runs/{RUN}/metrics/loss", tenant="rotten")[0] == 500
        path = f"{BASE}/runs/{RUN}/metrics/acc"
        assert len(http.ok("GET", path, tenant="rotten")["points"]) == 50
        http.close()


def test_a_server_over_damaged_tenants_starts_and_serves_the_rest_while_verify_tells(
    damaged: Path, capsys: pytest.CaptureFixture[str]
):
    with serving(damaged) as running:
        http = Http(running.url)
        assert served(http, "sound") == 9_000
        for tenant in ("cut", "gone"):
            assert http("GET", f"{BASE}/runs/{RUN}", tenant=tenant)[0] == 500
            assert f"tenants/{tenant}" in running.errors  # which the operator reads, not the caller
            assert http("POST", f"{BASE}/runs", {"name": "x"}, tenant=tenant)[0] == 500
        assert http("POST", f"{BASE}/runs", {"name": "x"}, tenant="sound")[0] == 201
        assert stepwell("verify", damaged) == 1
        lines = capsys.readouterr().out.splitlines()
        assert {line.split()[1].rstrip(",:") for line in lines} == {"cut", "gone", "rotten"}
        assert served(http, "sound") == 9_000
        http.close()
        assert running.stop() == 0


@pytest.mark.parametrize("kept", [True, False])
def test_what_a_killed_restore_left_is_settled_at_the_next_start(data: Path, kept: bool):
    tenants = data / "tenants"
    if kept:
        (tenants / ".sound.0a1b2c3d.replaced").mkdir()  # the new one stands, the old was to go
    else:
        (tenants / "sound").rename(tenants / ".sound.0a1b2c3d.replaced")  # neither stood
    (tenants / ".sound.4e5f6a7b.partial" / "sound").mkdir(parents=True)
    with serving(data) as running:
        http = Http(running.url)
        assert served(http, "sound") == 9_000
        http.close()
    left = sorted(one.name for one in tenants.iterdir())
    assert left == ["cut", "gone", "rotten", "sound"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk on which not much fits."""
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system could be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(small: Path, large: str, data: Path) -> Path:
    """What fills the disk but for less than the tenant ``sound`` takes: its database, or a file."""
    filler = small / "filler"
    filler.write_bytes(bytes(DISK_BYTES - (16_384 if large == "database" else 3_200 * 1024)))
    if large == "artifact":
        place = data / f"tenants/sound/artifacts/runs/{RUN}/big.bin"
        place.write_bytes(os.urandom(3_300 * 1024))
    return filler


@pytest.mark.parametrize("kind", ["backup", "export parquet", "export mlflow"])
@pytest.mark.parametrize("large", ["database", "artifact"])
def test_a_disk_that_is_full_leaves_no_half_a_copy(
    data: Path, small: Path, kind: str, large: str, capsys: pytest.CaptureFixture[str]
):
    filler = fill(small, large, data)
    place = "copy.db" if kind == "export mlflow" else "copy"
    command = [*kind.split(), "--data", str(data), "--tenant", "sound", str(small / place)]
    assert stepwell(*command) == 1
    assert "nothing was" in (error := capsys.readouterr().err)
    assert "full" in error or "No space" in error
    assert [one.name for one in small.iterdir()] == ["filler"]
    filler.unlink()
    assert stepwell(*command) == 0


@pytest.mark.parametrize("kind", ["restore", "import parquet"])
@pytest.mark.parametrize("large", ["database", "artifact"])
def test_a_disk_that_is_full_takes_no_half_a_tenant(
    data: Path, small: Path, tmp_path: Path, kind: str, large: str,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    filler = fill(small, large, data)
    copy = tmp_path / "copy"
    out = "backup" if kind == "restore" else "export parquet"
    assert stepwell(*out.split(), "--data", data, "--tenant", "sound", copy) == 0
    command = [*kind.split(), str(copy), "--data", str(small / "data")]
    assert stepwell(*command) == 1
    error = capsys.readouterr().err
    assert "full" in error or "No space" in error
    assert "--damaged" not in error, "it is not the copy that is at fault"
    assert not (small / "data/tenants/sound").exists()
    filler.unlink()
    assert stepwell(*command) == 0
    assert stepwell("verify", small / "data") == 0
