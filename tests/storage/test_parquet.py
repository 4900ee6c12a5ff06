"""A tenant to Parquet and back: everything is as it was, bit for bit, whatever interrupted it."""

import asyncio
import random
import shutil
import sqlite3
from array import array
from contextlib import closing
from pathlib import Path

import pytest

from stepwell_storage import parquet_export
from stepwell_storage.check import verify
from stepwell_storage.errors import Conflict, Corrupt, NotFound
from stepwell_storage.parquet_export import export
from stepwell_storage.parquet_import import _Load, import_parquet
from stepwell_storage.parquet_source import Source
from stepwell_storage.parquet_tables import read_points, read_rows
from stepwell_storage.points import FLOAT64
from stepwell_storage.records import (
    Batch,
    ConsoleLine,
    Dataset,
    DatasetUse,
    ModelMetric,
    ModelUse,
    NewModel,
    RunChange,
)
from stepwell_storage.store import Options, Store
from tests.storage.conftest import RUN, Opening, batch, new_run

OTHER = "3" * 32
MODEL = "m-" + "2" * 32
EXTREME = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1.7e308, 0.1]
LEFT_OUT = (
    "chunk", "journal", "journal_run", "series", "fresh_param", "fresh_tag", "meta", "counter",
)  # fmt: skip


def quiet(path: str, size: int) -> None: ...


async def body(data: bytes):
    yield data


def extremes() -> Batch:
    """Steps and times at both ends, repeated steps, values that are no numbers."""
    steps = [-(2**63), -(2**63), 0, 0, 0, 1, 2**63 - 1, 2**63 - 1]
    times = [2**63 - 1, -(2**63), 0, 0, 1, 0, 0, -1]
    columns = array("q", steps).tobytes(), array("q", times).tobytes()
    return Batch(["extreme/ünï"], [8], *columns, array("d", EXTREME).tobytes())


async def fill(store: Store) -> None:
    async with store.lease("acme", create=True) as tenant:
        await tenant.create_experiment("lab", description="d", tags={"a": "b"})
        for run in (RUN, OTHER):
            new = new_run(run, experiment_name="lab", params={"lr": "1e-3", "n": "x"},
                          tags={"t": "ü"}, user_id="alice", description="long")  # fmt: skip
            await tenant.create_run(new)
            await tenant.log(run, batch("loss", range(30_000), value=int(run) % 5))
            await tenant.log(run, extremes())
        lab = await tenant.experiment_by_name("lab")
        await tenant.models.create(NewModel(MODEL, lab.number, "net", params={"k": "v"}))
        metric = ModelMetric("acc", float("nan"), 1, 2, RUN, "", "")
        await tenant.models.log([(MODEL, metric)])
        data = Dataset("d", "1", "local", "{}", None, None)
        uses = [DatasetUse(data, {"context": "train"})], [ModelUse("output", MODEL, 0)]
        await tenant.datasets.link(RUN, *uses)
        await tenant.log_console(RUN, [ConsoleLine("stdout", 1, "hello")])
        await tenant.artifacts.of_run(RUN).put("deep/card.md", body(b"# card"))
        await tenant.artifacts.of_model(MODEL).put("w.bin", body(b"\0" * 99))
    await store.compact("acme")
    async with store.lease("acme", create=False) as tenant:
        await tenant.log(RUN, batch("loss", range(30_000, 30_100)))  # after its chunks
        await tenant.log(OTHER, batch("loss", range(100, 200), at=7))  # within them
        await tenant.log(RUN, batch("fresh", range(3)))
        await tenant.change_run(OTHER, RunChange(lifecycle="deleted"))


@pytest.fixture
async def filled(data: Path) -> Path:
    store = await Store.open(data, Options(compact=False))
    try:
        await fill(store)
    finally:
        await store.close()
    return data


async def bring(source: Path, data: Path, name: str = "acme") -> bool:
    (data / "tenants").mkdir(parents=True, exist_ok=True)
    return await import_parquet(Source(source), data / "tenants", name, quiet)


def rows(data: Path) -> dict[str, list[object]]:
    """Every table but those that tell of points, and of what was counted."""
    with closing(sqlite3.connect(data / "tenants/acme/tenant.db")) as connection:
        names = [
            name
            for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
            if name not in LEFT_OUT
        ]
        return {
            name: sorted(connection.execute(f"select * from {name}").fetchall(), key=repr)  # noqa: S608
            for name in names
        }


async def series(store: Store) -> dict[tuple[str, str], tuple[bytes, bytes, bytes]]:
    found = {}
    async with store.lease("acme", create=False) as tenant:
        for run in (RUN, OTHER):
            for key in ("loss", "extreme/ünï", "fresh"):
                points = await tenant.points(run, key)
                found[run, key] = (
                    points.steps.tobytes(), points.timestamps.tobytes(), points.values.tobytes(),
                )  # fmt: skip
    return found


