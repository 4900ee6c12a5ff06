"""Exports that were torn, forged or never were: refused with the file, and nothing is left."""

import hashlib
import json
import random
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from arro3.core import Array, DataType, RecordBatch
from arro3.io import write_parquet

from stepwell_storage.errors import Corrupt, NotFound, StorageError, Unsupported
from stepwell_storage.parquet_export import MANIFEST, export
from stepwell_storage.parquet_import import import_parquet
from stepwell_storage.parquet_source import Source
from stepwell_storage.store import Options, Store
from tests.storage.conftest import RUN, batch, new_run

Lines = list[dict[str, Any]]


def quiet(path: str, size: int) -> None: ...


async def body() -> AsyncIterator[bytes]:
    yield b"# card"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import asyncio

    folder = tmp_path_factory.mktemp("whole")
    asyncio.run(_make(folder / "data"))
    export(folder / "data", "acme", folder / "to", quiet)
    return folder / "to"


async def _make(data: Path) -> None:
    store = await Store.open(data, Options(compact=False))
    async with store.lease("acme", create=True) as tenant:
        await tenant.create_run(new_run(params={"lr": "1e-3"}, tags={"a": "b"}))
        await tenant.log(RUN, batch("loss", range(500)))
        await tenant.artifacts.of_run(RUN).put("card.md", body())
    await store.close()


@pytest.fixture
def to(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "to")


def lines_of(to: Path) -> Lines:
    return [json.loads(line) for line in (to / MANIFEST).read_text().splitlines()]


def write_lines(to: Path, lines: Lines) -> None:
    (to / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))


def forge(to: Path, path: str) -> None:
    """Let the manifest say that a file is as it is now."""
    raw = (to / path).read_bytes()
    lines = lines_of(to)
    for line in lines[1:]:
        if line["path"] == path:
            line |= {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    write_lines(to, lines)


async def bring(to: Path, data: Path) -> bool:
    tenants = data / "tenants"
    tenants.mkdir(parents=True, exist_ok=True)
    source = Source(to)
    return await import_parquet(source, tenants, source.tenant, quiet)


async def refused(to: Path, kind: type[StorageError], word: str) -> None:
    data = to.parent / "again"
    with pytest.raises(kind, match=word):
        await bring(to, data)
    assert not (data / "tenants").exists() or list((data / "tenants").iterdir()) == []
    assert sorted(one.name for one in to.parent.iterdir()) in (["again", "to"], ["to"])


async def test_the_export_that_these_tests_spoil_comes_in(to: Path):
    assert await bring(to, to.parent / "again")


def entry(path: str) -> Callable[[Lines], object]:
    return lambda lines: lines[-1].update(path=path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda lines: lines.pop(), "files and says that there are"),
        (lambda lines: lines.append(lines[-1]), "files and says that there are"),
        (lambda lines: (lines.append(lines[-1]), lines[0].update(files=len(lines) - 1)), "twice"),
        (lambda lines: lines[0].update(tenant="../evil"), "no tenant's name"),
        (lambda lines: lines[0].update(tenant="Acme"), "no tenant's name"),
        (lambda lines: lines[0].update(tenant=None), "no tenant's name"),
        (lambda lines: lines[0].update(points=True), "how many points"),
        (lambda lines: lines[0].update(points=499), "500 points came where 499"),
        (lambda lines: lines[-1].pop("size"), "no file of an export"),
        (entry(f"artifacts/runs/{RUN}/../../../../x"), "no file of an export"),
        (entry(f"artifacts/runs/{RUN}//x"), "no file of an export"),
        (entry("/etc/passwd"), "no file of an export"),
        (entry("artifacts/runs/me/x"), "no file of an export"),
        (entry("tables/chunk/000001.parquet"), "no file of an export"),
        (entry("tables/sqlite_master/000001.parquet"), "is missing"),
        (entry("points/../x.parquet"), "no file of an export"),
    ],
)  # fmt: skip
async def test_a_manifest_that_lies(to: Path, change: Callable[[Lines], object], word: str):
    lines = lines_of(to)
    change(lines)
    write_lines(to, lines)
    await refused(to, Corrupt, word)


@pytest.mark.parametrize("text", ["", "{}", "[1]\n", "null\n", '{"format": "x"}', "\x00", '{"form'])
async def test_a_manifest_that_is_none(to: Path, text: str):
    (to / MANIFEST).write_text(text)
    await refused(to, NotFound, "is no export")


