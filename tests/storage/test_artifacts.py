from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import random
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stepwell_storage.artifacts import WRITE_BYTES, Artifacts, OwnedFiles
from stepwell_storage.errors import BadCursor, Conflict, Full, Invalid, NotFound
from tests.hostile_paths import CANARY, HOSTILE

RUN = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
MODEL = "m-" + RUN


@pytest.fixture
def root(tmp_path):
    return tmp_path / "tenants" / "acme" / "artifacts"


@pytest.fixture
def files(root):
    return Artifacts(root).of_run(RUN)


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def contents(files: OwnedFiles, path: str) -> bytes:
    async with await files.open(path) as file:
        return await file.read(0, file.size)


def found(root: Path) -> list[str]:
    """Every file below root, links and uploads that are under way included."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


def folders(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_dir())


async def test_what_was_put_is_what_is_read(files, root):
    pieces = [os.urandom(random.Random(i).randrange(0, 70_000)) for i in range(20)]
    whole = b"".join(pieces)
    stored = await files.put("models/best/weights.bin", of(*pieces), size=len(whole))
    assert (stored.path, stored.size) == ("models/best/weights.bin", len(whole))
    assert stored.sha256 == hashlib.sha256(whole).hexdigest()
    assert await contents(files, "models/best/weights.bin") == whole
    assert found(root) == [f"runs/{RUN}/models/best/weights.bin"]
    async with await files.open("models/best/weights.bin") as file:
        assert await file.read(len(whole) - 5, 100) == whole[-5:]
        assert await file.read(len(whole), 100) == b""


async def test_an_empty_file_is_kept(files):
    stored = await files.put("empty", of())
    assert stored.size == 0
    assert stored.sha256 == hashlib.sha256(b"").hexdigest()
    assert await contents(files, "empty") == b""


async def test_reading_makes_no_folders(files, root):
    assert (await files.entries()).entries == []
    assert await files.delete("nothing") is False
    assert await files.delete_all() is False
    with pytest.raises(NotFound):
        await files.open("nothing")
    assert not root.exists()


async def test_a_model_does_not_read_a_run_of_the_same_digits(root):
    artifacts = Artifacts(root)
    await artifacts.of_run(RUN).put("a", of(b"run"))
    await artifacts.of_model(MODEL).put("a", of(b"model"))
    assert await contents(artifacts.of_run(RUN), "a") == b"run"
    assert await contents(artifacts.of_model(MODEL), "a") == b"model"
    with pytest.raises(NotFound):
        await artifacts.of_run(OTHER).open("a")
    for wrong in ["", "..", "../" + RUN, RUN.upper(), RUN + "/x", RUN + "\n"]:
        with pytest.raises(Invalid):
            artifacts.of_run(wrong)
        with pytest.raises(Invalid):
            artifacts.of_model(wrong)
    assert found(root) == [f"models/{MODEL}/a", f"runs/{RUN}/a"]


async def test_files_are_readable_by_their_owner_alone(files, root):
    before = os.umask(0)
    try:
        await files.put("a/b/c.txt", of(b"secret"))
    finally:
        os.umask(before)
    for place in [root, *root.rglob("*")]:
        assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0, place


async def test_overwriting_shows_readers_one_file_or_the_other(files):
    old, new = b"o" * 900_000, b"n" * 700_000
    await files.put("f", of(old))
    async with await files.open("f") as file:
        start = await file.read(0, 1_000)
        await files.put("f", of(new))
        assert start + await file.read(1_000, file.size) == old
        before = file.version
    async with await files.open("f") as file:
        assert file.version != before
        assert await file.read(0, file.size) == new


async def test_of_concurrent_uploads_of_one_name_one_is_there_whole(files, root):
    bodies = [bytes([65 + i]) * (WRITE_BYTES + 1_000 * i) for i in range(8)]

    async def slow(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]
            await asyncio.sleep(0)

    stored = await asyncio.gather(*(files.put("same", slow(body)) for body in bodies))
    assert [s.size for s in stored] == [len(body) for body in bodies]
    assert await contents(files, "same") in bodies
    assert found(root) == [f"runs/{RUN}/same"]


async def test_a_broken_upload_leaves_nothing(files, root):
    await files.put("kept/old", of(b"old"))

    async def breaks() -> AsyncIterator[bytes]:
        yield b"x" * (2 * WRITE_BYTES)
        raise ConnectionError("the client vanished")

    for name in ["kept/old", "new/folder/file"]:
        with pytest.raises(ConnectionError):
            await files.put(name, breaks())
    assert await contents(files, "kept/old") == b"old"
    assert found(root) == [f"runs/{RUN}/kept/old"]
    assert folders(root) == ["incoming", "runs", f"runs/{RUN}", f"runs/{RUN}/kept"]


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 13])
async def test_a_cancelled_upload_leaves_nothing(files, root, after):
    """Cancelled while bytes are awaited and while a thread writes, at various moments."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * WRITE_BYTES
            if sent > after + 2:
                await asyncio.sleep(3600)

    task = asyncio.create_task(files.put("f", endless()))
    while sent <= after:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert found(root) == []
    assert threading.active_count() < 40


