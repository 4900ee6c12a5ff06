"""The model registry in MLflow's database: registered models, their versions and aliases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from stepwell_storage.records import ModelVersion, RegisteredModel

_LOGGED: Final = re.compile(r"models:/(m-[0-9a-f]{32})(?:/.*)?")
_DELETED: Final = "Deleted_Internal"
"""The stage of a version that is gone; its row stays so that its number is not used again."""
Rows = Callable[..., Iterator[Sequence[Any]]]


class Registry:
    """``rows`` runs a statement with its binds."""

    def __init__(self, tables: Mapping[str, set[str]], rows: Rows, workspace: str) -> None:
        self._tables = tables
        self._rows = rows
        self._workspace = workspace

    def models(self) -> Iterator[tuple[RegisteredModel, list[ModelVersion]]]:
        found: dict[str, tuple[RegisteredModel, list[ModelVersion]]] = {}
        columns: tuple[str, ...] = ("name", "description", "creation_time", "last_updated_time")
        for name, description, made, changed in self._select("registered_models", columns):
            made, changed = _times(made, changed)
            found[name] = RegisteredModel(name, description, made, changed), []
        for name, key, value in self._select("registered_model_tags", ("name", "key", "value")):
            if name in found:
                found[name][0].tags[key] = value or ""
        columns = ("name", "alias", "version")
        for name, alias, version in self._select("registered_model_aliases", columns):
            if name in found:
                found[name][0].aliases[alias] = version
        versions = {}
        for version in self._versions():
            if version.name in found:
                versions[version.name, version.version] = version
                found[version.name][1].append(version)
        columns = ("name", "version", "key", "value")
        for name, number, key, value in self._select("model_version_tags", columns):
            if (name, number) in versions:
                versions[name, number].tags[key] = value or ""
        yield from found.values()

    def _versions(self) -> Iterator[ModelVersion]:
        columns = ("name", "version", "description", "user_id", "current_stage", "source",
                   "storage_location", "run_id", "run_link", "creation_time",
                   "last_updated_time")  # fmt: skip
        for row in self._select("model_versions", columns, "order by name, version"):
            (name, version, description, user, stage, source, location, run_id, link, made,
             changed) = row  # fmt: skip
            if stage == _DELETED:
                continue
            made, changed = _times(made, changed)
            yield ModelVersion(
                name=name,
                version=version,
                description=description,
                user_id=user,
                stage=stage or "None",
                source=source or "",
                location=location or source or "",
                run_id=run_id,
                run_link=link,
                model_id=logged_model(source or ""),
                created_at=made,
                updated_at=changed,
            )

    def _select(
        self, table: str, columns: Sequence[str], order: str = ""
    ) -> Iterator[Sequence[Any]]:
        there = self._tables.get(table)
        if there is None:
            return iter(())
        words = ", ".join(column if column in there else "null" for column in columns)
        binds = [self._workspace] if "workspace" in there else []
        where = "where workspace = ?" if binds else ""
        return self._rows(f"select {words} from {table} {where} {order}", *binds)  # noqa: S608 - names of this file alone


def logged_model(source: str) -> str | None:
    """The id of the logged model that a version was made from, if its source says so."""
    match = _LOGGED.fullmatch(source)
    return match[1] if match else None


def _times(made: int | None, changed: int | None) -> tuple[int, int]:
    return made or 0, changed if changed is not None else made or 0
