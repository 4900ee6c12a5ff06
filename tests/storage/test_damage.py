"""Bits flip and files end too early: found, with the place, and nobody else suffers from it."""

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stepwell_storage.backups import back_up
from stepwell_storage.check import verify
from stepwell_storage.errors import Corrupt, StorageError
from stepwell_storage.records import ConsoleLine, RunQuery
from stepwell_storage.store import Options, Store
from tests.storage.conftest import RUN, Opening, batch, new_run

OTHER = "2" * 32
SEED = 20_250_301
BLOBS = (
    ("chunk", "data", "id"),
    ("chunk", "summary", "id"),
    ("journal", "payload", "id"),
    ("console", "payload", "first_line"),
)


async def body(data: bytes):
    yield data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two tenants of two runs each, sealed and not."""
    import asyncio

    data = tmp_path_factory.mktemp("whole") / "data"
    asyncio.run(_make(data))
    return data


async def _make(data: Path) -> None:
    store = await Store.open(data, Options(compact=False))
    for name in ("acme", "zeta"):
        async with store.lease(name, create=True) as tenant:
            for run in (RUN, OTHER):
                await tenant.create_run(new_run(run, params={"lr": "0.1"}, tags={"t": "a"}))
                noisy = batch("loss", range(9_000))
                noisy.values = (
                    random.Random(run)
                    .randbytes(len(noisy.values) * 7 // 8)
                    .ljust(len(noisy.values), b"\x3f")
                )
                await tenant.log(run, noisy)
                await tenant.log(run, batch("acc", range(50), value=int(run) % 7))
                await tenant.log_console(
                    run, [ConsoleLine("stdout", 1, f"{run} {n}") for n in range(9)]
                )
                await tenant.artifacts.of_run(run).put("card.md", body(b"# card"))
        await store.compact(name)
        async with store.lease(name, create=False) as tenant:
            for run in (RUN, OTHER):
                await tenant.log(run, batch("loss", range(9_000, 9_400), value=int(run) % 7))
    await store.close()


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "data")


def tenant_file(data: Path) -> Path:
    return data / "tenants" / "acme" / "tenant.db"


def flips() -> Iterator[tuple[str, str, str, int]]:
    """Table, column, key and a seeded place in the blob, as a share of 2**32."""
    dice = random.Random(SEED)
    for table, column, key in BLOBS:
        for _ in range(12):
            yield table, column, key, dice.getrandbits(32)


def flip(file: Path, place: tuple[str, str, int], offset: int, bit: int) -> None:
    """Flip one bit of a blob (table, column, rowid) where it lies in the file."""
    table, column, row = place
    with (
        closing(sqlite3.connect(file)) as connection,
        connection,
        connection.blobopen(table, column, row) as blob,
    ):
        blob[offset] = blob[offset] ^ 1 << bit


@pytest.mark.parametrize(("table", "column", "key", "share"), list(flips()))
async def test_every_flipped_bit_of_a_blob_is_found_with_its_place(
    data: Path, table: str, column: str, key: str, share: int
):
    file = tenant_file(data)
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            f"select rowid, {key}, length({column}), run from {table}"  # noqa: S608
        ).fetchall()
        run_ids = dict(connection.execute("select id, run_id from run"))
    row, number, length, run = rows[share % len(rows)]
    flip(file, (table, column, row), share % length, share % 8)
    problems = (await verify(data)).problems
    word = {"chunk": "chunk", "journal": "journal row", "console": "console line"}[table]
    assert any(
        f"tenant acme, run {run_ids[run]}" in one and f"{word} {number}:" in one for one in problems
    ), problems
    assert all(one.startswith(f"tenant acme, run {run_ids[run]}") for one in problems)


async def test_a_damaged_series_is_refused_with_its_place_and_the_others_are_served(
    data: Path, opening: Opening
):
    file = tenant_file(data)
    with closing(sqlite3.connect(file)) as connection:
        length, run_id, chunk = connection.execute(
            "select length(c.data), r.run_id, c.id from chunk c join run r on r.id = c.run"
            " join name n on n.id = c.key where n.text = 'loss' order by c.id limit 1"
        ).fetchone()
    flip(file, ("chunk", "data", chunk), length // 2, 3)
    store = await opening(data, Options(compact=False))
    async with store.lease("acme", create=False) as tenant:
        with pytest.raises(Corrupt) as told:
            await tenant.points(run_id, "loss")
        for word in ("tenant acme", f"run {run_id}", "series loss", f"chunk {chunk}"):
            assert word in str(told.value)
        other = OTHER if run_id == RUN else RUN
        assert len(await tenant.points(other, "loss")) == 9_400
        assert len(await tenant.points(run_id, "acc")) == 50
        await tenant.log(run_id, batch("loss", range(9_400, 9_500)))
        assert (await tenant.run(run_id)).params == {"lr": "0.1"}
    async with store.lease("zeta", create=False) as tenant:
        assert len(await tenant.points(RUN, "loss")) == 9_400
    await store.close()


def spoiled() -> Iterator[object]:
    """Ways to spoil a whole file, each with a name."""
    dice = random.Random(SEED)
    for _ in range(10):
        share = dice.random()
        yield pytest.param(lambda raw, s=share: raw[: int(len(raw) * s)], id=f"cut-{share:.3f}")
    for size in (1, 99, 8_191, 8_192, 8_193):
        yield pytest.param(lambda raw, n=size: raw[:n], id=f"cut-at-{size}")
    yield pytest.param(lambda raw: raw[:-1], id="last-byte")
    yield pytest.param(lambda raw: b"", id="empty")
    yield pytest.param(lambda raw: random.Random(1).randbytes(len(raw)), id="garbage")
    yield pytest.param(lambda raw: bytes(len(raw)), id="zeros")
    yield pytest.param(lambda raw: None, id="missing")


@pytest.mark.parametrize("spoil", list(spoiled()))
async def test_a_spoiled_file_is_found_and_costs_its_tenant_alone(
    data: Path, spoil, opening: Opening
):
    file = tenant_file(data)
    left = spoil(file.read_bytes())
    if left is None:
        file.unlink()
    else:
        file.write_bytes(left)
    found = await verify(data)
    assert found.problems
    assert all(one.startswith("tenant acme") for one in found.problems)
    store = await opening(data, Options(compact=False))
    async with store.lease("zeta", create=False) as tenant:
        assert len(await tenant.points(RUN, "loss")) == 9_400
        await tenant.log(RUN, batch("loss", [10_000]))
    try:
        async with store.lease("acme", create=False) as tenant:
            await tenant.points(RUN, "loss")
    except StorageError as error:  # never another exception, and never wrong numbers
        assert "acme" in str(error)  # noqa: PT017 - or all of it could be read
    await store.close()


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("update run set experiment = 99 where id = 1", "experiment 99"),
        ("update run set lifecycle = 'deleted' where id = 1", "was deleted at None"),
        ("update run set status = 'lost' where id = 1", "status lost"),
        ("update param set number = 7", "its number is 7"),
        ("update series set id = id + 1 where id = (select max(id) from series)", "nobody looks"),
        ("delete from name where text = 'loss'", "has no name"),
        ("insert into model_param values (5, 'a', 'b')", "model row 5"),
        ("insert into dataset_use values (1, 44)", "dataset row 44"),
        ("insert into dataset values (1, 77, 'a', 'b', 'c', 'd', null, null)", "experiment 77"),
        ("insert into model_use values (55, 'input', 'm', 0)", "run row 55"),
        ("insert into purged values ('x', 1, 1795000000000)", ""),
        ("insert into purged select run_id, null, 1 from run limit 1", "was deleted for good"),
        ("update counter set next = 1 where name = 'chunk'", "next number of a chunk is 1"),
        ("update meta set value = 999999 where name = 'counted'", "rows up to 999999 are said"),
        ("delete from console where run = 1", ""),
        ("update console set first_line = 3", "lines from 0 on are missing"),
        ("delete from experiment where number = 0", "there is no experiment 0"),
        ("delete from journal_run", "not in the list of its run"),
        ("update journal_run set journal = 0", "names journal row 0, which it does not have"),
        ("update meta set value = 0 where name = 'counted'", "is not counted yet"),
    ],
)
async def test_rows_that_contradict_each_other_are_found(data: Path, statement: str, word: str):
    with sqlite3.connect(tenant_file(data)) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()
    problems = (await verify(data)).problems
    assert any(word in one for one in problems) if word else not problems


async def test_artifacts_of_nobody_are_found(data: Path):
    for place in ("runs/" + "9" * 32, "models/m-" + "9" * 32):
        folder = data / "tenants" / "acme" / "artifacts" / place
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"x")
    problems = (await verify(data)).problems
    assert sorted(one.removeprefix("tenant acme: ") for one in problems) == [
        "artifacts/models/m-" + "9" * 32 + " belongs to no model",
        "artifacts/runs/" + "9" * 32 + " belongs to no run",
    ]


@pytest.mark.parametrize(
    ("place", "make"),
    [
        (f"{RUN}/deep/pipe", os.mkfifo),
        (f"{RUN}/deep/link", lambda path: path.symlink_to("/etc/hostname")),
        (f"{RUN}/deep/folder", lambda path: path.symlink_to("/etc")),
        (RUN, lambda path: path.symlink_to(path.with_name(OTHER))),
    ],
)
async def test_what_no_upload_made_is_found(data: Path, place: str, make):
    path = data / "tenants/acme/artifacts/runs" / place
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(exist_ok=True)
    make(path)
    [problem] = (await verify(data)).problems
    assert problem.startswith(f"tenant acme, run {RUN}, artifact ")


async def test_a_flipped_journal_row_that_is_not_counted_yet_is_found(data: Path):
    with sqlite3.connect(tenant_file(data)) as connection:
        connection.execute("update meta set value = 0 where name = 'counted'")
        number, blob = connection.execute("select max(id), payload from journal").fetchone()
        spoiled = blob[:20] + bytes([blob[20] ^ 1]) + blob[21:]
        connection.execute("update journal set payload = ? where id = ?", (spoiled, number))
    connection.close()
    assert any(f"journal row {number}: " in one for one in (await verify(data)).problems)


async def test_a_damaged_row_that_a_crash_left_uncounted_is_not_lost_sight_of(data: Path):
    with sqlite3.connect(tenant_file(data)) as connection:
        [(first, last)] = connection.execute("select min(id), max(id) from journal").fetchall()
        connection.execute("update meta set value = ? where name = 'counted'", (first - 1,))
        connection.execute("delete from journal_run")  # as the crash found them
        connection.execute("update journal set payload = x'00' where id = ?", (first,))
    connection.close()
    store = await Store.open(data, Options(compact=False))
    async with store.lease("acme", create=False) as tenant:
        await tenant.log(OTHER, batch("acc", [77]))
    await store.close()
    with sqlite3.connect(tenant_file(data)) as connection:
        listed = connection.execute("select journal from journal_run order by journal").fetchall()
        *before, new = [number for (number,) in listed]
        assert before == list(range(first, last + 1))
        assert new > last
    connection.close()
    problems = (await verify(data)).problems
    assert any(f"journal row {first}: " in one for one in problems)
    assert not any("list of its run" in one for one in problems)


async def test_verify_writes_nothing(data: Path):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    await verify(data)
    after = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    assert {p for p in after if not p.name.endswith(("-wal", "-shm"))} == set(before)
    assert all(after[path] == at for path, at in before.items())


@pytest.mark.parametrize(
    "spoil", [lambda raw: b"", lambda raw: raw[:-1], lambda raw: b"!" + raw[1:]]
)
async def test_an_artifact_whose_bytes_changed_is_found_also_in_a_copy(
    data: Path, tmp_path: Path, spoil
):
    file = data / "tenants" / "acme" / "artifacts" / "runs" / RUN / "card.md"
    if "user.stepwell.sha256" not in os.listxattr(file):
        pytest.skip("this file system has no extended attributes")
    back_up(data, ["acme"], tmp_path / "backup")
    assert (await verify(tmp_path / "backup")).problems == []
    copied = tmp_path / "backup" / file.relative_to(data)
    for place, where in ((file, data), (copied, tmp_path / "backup")):
        place.write_bytes(spoil(place.read_bytes()))
        [problem] = (await verify(where)).problems
        assert problem == (
            f"tenant acme, run {RUN}, artifact card.md: its bytes are not those that were stored"
        )


@pytest.mark.parametrize(
    ("table", "column", "row"),
    [("run", "user_id", "run 1"), ("run", "description", "run 1"), ("note", "value", "note d")],
)
async def test_a_text_that_is_no_utf8_is_found_and_spoils_no_list(
    data: Path, table: str, column: str, row: str, opening: Opening
):
    with closing(sqlite3.connect(tenant_file(data))) as connection:
        connection.execute("insert into note values ('d', 'words')")
        where = "rowid = 1" if table == "run" else "name = 'd'"
        query = f"update {table} set {column} = cast(x'61b0' as text) where {where}"  # noqa: S608
        assert connection.execute(query).rowcount == 1
        connection.commit()
    problems = (await verify(data)).problems
    assert problems == [f"tenant acme: {row}: its {column} is no UTF-8"]
    store = await opening(data, Options(compact=False))
    async with store.lease("acme", create=False) as tenant:
        runs = (await tenant.search(RunQuery(lifecycle="all"))).runs
        assert {run.run_id for run in runs} == {RUN, OTHER}
        shown = {run.user_id for run in runs} | {run.description for run in runs}
        assert ("a\ufffd" in shown) == (table == "run")
        assert await tenant.note("d") == ("words" if table == "run" else "a\ufffd")
        await tenant.log(RUN, batch("loss", [10_000]))