async def test_leftovers_of_a_killed_server_go(root):
    """A process dies in mid-upload; the next upload of the next process sweeps."""
    script = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from stepwell_storage.artifacts import Artifacts\n"
        "async def chunks():\n"
        "    yield b'x' * 3_000_000\n"
        "    os._exit(9)\n"
        f"asyncio.run(Artifacts(Path(sys.argv[1])).of_run({RUN!r}).put('big', chunks()))\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(root)], check=False).returncode == 9  # noqa: ASYNC221
    assert len(found(root)) == 1
    assert found(root)[0].startswith("incoming/")
    files = Artifacts(root).of_run(RUN)
    assert (await files.entries()).entries == []
    await files.put("small", of(b"1"))
    assert found(root) == [f"runs/{RUN}/small"]


async def test_one_store_sweeps_away_the_uploads_of_another(root):
    """A tenant that is closed and opened again must not lose what is still arriving."""

    async def second_arrives() -> AsyncIterator[bytes]:
        yield b"a" * WRITE_BYTES
        await Artifacts(root).of_run(OTHER).put("b", of(b"b"))
        yield b"c"

    files = Artifacts(root).of_run(RUN)
    stored = await files.put("a", second_arrives())
    assert stored.size == WRITE_BYTES + 1
    assert len(await contents(files, "a")) == WRITE_BYTES + 1


async def test_a_file_and_a_folder_of_one_name(files, root):
    await files.put("a/b/c", of(b"1"))
    for path in ["a", "a/b"]:
        with pytest.raises(Conflict):
            await files.put(path, of(b"2"))
        with pytest.raises(NotFound):
            await files.open(path)
    for path in ["a/b/c/d", "a/b/c/d/e"]:
        with pytest.raises(Conflict):
            await files.put(path, of(b"2"))
        with pytest.raises(NotFound):
            await files.open(path)
        assert (await files.entries(path)).entries == []
        assert await files.delete(path) is False
    assert (await files.entries("a/b/c")).entries == []
    assert found(root) == [f"runs/{RUN}/a/b/c"]


async def test_a_refused_upload_is_read_to_its_end(files):
    await files.put("folder/file", of(b"1"))
    taken = []

    async def watched() -> AsyncIterator[bytes]:
        taken.append(1)
        yield b"x"

    with pytest.raises(Conflict):
        await files.put("folder", watched())
    with pytest.raises(Invalid):
        await files.put("../x", watched())
    with pytest.raises(Full):
        await files.put("huge", watched(), size=2**60)
    assert not taken


async def test_a_folder_that_appears_during_the_upload_is_replaced(files):
    async def meanwhile() -> AsyncIterator[bytes]:
        yield b"1"
        await files.put("name/inner", of(b"2"))

    with pytest.raises(Conflict):
        await files.put("name", meanwhile())
    assert await contents(files, "name/inner") == b"2"

    async def other_way() -> AsyncIterator[bytes]:
        yield b"1"
        await files.put("thing", of(b"2"))

    with pytest.raises(Conflict):
        await files.put("thing/inner/deep", other_way())
    assert await contents(files, "thing") == b"2"


