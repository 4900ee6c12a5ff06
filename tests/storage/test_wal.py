"""SQLite ends a log at the first frame that does not fit: where that is damage, it is told."""

import logging
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stepwell_storage.check import verify
from stepwell_storage.store import Options, Store
from stepwell_storage.wal import SET_ASIDE, damage
from tests.storage.conftest import RUN, Opening, batch, new_run

HEAD, FRAME = 32, 24 + 8_192
BATCHES = 12


@pytest.fixture
async def crashed(data: Path, tmp_path: Path) -> Path:
    """A data directory whose server was killed: all batches are in the log alone."""
    store = await Store.open(tmp_path / "live", Options(compact=False))
    async with store.lease("acme", create=True) as tenant:
        await tenant.create_run(new_run())
        for number in range(BATCHES):
            await tenant.log(RUN, batch("loss", range(1_000 * number, 1_000 * (number + 1))))
        shutil.copytree(tmp_path / "live", data)
    await store.close()
    return data


def log_of(data: Path) -> Path:
    return data / "tenants" / "acme" / "tenant.db-wal"


def commits(raw: bytes | bytearray) -> list[int]:
    """The frames that end a transaction."""
    heads = [raw[at : at + 24] for at in range(HEAD, len(raw), FRAME)]
    return [number for number, head in enumerate(heads) if any(head[4:8])]


async def test_a_log_that_a_kill_left_is_whole(crashed: Path):
    assert log_of(crashed).stat().st_size > 10 * FRAME
    assert damage(log_of(crashed)) == ""
    assert (await verify(crashed)).problems == []


async def test_a_bit_that_flips_in_front_of_the_last_transaction_is_found(crashed: Path):
    log, rng = log_of(crashed), random.Random(1)
    raw = log.read_bytes()
    last = commits(raw)[-2] + 1
    for _ in range(150):
        at = rng.randrange(HEAD + last * FRAME)
        log.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :])
        assert "log is damaged" in damage(log), at
    (problem,) = [one for one in (await verify(crashed)).problems if "log" in one]
    assert problem.startswith("tenant acme: frame")


async def test_a_server_says_what_it_lost_and_keeps_the_log(
    crashed: Path, opening: Opening, caplog: pytest.LogCaptureFixture
):
    log = log_of(crashed)
    raw = bytearray(log.read_bytes())
    raw[HEAD + FRAME * (commits(raw)[-4] + 1) + 500] ^= 1
    log.write_bytes(raw)
    with caplog.at_level(logging.ERROR):
        store = await opening(crashed, Options(compact=False))
        async with store.lease("acme", create=False) as tenant:
            found = (await tenant.points(RUN, "loss")).steps.tolist()
            await tenant.log(RUN, batch("loss", [999_999]))
    await store.close()
    assert "SQLite ignores 3 commits" in caplog.text
    assert len(found) in range(1_000, BATCHES * 1_000, 1_000)
    assert found == list(range(len(found)))
    assert log.with_name(SET_ASIDE).read_bytes() == bytes(raw)
    (problem,) = (await verify(crashed)).problems
    assert SET_ASIDE in problem
    log.with_name(SET_ASIDE).unlink()
    assert (await verify(crashed)).problems == []


async def test_what_a_power_cut_leaves_is_no_damage(crashed: Path):
    """A log that ends anywhere, and a last transaction of which sectors are missing."""
    log, rng = log_of(crashed), random.Random(2)
    raw = log.read_bytes()
    last = HEAD + FRAME * (commits(raw)[-2] + 1)
    for _ in range(60):
        log.write_bytes(raw[: rng.randrange(len(raw))])
        assert damage(log) == ""
        torn = bytearray(raw)
        for at in range(last, len(raw), 512):
            if rng.random() < 0.5:
                torn[at : at + 512] = bytes(len(torn[at : at + 512]))
        log.write_bytes(torn)
        assert damage(log) == ""
    log.write_bytes(bytes(len(raw)))
    assert damage(log) == ""
    log.unlink()
    assert damage(log) == ""


def open_log(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("page_size=8192", "journal_mode=wal", "wal_autocheckpoint=0"):
        connection.execute(f"pragma {pragma}").fetchall()
    connection.execute("create table if not exists t (x)")
    return connection


def test_frames_of_an_earlier_turn_of_the_log_are_no_damage(tmp_path: Path):
    with closing(open_log(tmp_path / "a.db")) as connection:
        for _ in range(20):
            connection.execute("insert into t values (randomblob(9000))")
        connection.execute("pragma wal_checkpoint(passive)").fetchall()
        size = (tmp_path / "a.db-wal").stat().st_size
        for _ in range(4):
            connection.execute("insert into t values (randomblob(9000))")
            assert damage(tmp_path / "a.db-wal") == ""
        assert (tmp_path / "a.db-wal").stat().st_size == size, "it began anew"


def test_the_rest_of_a_commit_that_failed_is_no_damage(tmp_path: Path):
    """A shorter one was written over its beginning."""
    with closing(open_log(tmp_path / "a.db")) as connection:
        for _ in range(3):
            connection.execute("insert into t values (randomblob(9000))")
        for name in ("a.db", "a.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / f"b{name[1:]}")
        connection.execute("insert into t values (randomblob(90000))")
        failed = (tmp_path / "a.db-wal").read_bytes()
    with closing(open_log(tmp_path / "b.db")) as connection:
        for _ in range(3):
            connection.execute("insert into t values (1)")
            raw = (tmp_path / "b.db-wal").read_bytes()
            (tmp_path / "mixed").write_bytes(raw + failed[len(raw) :])
            assert len(failed) > len(raw)
            assert damage(tmp_path / "mixed") == ""
