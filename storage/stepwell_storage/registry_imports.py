"""Registered models that were made elsewhere: with their own numbers of versions and times."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell_storage.database import Transaction
from stepwell_storage.records import ModelVersion, RegisteredModel
from stepwell_storage.statements import sql


async def write(tx: Transaction, model: RegisteredModel, versions: Sequence[ModelVersion]) -> None:
    """One that is here becomes as it is elsewhere; no number of a version is used again."""
    rows = await tx.fetch(sql.registered_model_by_name, (model.name,))
    if rows:
        number = rows[0][0]
        for statement in (
            sql.delete_tags_of_versions, sql.delete_versions, sql.delete_aliases,
            sql.delete_registered_model_tags,
        ):  # fmt: skip
            await tx.execute(statement, (number,))
        row = (model.description, model.updated_at, number)
        await tx.execute(sql.describe_registered_model, row)
    else:
        number = (await tx.fetch(sql.next_registered_model))[0][0]
        new = (number, model.name, model.description, model.created_at, model.updated_at)
        await tx.execute(sql.insert_registered_model, new)
    tags = [(number, name, value) for name, value in sorted(model.tags.items())]
    await tx.executemany(sql.set_registered_model_tag, tags)
    aliases = [(number, name, version) for name, version in sorted(model.aliases.items())]
    await tx.executemany(sql.set_model_alias, aliases)
    await _write_versions(tx, number, versions)
    await tx.execute(sql.next_version_after, (number, number))


async def _write_versions(tx: Transaction, model: int, versions: Sequence[ModelVersion]) -> None:
    rows, tags = [], []
    first = (await tx.fetch(sql.next_model_version))[0][0]
    for number, v in enumerate(versions, first):
        rows.append(
            (number, model, v.version, v.description, v.user_id, v.stage, v.source, v.location,
             v.run_id, v.run_link, v.model_id, v.created_at, v.updated_at)
        )  # fmt: skip
        tags += [(number, name, value) for name, value in sorted(v.tags.items())]
    await tx.executemany(sql.insert_model_version, rows)
    await tx.executemany(sql.set_model_version_tag, tags)
