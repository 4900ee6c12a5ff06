"""Registered models that were made elsewhere: with their own numbers of versions and times."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell_storage.database import Transaction
from stepwell_storage.records import ModelVersion, RegisteredModel
from stepwell_storage.statements import sql


async def write(tx: Transaction, model: RegisteredModel, versions: Sequence[ModelVersion]) -> bool:
    """Whether the model was new.

    One that is here gets the versions, tags and aliases that it has not; what changed here later
    than in the source stays.
    """
    rows = await tx.fetch(sql.registered_model_by_name, (model.name,))
    if rows:
        number = rows[0][0]
        changed_at = (await tx.fetch(sql.registered_model_changed_at, (number,)))[0][0]
    else:
        number, changed_at = (await tx.fetch(sql.next_registered_model))[0][0], -1
        new = (number, model.name, model.description, model.created_at, model.updated_at)
        await tx.execute(sql.import_registered_model, new)
    if changed_at < model.updated_at:
        row = (model.description, model.updated_at, number)
        await tx.execute(sql.describe_registered_model, row)
        tags = [(number, name, value) for name, value in sorted(model.tags.items())]
        await tx.executemany(sql.set_registered_model_tag, tags)
        aliases = [(number, name, version) for name, version in sorted(model.aliases.items())]
        await tx.executemany(sql.set_model_alias, aliases)
    for version in versions:
        await _write_version(tx, number, version)
    await tx.execute(sql.next_version_after, (number, number))
    return not rows


async def _write_version(tx: Transaction, model: int, version: ModelVersion) -> None:
    v = version
    rows = await tx.fetch(sql.model_version_row, (model, v.version))
    if rows:
        number = rows[0][0]
        if (await tx.fetch(sql.version_changed_at, (number,)))[0][0] >= v.updated_at:
            return
        await tx.execute(sql.describe_model_version, (v.description, v.updated_at, number))
        await tx.execute(sql.set_version_stage, (v.stage, v.updated_at, number))
    else:
        number = (await tx.fetch(sql.next_model_version))[0][0]
        row = (number, model, v.version, v.description, v.user_id, v.stage, v.source, v.location,
               v.run_id, v.run_link, v.model_id, v.created_at, v.updated_at)  # fmt: skip
        await tx.execute(sql.insert_model_version, row)
    tags = [(number, name, value) for name, value in sorted(v.tags.items())]
    await tx.executemany(sql.set_model_version_tag, tags)