async def test_a_listing_neither_skips_nor_repeats(files):
    names = sorted({f"f{i:03}" for i in range(57)} | {"é", "z z", "A", "%41", "日本"})
    for name in names:
        await files.put(f"d/{name}", of(name.encode()))
    await files.put("d/sub/x", of(b"x"))
    names = sorted([*names, "sub"])
    seen, cursor = [], None
    while True:
        page = await files.entries("d", limit=10, cursor=cursor)
        seen += page.entries
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.entries) == 10
        assert set(cursor) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
        )
    assert [e.path for e in seen] == ["d/" + name for name in names]
    sizes = {e.path: (e.is_dir, e.size) for e in seen}
    assert sizes["d/sub"] == (True, None)
    assert sizes["d/é"] == (False, 2)
    top = (await files.entries()).entries
    assert [(e.path, e.is_dir) for e in top] == [("d", True)]
    assert len((await files.entries("d", limit=len(names))).entries) == len(names)
    assert (await files.entries("d", limit=len(names))).next_cursor is None


async def test_a_damaged_cursor_starts_somewhere(files):
    for i in range(5):
        await files.put(f"d/{i}", of(b""))
        await files.put(f"e/{i}", of(b""))
    cursor = (await files.entries("d", limit=2)).next_cursor
    assert cursor is not None
    assert [e.path for e in (await files.entries("d", cursor=cursor)).entries] == [
        "d/2",
        "d/3",
        "d/4",
    ]
    wrong = [
        "",
        "x",
        "é",
        cursor[:-1],
        cursor + "A",
        cursor[::-1],
        "A" * 400,
        cursor + "=",
        " " + cursor,
    ]
    for damaged in [*wrong, cursor[:3] + ("A" if cursor[3] != "A" else "B") + cursor[4:]]:
        with pytest.raises(BadCursor):
            await files.entries("d", cursor=damaged)
    with pytest.raises(BadCursor):
        await files.entries("e", cursor=cursor)


async def test_deleting_leaves_files_or_takes_neighbours(files, root):
    for path in ["a/b/1", "a/b/2", "a/c", "ab/x", "z"]:
        await files.put(path, of(path.encode()))
    assert await files.delete("a/b/1") is True
    assert await files.delete("a/b/1") is False
    assert found(root) == [f"runs/{RUN}/{p}" for p in ["a/b/2", "a/c", "ab/x", "z"]]
    assert await files.delete("a") is True
    assert found(root) == [f"runs/{RUN}/{p}" for p in ["ab/x", "z"]]
    await files.put("a", of(b"a file now"))
    assert await files.delete_all() is True
    assert found(root) == []
    assert folders(root) == ["incoming"]


async def test_an_empty_folder_stands_in_the_way_after_a_delete(files):
    await files.put("a/b/c", of(b"1"))
    assert await files.delete("a/b/c")
    assert (await files.entries()).entries == []
    await files.put("a", of(b"2"))
    assert await contents(files, "a") == b"2"


async def test_a_deletion_is_acknowledged_though_a_sync_of_it_failed(files, monkeypatch):
    sync, calls = os.fsync, 0
    await files.put("a/b/c", of(b"1"))

    def count_down(fd: int) -> None:
        nonlocal calls
        calls -= 1
        if calls == 0:
            raise OSError(errno.EIO, "refused")
        sync(fd)

    monkeypatch.setattr(os, "fsync", count_down)
    for nth in range(1, 100):
        calls = nth
        try:
            await files.delete("a/b/c")
        except Full:
            calls = 0
            assert await files.delete("a/b/c") is False, "it stands again"
            await files.put("a/b/c", of(b"1"))
        else:
            assert calls > 0, f"the {nth}-th sync failed, and nobody heard of it"
            break
    assert nth > 4, "a, b, the run's and runs/ were left empty, and above each there is a sync"