async def test_a_manifest_that_is_cut_anywhere(to: Path):
    raw = (to / MANIFEST).read_bytes()
    dice = random.Random(5)
    for end in {0, 1, len(raw) - 2, *(dice.randrange(len(raw)) for _ in range(60))}:
        (to / MANIFEST).write_bytes(raw[:end])
        with pytest.raises((NotFound, Corrupt)):
            await bring(to, to.parent / "again")


@pytest.mark.parametrize(("key", "by"), [("format", 1), ("version", 1), ("version", -1)])
async def test_another_version_is_refused_with_advice(to: Path, key: str, by: int):
    lines = lines_of(to)
    lines[0][key] += by
    write_lines(to, lines)
    await refused(to, Unsupported, "newer Stepwell" if by > 0 else "export anew")


@pytest.mark.parametrize("path", ["points/000001.parquet", "tables/run/000001.parquet"])
async def test_files_that_are_no_parquet_though_the_manifest_vouches_for_them(to: Path, path: str):
    raw = (to / path).read_bytes()
    for spoiled in (b"no parquet at all", raw[:-1]):
        (to / path).write_bytes(spoiled)
        forge(to, path)
        await refused(to, Corrupt, f"no Parquet file that can be read .*{path}")


@pytest.mark.parametrize("seed", range(6))
async def test_flipped_bits_that_the_manifest_vouches_for(to: Path, seed: int):
    """The library refuses, panics or aborts; or what comes out is checked like anything else."""
    dice = random.Random(seed)
    path = dice.choice(["points/000001.parquet", "tables/run/000001.parquet"])
    raw = bytearray((to / path).read_bytes())
    raw[dice.randrange(len(raw) - 400, len(raw))] ^= 1 << dice.randrange(8)  # its footer
    (to / path).write_bytes(raw)
    forge(to, path)
    try:
        await bring(to, to.parent / "again")
    except Corrupt:
        assert list((to.parent / "again/tenants").iterdir()) == []


def integers(*values: int | None) -> Any:
    return Array(list(values), type=DataType.int64())


def points(**changed: Any) -> Any:
    columns = {name: integers(1, 1) for name in ("run", "name", "timestamp")}
    columns |= {"step": integers(1, 2), "value": Array([0.5, 0.25], type=DataType.float64())}
    columns |= changed
    return RecordBatch.from_pydict({name: one for name, one in columns.items() if one is not None})


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (points(value=None), "no column value"),
        (points(value=integers(1, 2)), "no column value of type"),
        (points(step=Array(["1", "2"], type=DataType.utf8())), "no column step of type"),
        (points(timestamp=integers(1, None)), "without a number"),
        (points(step=integers(2, 1)), "000001.parquet"),
        (points(step=integers(1, 1), value=Array([0.5, 0.5], type=DataType.float64())), "parquet"),
        (points(run=integers(7, 7)), "contradicts itself: .*run row 7"),
        (points(name=integers(99, 99)), "contradicts itself: .*99"),
    ],
)
async def test_points_of_another_program(to: Path, made: Any, word: str):
    path = "points/000001.parquet"
    write_parquet(made, to / path)
    forge(to, path)
    lines = lines_of(to)
    lines[0]["points"] = 2
    write_lines(to, lines)
    await refused(to, Corrupt, word)


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"id": integers(1), "text": Array([None], type=DataType.utf8())}, "rows that cannot be"),
        ({"id": integers(1)}, "no column text"),
        ({"id": integers(1), "text": integers(1)}, "no column text of type"),
        ({"id": integers(77), "text": Array(["x"], type=DataType.utf8())}, "contradicts itself"),
    ],
)
async def test_tables_of_another_program(to: Path, columns: dict[str, Any], word: str):
    path = "tables/name/000001.parquet"
    write_parquet(RecordBatch.from_pydict(columns), to / path)
    forge(to, path)
    await refused(to, Corrupt, word)


async def test_a_table_that_there_is_not(to: Path):
    lines = lines_of(to)
    path = next(line["path"] for line in lines[1:] if line["path"].startswith("tables/run/"))
    (to / "tables/evil").mkdir()
    (to / path).rename(to / "tables/evil/000001.parquet")
    for line in lines[1:]:
        if line["path"] == path:
            line["path"] = "tables/evil/000001.parquet"
    write_lines(to, lines)
    await refused(to, Corrupt, "there is no table evil")


async def test_a_link_out_of_the_export_is_not_followed(to: Path):
    path = to / f"artifacts/runs/{RUN}/card.md"
    path.unlink()
    path.symlink_to("/etc/hostname")
    forge(to, f"artifacts/runs/{RUN}/card.md")
    await refused(to, Corrupt, "is not what was exported")
