"""The model registry: names for models, their versions, and aliases for versions.

A version is registered from a source (a run's files, a logged model, another version) and keeps
where its files lie.  Numbers of versions ascend from 1 and are never used again.  Reads stand in
``registered.py``; what is written here runs in the committer's transaction and checks first.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from stepwell_storage import listing, registered
from stepwell_storage.clock import now_ms
from stepwell_storage.database import Reader, Transaction
from stepwell_storage.errors import Conflict
from stepwell_storage.records import ListQuery, ModelVersion, NewVersion, RegisteredModel
from stepwell_storage.statements import sql

Change = Callable[[Callable[[Transaction], Awaitable[Any]]], Awaitable[Any]]
Read = Callable[..., AbstractAsyncContextManager[Reader]]

FIRST_STAGE = "None"
ARCHIVED = "Archived"


class Registry:
    """Of one tenant.  Every call raises NotFound where the model or the version is unknown."""

    def __init__(self, change: Change, read: Read) -> None:
        self._change = change
        self._read = read

    # --- registered models ---------------------------------------------------------------------

    async def create(
        self, name: str, *, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> RegisteredModel:
        """Raises Conflict where the name is taken."""

        async def work(tx: Transaction) -> None:
            if await tx.fetch(sql.registered_model_by_name, (name,)):
                raise Conflict(f"a registered model named {name!r} exists already")
            number = (await tx.fetch(sql.next_registered_model))[0][0]
            now = now_ms()
            await tx.execute(sql.insert_registered_model, (number, name, description, now, now))
            rows = [(number, key, value) for key, value in sorted((tags or {}).items())]
            await tx.executemany(sql.set_registered_model_tag, rows)

        await self._change(work)
        return await self.get(name)

    async def get(self, name: str) -> RegisteredModel:
        async with self._read(settled=False) as reader:
            number = await registered.model_number(reader, name)
            return (await registered.models(reader, [number]))[0]

    async def search(self, query: ListQuery) -> tuple[list[RegisteredModel], str | None]:
        """A page, with the next cursor.  Raises Invalid and BadCursor."""
        async with self._read(settled=False) as reader:
            numbers, cursor = await listing.find(reader, listing.REGISTERED_MODELS, query)
            return await registered.models(reader, numbers), cursor

    async def rename(self, name: str, new_name: str) -> RegisteredModel:
        """Raises Conflict where the new name is taken."""

        async def work(tx: Transaction) -> None:
            number = await registered.model_number(tx, name)
            taken = await tx.fetch(sql.registered_model_by_name, (new_name,))
            if taken and taken[0][0] != number:
                raise Conflict(f"a registered model named {new_name!r} exists already")
            now = now_ms()
            await tx.execute(sql.rename_registered_model, (new_name, now, number))
            await tx.execute(sql.touch_versions, (now, number))

        await self._change(work)
        return await self.get(new_name)

    async def describe(self, name: str, description: str | None) -> RegisteredModel:
        async def work(tx: Transaction) -> None:
            number = await registered.model_number(tx, name)
            await tx.execute(sql.describe_registered_model, (description, now_ms(), number))

        await self._change(work)
        return await self.get(name)

    async def delete(self, name: str) -> None:
        """With its versions, tags and aliases."""

        async def work(tx: Transaction) -> None:
            number = await registered.model_number(tx, name)
            for statement in (
                sql.delete_tags_of_versions, sql.delete_versions, sql.delete_aliases,
                sql.delete_registered_model_tags, sql.delete_registered_model,
            ):  # fmt: skip
                await tx.execute(statement, (number,))

        await self._change(work)

    async def set_tag(self, name: str, key: str, value: str) -> None:
        async def work(tx: Transaction) -> None:
            number = await registered.model_number(tx, name)
            await tx.execute(sql.set_registered_model_tag, (number, key, value))
            await tx.execute(sql.touch_registered_model, (now_ms(), number))

        await self._change(work)

    async def delete_tag(self, name: str, key: str) -> bool:
        """False where there was no such tag."""

        async def work(tx: Transaction) -> bool:
            number = await registered.model_number(tx, name)
            return await tx.execute(sql.delete_registered_model_tag, (number, key)) > 0

        deleted: bool = await self._change(work)
        return deleted

    async def set_alias(self, name: str, alias: str, version: int) -> None:
        """An alias that names another version already moves."""

        async def work(tx: Transaction) -> None:
            number, _ = await registered.version_number(tx, name, version)
            await tx.execute(sql.set_model_alias, (number, alias, version))

        await self._change(work)

    async def delete_alias(self, name: str, alias: str) -> None:
        """None of that name is fine."""

        async def work(tx: Transaction) -> None:
            number = await registered.model_number(tx, name)
            await tx.execute(sql.delete_model_alias, (number, alias))

        await self._change(work)

    # --- versions ------------------------------------------------------------------------------

    async def create_version(self, new: NewVersion) -> ModelVersion:
        async def work(tx: Transaction) -> int:
            model = await registered.model_number(tx, new.name)
            version: int = (await tx.fetch(sql.next_version, (now_ms(), model)))[0][0]
            number = (await tx.fetch(sql.next_model_version))[0][0]
            now = now_ms()
            row = (number, model, version, new.description, new.user_id, FIRST_STAGE, new.source,
                   new.location, new.run_id, new.run_link, new.model_id, now, now)  # fmt: skip
            await tx.execute(sql.insert_model_version, row)
            rows = [(number, key, value) for key, value in sorted(new.tags.items())]
            await tx.executemany(sql.set_model_version_tag, rows)
            return version

        return await self.version(new.name, await self._change(work))

    async def version(self, name: str, version: int) -> ModelVersion:
        async with self._read(settled=False) as reader:
            _, number = await registered.version_number(reader, name, version)
            return (await registered.versions(reader, [number]))[0]

    async def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """The version that an alias names; None where the model has no such alias."""
        async with self._read(settled=False) as reader:
            model = await registered.model_number(reader, name)
            rows = await reader.fetch(sql.version_by_alias, (model, alias))
            found = await registered.versions(reader, [row[0] for row in rows])
            return found[0] if found else None

    async def latest(self, name: str) -> list[ModelVersion]:
        """The newest version of each stage."""
        return (await self.get(name)).latest

    async def search_versions(self, query: ListQuery) -> tuple[list[ModelVersion], str | None]:
        """A page, with the next cursor.  Raises Invalid and BadCursor."""
        async with self._read(settled=False) as reader:
            numbers, cursor = await listing.find(reader, listing.MODEL_VERSIONS, query)
            return await registered.versions(reader, numbers), cursor

    async def describe_version(
        self, name: str, version: int, description: str | None
    ) -> ModelVersion:
        async def work(tx: Transaction) -> None:
            model, number = await registered.version_number(tx, name, version)
            now = now_ms()
            await tx.execute(sql.describe_model_version, (description, now, number))
            await tx.execute(sql.touch_registered_model, (now, model))

        await self._change(work)
        return await self.version(name, version)

    async def set_stage(
        self, name: str, version: int, stage: str, *, archive: bool = False
    ) -> ModelVersion:
        """``archive`` moves the other versions of that stage to the archive."""

        async def work(tx: Transaction) -> None:
            model, number = await registered.version_number(tx, name, version)
            now = now_ms()
            if archive:
                binds = (ARCHIVED, now, model, stage, number)
                await tx.execute(sql.archive_stage, binds)
            await tx.execute(sql.set_version_stage, (stage, now, number))
            await tx.execute(sql.touch_registered_model, (now, model))

        await self._change(work)
        return await self.version(name, version)

    async def delete_version(self, name: str, version: int) -> None:
        """With its tags and aliases."""

        async def work(tx: Transaction) -> None:
            model, number = await registered.version_number(tx, name, version)
            await tx.execute(sql.delete_aliases_of_version, (model, version))
            await tx.execute(sql.delete_model_version_tags, (number,))
            await tx.execute(sql.delete_model_version, (number,))
            await tx.execute(sql.touch_registered_model, (now_ms(), model))

        await self._change(work)

    async def set_version_tag(self, name: str, version: int, key: str, value: str) -> None:
        async def work(tx: Transaction) -> None:
            _, number = await registered.version_number(tx, name, version)
            await tx.execute(sql.set_model_version_tag, (number, key, value))

        await self._change(work)

    async def delete_version_tag(self, name: str, version: int, key: str) -> bool:
        """False where there was no such tag."""

        async def work(tx: Transaction) -> bool:
            _, number = await registered.version_number(tx, name, version)
            return await tx.execute(sql.delete_model_version_tag, (number, key)) > 0

        deleted: bool = await self._change(work)
        return deleted
