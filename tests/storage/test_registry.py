"""The registry of one tenant: numbers under concurrency, what a restart finds, what goes along."""

import asyncio
from pathlib import Path

import pytest

from stepwell_storage.check import verify
from stepwell_storage.errors import Conflict, NotFound
from stepwell_storage.records import ModelVersion, NewVersion
from stepwell_storage.store import Options, Store


def new(name: str = "m", run_id: str | None = None) -> NewVersion:
    return NewVersion(name, "s3://bucket/x", "s3://bucket/x", run_id=run_id)


async def test_versions_made_at_the_same_moment_share_no_number(store: Store):
    async with store.lease("a", create=True) as tenant:
        registry = tenant.registry
        results = await asyncio.gather(
            *(registry.create("m") for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(result, Conflict) for result in results) == 4
        made = await asyncio.gather(*(registry.create_version(new()) for _ in range(40)))
        assert sorted(version.version for version in made) == [*range(1, 41)]
        assert [version.version for version in (await registry.get("m")).latest] == [40]


async def test_a_restart_finds_it_all_and_verify_nothing_wrong(data: Path):
    store = await Store.open(data, Options(compact=False))
    async with store.lease("a", create=True) as tenant:
        registry = tenant.registry
        await registry.create("m", description="words", tags={"k": "v"})
        for run_id in ("r1", "r2"):
            await registry.create_version(new(run_id=run_id))
        await registry.set_alias("m", "best", 1)
        await registry.set_version_tag("m", 1, "t", "u")
        await registry.set_stage("m", 2, "Staging")
        before = await registry.get("m")
    await store.close()
    store = await Store.open(data, Options(compact=False))
    async with store.lease("a", create=False) as tenant:
        registry = tenant.registry
        assert await registry.get("m") == before
        assert (before.aliases, before.tags) == ({"best": 1}, {"k": "v"})
        first = await registry.version("m", 1)
        assert (first.tags, first.aliases, first.run_id) == ({"t": "u"}, ["best"], "r1")
        await registry.delete_version("m", 2)
        assert (await registry.create_version(new())).version == 3
    await store.close()
    assert (await verify(data)).problems == []


async def test_what_belongs_to_a_model_goes_with_it(store: Store, data: Path):
    async with store.lease("a", create=True) as tenant:
        registry = tenant.registry
        for name in ("gone", "kept"):
            await registry.create(name, tags={"k": name})
            await registry.create_version(new(name))
            await registry.set_alias(name, "best", 1)
            await registry.set_version_tag(name, 1, "t", name)
        await registry.delete("gone")
        with pytest.raises(NotFound):
            await registry.version("gone", 1)
        await registry.create("gone")
        empty = await registry.get("gone")
        assert (empty.tags, empty.aliases, empty.latest) == ({}, {}, [])
        made = await registry.create_version(new("gone"))
        assert (made.version, made.tags, made.aliases) == (1, {}, [])
        kept: ModelVersion | None = await registry.aliased("kept", "best")
        assert kept is not None
        assert kept.tags == {"t": "kept"}