async def test_deletes_and_uploads_in_one_folder_race(files, root, monkeypatch):
    """Pruning an empty folder must not pull it from under a file on its way in."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # so that threads meet often

    async def churn(name: str) -> None:
        for _ in range(150):
            await files.put(f"deep/er/and/deeper/{name}", of(b"x"))
            assert await files.delete(f"deep/er/and/deeper/{name}")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        await asyncio.gather(*(churn(str(i)) for i in range(6)))
    finally:
        sys.setswitchinterval(interval)
    assert found(root) == []


async def test_a_deleted_file_is_cut_off_for_its_reader(files):
    body = os.urandom(100_000)
    await files.put("d/f", of(body))
    async with await files.open("d/f") as file:
        await files.delete("d")
        assert await file.read(0, file.size) == body


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_no_half_of_a_file(files, root):
    """The kernel refuses to write on, as it does on a full disk (here: EFBIG)."""
    await files.put("old", of(b"old"))
    with largest_file(1_000_000), pytest.raises(Full):
        await files.put("old", of(*[b"x" * 300_000] * 10))
    with largest_file(1_000_000), pytest.raises(Full):
        await files.put("a/new", of(*[b"x" * 300_000] * 10))
    assert found(root) == [f"runs/{RUN}/old"]
    assert await contents(files, "old") == b"old"
    await files.put("a/new", of(b"room again"))
    assert await contents(files, "a/new") == b"room again"


async def test_no_link_leads_out(files, root, tmp_path):
    """Links can only be planted by somebody with access to the folder; still, none is followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / CANARY).write_text("canary")
    await files.put("inside/x", of(b"x"))
    base = root / "runs" / RUN
    (base / "folder").symlink_to(outside)
    (base / "file").symlink_to(outside / CANARY)
    (base / "loop").symlink_to(base / "loop")
    os.mkfifo(base / "pipe")
    for path in [f"folder/{CANARY}", "file", "loop", "pipe", "loop/x"]:
        with pytest.raises(NotFound):
            await files.open(path)
    assert [e.path for e in (await files.entries()).entries] == ["inside"]
    assert (await files.entries("folder")).entries == []
    for path in [f"folder/{CANARY}", "folder/new", "folder/a/b"]:
        with pytest.raises(Conflict):
            await files.put(path, of(b"overwritten"))
        assert await files.delete(path) is False
    await files.put("file", of(b"a file of its own"))
    assert (base / "file").is_symlink() is False
    assert await files.delete("folder") is True
    (base / "inside" / "out").symlink_to(outside)
    assert await files.delete("inside") is True
    assert [p.name for p in outside.iterdir()] == [CANARY]
    assert (outside / CANARY).read_text() == "canary"
    assert (base / "file").read_bytes() == b"a file of its own"


async def test_a_run_folder_that_is_a_link_is_not_followed(root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / CANARY).write_text("canary")
    (root / "runs").mkdir(parents=True)
    (root / "runs" / RUN).symlink_to(outside)
    files = Artifacts(root).of_run(RUN)
    with pytest.raises(NotFound):
        await files.open(CANARY)
    with pytest.raises(Conflict):
        await files.put("x", of(b"x"))
    await files.delete_all()
    assert [p.name for p in outside.iterdir()] == [CANARY]


async def test_a_hostile_name_reaches_no_file_outside(root, tmp_path):
    """For every name of the corpus: nothing outside the run's folder is read, made or deleted."""
    files = Artifacts(root).of_run(RUN)
    await files.put("kept", of(b"kept"))
    base = root / "runs" / RUN
    canaries = [parent / CANARY for parent in base.parents if parent.is_relative_to(tmp_path)]
    for canary in canaries:
        canary.write_text("canary")

    def outside() -> list[tuple[str, int]]:
        return sorted(
            (str(p), p.lstat().st_mtime_ns)
            for p in tmp_path.rglob("*")
            if p.is_file() and not p.is_relative_to(base)
        )

    before = outside()
    assert len(HOSTILE) > 500
    for name in HOSTILE:
        with contextlib.suppress(Invalid, NotFound):
            assert b"canary" not in await contents(files, name)
        with contextlib.suppress(Invalid, BadCursor):
            for entry in (await files.entries(name)).entries:
                assert CANARY not in entry.path
        with contextlib.suppress(Invalid):
            await files.delete(name)
    for name in HOSTILE[::7]:  # writing costs syncs
        with contextlib.suppress(Invalid, Conflict):
            await files.put(name, of(b"attack"))
            assert await contents(files, name) == b"attack"
            assert await files.delete(name)
    assert outside() == before
    assert await contents(files, "kept") == b"kept"


async def test_deep_and_wide_trees_exhaust_no_descriptors(files):
    deep = "/".join(["d"] * 100)
    await files.put(deep, of(b"1"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)  # what else is open in this process is not ours to count
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 48, limits[1]))
    try:
        await files.put(deep, of(b"2"))
        assert await contents(files, deep) == b"2"
        assert await files.delete(deep)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