@pytest.mark.parametrize("file_points", [1_000_000, 10_000, 777])
async def test_everything_comes_back_bit_for_bit(
    filled: Path,
    tmp_path: Path,
    opening: Opening,
    file_points: int,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(parquet_export, "FILE_POINTS", file_points)
    monkeypatch.setattr(parquet_export, "FILE_ROWS", file_points)
    to, again = tmp_path / "to", tmp_path / "again"
    points = export(filled, "acme", to, quiet)
    assert points == 2 * 30_000 + 100 + 100 + 2 * 8 + 3
    assert await bring(to, again)
    assert rows(again) == rows(filled)
    assert (await verify(again)).problems == []
    artifacts = [
        {path.relative_to(data): path.read_bytes() for path in data.rglob("artifacts/*/*/**/*")
         if path.is_file()}
        for data in (filled, again)
    ]  # fmt: skip
    assert artifacts[0] == artifacts[1]
    assert len(artifacts[0]) == 2
    first = await opening(filled, Options(compact=False))
    second = await opening(again, Options(compact=False))
    assert await series(first) == await series(second)
    async with (
        first.lease("acme", create=False) as one,
        second.lease("acme", create=False) as other,
    ):
        assert await one.run(RUN, complete=True) == await other.run(RUN, complete=True)
        await other.log(RUN, batch("loss", range(40_000, 40_010)))
        await other.create_run(new_run("4" * 32))
    await second.compact("acme")
    await second.close()
    assert (await verify(again)).problems == []


async def test_an_export_beside_a_running_server_is_one_instant(
    data: Path, tmp_path: Path, opening: Opening
):
    store = await opening(data, Options(compact=False))
    await fill(store)
    async with store.lease("acme", create=False) as tenant:
        done = asyncio.create_task(asyncio.to_thread(export, data, "acme", tmp_path / "to", quiet))
        logged = 0
        while not done.done():
            await tenant.log(RUN, batch("loss", [50_000 + logged]))
            logged += 1
        await done
    assert await bring(tmp_path / "to", tmp_path / "again")
    second = await opening(tmp_path / "again", Options(compact=False))
    async with second.lease("acme", create=False) as tenant:
        found = (await tenant.points(RUN, "loss")).steps.tolist()
    late = found[30_100:]
    assert found[:30_100] == list(range(30_100))
    assert late == list(range(50_000, 50_000 + len(late)))
    assert len(late) <= logged


async def test_an_import_that_was_interrupted_goes_on_and_a_second_one_changes_nothing(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parquet_export, "FILE_POINTS", 5_000)
    to, again = tmp_path / "to", tmp_path / "again"
    export(filled, "acme", to, quiet)
    whole = _Load._file
    seen: list[str] = []

    def failing(self: _Load, file: dict[str, object], path: str) -> None:
        if len(seen) % 3 == 2:
            seen.append("stopped")
            raise KeyboardInterrupt
        seen.append(path)
        whole(self, file, path)

    monkeypatch.setattr(_Load, "_file", failing)
    attempts = 0
    while True:
        attempts += 1
        try:
            assert await bring(to, again)
            break
        except KeyboardInterrupt:
            assert not (again / "tenants" / "acme").exists()
    assert attempts > 3
    paths = [path for path in seen if path != "stopped"]
    assert len(paths) == len(set(paths)), "no file is brought in twice"
    assert rows(again) == rows(filled)
    before = (again / "tenants/acme/tenant.db").read_bytes()
    assert await bring(to, again) is False
    assert (again / "tenants/acme/tenant.db").read_bytes() == before
    assert [one.name for one in (again / "tenants").iterdir()] == ["acme"]
    other = tmp_path / "other"
    (other / "tenants" / "acme").mkdir(parents=True)
    with pytest.raises(Conflict):
        await bring(to, other)


async def test_other_programs_find_names_beside_the_numbers(filled: Path, tmp_path: Path):
    to = tmp_path / "to"
    export(filled, "acme", to, quiet)
    [params] = (to / "tables" / "param").iterdir()
    columns = dict.fromkeys(("run_id", "name", "value"), "text")
    found = {row for page in read_rows(params, columns) for row in page}
    assert (RUN, "lr", "1e-3") in found
    [points] = (to / "points").iterdir()
    texts = [row for page in read_rows(points, {"run_id": "text", "key": "text"}) for row in page]
    assert set(texts) == {(r, k) for r in (RUN, OTHER) for k in ("loss", "extreme/ünï")} | {
        (RUN, "fresh")
    }
    [values] = next(read_points(points, {"value": "double"}))
    assert values.dtype == FLOAT64


@pytest.mark.parametrize("kind", ["points", "tables/run", "artifacts"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
async def test_a_damaged_export_is_refused_with_the_file(
    filled: Path, tmp_path: Path, kind: str, damage: str
):
    to = tmp_path / "to"
    export(filled, "acme", to, quiet)
    file = next(path for path in sorted((to / kind).rglob("*")) if path.is_file())
    raw = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(raw[:-1])
    else:
        raw[random.Random(kind).randrange(len(raw))] ^= 16
        file.write_bytes(raw)
    with pytest.raises(Corrupt, match=file.name):
        await bring(to, tmp_path / "again")
    assert not (tmp_path / "again/tenants/acme").exists()


async def test_a_damaged_series_is_not_exported_as_if_it_were_whole(filled: Path, tmp_path: Path):
    with sqlite3.connect(filled / "tenants/acme/tenant.db") as connection:
        connection.execute("update chunk set data = zeroblob(length(data)) where id = 2")
    connection.close()
    with pytest.raises(Corrupt, match=f"run ({RUN}|{OTHER}), series .*, chunk 2"):
        export(filled, "acme", tmp_path / "to", quiet)
    assert list(tmp_path.glob("*to*")) == []


async def test_what_is_no_export_and_who_is_no_tenant(filled: Path, tmp_path: Path):
    with pytest.raises(NotFound):
        Source(tmp_path)
    with pytest.raises(NotFound):
        export(filled, "nobody", tmp_path / "to", quiet)
    export(filled, "acme", tmp_path / "to", quiet)
    with pytest.raises(Conflict):
        export(filled, "acme", tmp_path / "to", quiet)
    shutil.rmtree(tmp_path / "to" / "tables")
    with pytest.raises(Corrupt):
        await bring(tmp_path / "to", tmp_path / "again")
