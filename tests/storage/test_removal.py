"""A tenant is removed: those who use it are told, its name is free at once, nothing comes back."""

import asyncio
import errno
import os
from collections.abc import AsyncIterable
from pathlib import Path

import pytest

from stepwell_storage.errors import Closed, Full, NotFound
from stepwell_storage.store import Options, Store
from tests.storage.conftest import RUN, batch, new_run


async def pieces() -> AsyncIterable[bytes]:
    yield b"bytes"


async def filled(store: Store, name: str = "a") -> None:
    async with store.lease(name, create=True) as tenant:
        await tenant.create_run(new_run())
        await tenant.log(RUN, batch("loss", range(10)))
        await tenant.artifacts.of_run(RUN).put("file", pieces())


async def test_nothing_of_it_is_left_and_its_name_is_free(store: Store, data: Path):
    await filled(store)
    await filled(store, "b")
    await store.remove("a")
    assert store.names() == ["b"]
    assert [folder.name for folder in (data / "tenants").iterdir()] == ["b"]
    async with store.lease("a", create=False) as tenant:
        with pytest.raises(NotFound):
            await tenant.run(RUN)
    async with store.lease("a", create=True) as tenant:
        with pytest.raises(NotFound):
            await tenant.run(RUN)
        await tenant.create_run(new_run())
        assert len(await tenant.points(RUN, "loss")) == 0
    async with store.lease("b", create=False) as tenant:
        assert len(await tenant.points(RUN, "loss")) == 10


async def test_whoever_uses_it_is_told_and_what_was_queued_was_written(store: Store):
    await filled(store)
    async with store.lease("a", create=False) as tenant:
        queued = asyncio.ensure_future(tenant.log(RUN, batch("loss", [99])))
        await asyncio.sleep(0)
        await store.remove("a")
        await queued
        with pytest.raises(Closed):
            await tenant.log(RUN, batch("loss", [100]))
        with pytest.raises(Closed):
            await tenant.points(RUN, "loss")
    assert store.names() == []


async def test_a_tenant_that_opens_while_it_is_removed_does_not_come_back(store: Store, data: Path):
    await filled(store)
    await store.remove("a")

    async def use() -> None:
        async with store.lease("a", create=True):
            pass

    for _ in range(5):
        opening = asyncio.ensure_future(use())
        await asyncio.sleep(0)
        await store.remove("a")
        await asyncio.gather(opening, return_exceptions=True)
        known = set(store.names())
        assert known == {folder.name for folder in (data / "tenants").iterdir()}


async def test_removing_what_is_not_there_is_fine(store: Store):
    await store.remove("nobody")
    await asyncio.gather(filled(store), filled(store))
    await asyncio.gather(store.remove("a"), store.remove("a"))
    assert store.names() == []


async def test_a_note_is_read_without_opening_the_tenant(data: Path):
    store = await Store.open(data, Options(compact=False))
    async with store.lease("a", create=True) as tenant:
        await tenant.set_note("description", "words")
        assert await tenant.note("description") == "words"
        assert await tenant.is_empty()
    assert await store.note_of("a", "description") == "words"
    await store.close()
    store = await Store.open(data, Options(compact=False))
    assert await store.note_of("a", "description") == "words"
    assert await store.note_of("a", "other") is None
    assert await store.note_of("nobody", "description") is None
    assert store.opened() == []
    await store.close()


async def test_a_removal_that_the_disk_refuses_leaves_the_tenant_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    await filled(store)

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        with pytest.raises(Full):
            await store.remove("a")
    assert store.names() == ["a"]
    async with store.lease("a", create=False) as tenant:
        assert len(await tenant.points(RUN, "loss")) == 10
    await store.remove("a")
    assert store.names() == []


async def test_a_removal_whose_sync_failed_is_synced_when_it_is_asked_for_again(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
):
    await filled(store)
    synced: list[str] = []

    def fail(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        for _ in range(2):
            with pytest.raises(Full):
                await store.remove("a")
    assert synced == [str(data / "tenants")] * 2
    assert store.names() == []
    await store.remove("a")
