"""Imports and exports as their commands do them, and a look at what they left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from stepwell_storage.points import Points
from stepwell_storage.records import Run
from stepwell_storage.store import Store
from stepwell_storage.tenant import Tenant
from stepwell_tracker import cli_export_mlflow, cli_import_mlflow


async def call(command: Callable[[list[str]], int], *arguments: str) -> int:
    """The exit code.  In a thread, since a command has an event loop of its own."""

    def plain() -> int:
        try:
            return command(list(arguments))
        except SystemExit as exit_:
            return int(exit_.code or 0)

    return await asyncio.to_thread(plain)


async def import_mlflow(source: object, data: Path, *more: str) -> int:
    where = ["--source", str(source), "--data", str(data)]
    return await call(cli_import_mlflow.main, *where, *more)


async def export_mlflow(dest: Path, data: Path, *more: str) -> int:
    return await call(cli_export_mlflow.main, str(dest), "--data", str(data), *more)


class Opened:
    """A tenant of a data directory, opened anew for a block."""

    def __init__(self, data: Path, name: str = "default") -> None:
        self._data, self._name = data, name

    async def __aenter__(self) -> Tenant:
        self._store = await Store.open(self._data)
        self._lease = self._store.lease(self._name, create=True)
        return await self._lease.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await self._lease.__aexit__()
        await self._store.close()


async def points(data: Path, run_id: str, key: str) -> Points:
    async with Opened(data) as tenant:
        return await tenant.points(run_id, key)


async def complete(data: Path, run_id: str) -> Run:
    async with Opened(data) as tenant:
        return await tenant.run(run_id, complete=True)
