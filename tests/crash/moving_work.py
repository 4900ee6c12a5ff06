"""A tenant moves: a backup is made, restored over what stands there, exported, imported.

As a program with the shim preloaded: ``moving_work.py FOLDER --source=BACKUP|EXPORT --kind=KIND``
does it once on FOLDER/data and marks in the shim's record when it began and when it had ended.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

from stepwell_storage.backups import back_up
from stepwell_storage.errors import NotFound
from stepwell_storage.parquet_export import export
from stepwell_storage.parquet_import import import_parquet
from stepwell_storage.parquet_source import Source
from stepwell_storage.records import NewRun
from stepwell_storage.restoring import restore
from stepwell_storage.store import Options, Store
from tests.crash.engine_work import Shim
from tests.crash.plans import FILES, KEYS, Action, batch_of

TENANT = "acme"
KINDS = ("backup", "restore", "export", "import")
LOGS = 3
OLD, NEW = 1, 2
"""The runs of what stands there, and of what takes its place."""


def logs(run: int) -> list[Action]:
    return [Action(n, "log", run, 200 * n, 200, KEYS) for n in range(LOGS)]


def file_of(run: int, path: str) -> bytes:
    return random.Random(f"{run} {path}").randbytes(3_000 * run)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def make(data: Path, run: int) -> None:
    """A tenant of one run, some of it sealed."""
    store = await Store.open(data, Options(compact=False))
    async with store.lease(TENANT, create=True) as tenant:
        for log in logs(run):
            await tenant.create_run(NewRun(run_id=log.run_id, name="a run", start_time=1_000))
            await tenant.log(log.run_id, batch_of(log))
            if not log.number:
                await store.compact(TENANT)
        files = tenant.artifacts.of_run(logs(run)[0].run_id)
        for path in FILES:
            await files.put(path, _pieces(file_of(run, path)))
    await store.close()


async def what_is_there(data: Path) -> int | None:
    """Which of the tenants, whole; None where there is none.  Raises AssertionError for a part."""
    store = await Store.open(data, Options(compact=False))
    try:
        if not store.exists(TENANT):
            return None
        async with store.lease(TENANT, create=False) as tenant:
            for run in (OLD, NEW):
                log = logs(run)[0]
                try:
                    found = await tenant.run(log.run_id)
                except NotFound:
                    continue
                assert found.params == {f"param {n}": "set" for n in range(LOGS)}
                for key in KEYS:
                    steps = (await tenant.points(log.run_id, key)).steps.tolist()
                    assert steps == list(range(200 * LOGS))
                for path in FILES:
                    async with await tenant.artifacts.of_run(log.run_id).open(path) as file:
                        assert await file.read(0, 10_000) == file_of(run, path)
                return run
        raise AssertionError("a tenant without its run")
    finally:
        await store.close()


async def move(kind: str, source: Path, disk: Path) -> None:
    """Once; again after it was interrupted."""
    data = disk / "data"
    (data / "tenants").mkdir(parents=True, exist_ok=True)
    if kind == "backup":
        back_up(source, [TENANT], disk / "backup")
    elif kind == "restore":
        await restore(source, [], data, replace=True)
    elif kind == "export":
        export(source, TENANT, disk / "export", lambda *_: None)
    else:
        await import_parquet(Source(source), data / "tenants", TENANT, lambda *_: None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    options = parser.parse_args()
    shim = Shim()
    if options.kind == "restore":
        asyncio.run(make(options.folder / "data", OLD))
    shim.mark("sent", 0)
    asyncio.run(move(options.kind, options.source, options.folder))
    shim.mark("done", 0)


if __name__ == "__main__":
    main()
