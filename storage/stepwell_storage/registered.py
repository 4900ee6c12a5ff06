"""Reading the model registry: models and versions with what belongs to them."""

from collections.abc import Sequence

from stepwell_storage.database import Reader, in_list
from stepwell_storage.errors import NotFound
from stepwell_storage.names import pages
from stepwell_storage.records import ModelVersion, RegisteredModel
from stepwell_storage.statements import sql


async def model_number(reader: Reader, name: str) -> int:
    """Raises NotFound, which names the model."""
    rows = await reader.fetch(sql.registered_model_by_name, (name,))
    if not rows:
        raise NotFound(f"there is no registered model {name!r}")
    number: int = rows[0][0]
    return number


async def version_number(reader: Reader, name: str, version: int) -> tuple[int, int]:
    """The numbers of a model and of its version.  Raises NotFound likewise."""
    model = await model_number(reader, name)
    rows = await reader.fetch(sql.model_version_row, (model, version))
    if not rows:
        raise NotFound(f"registered model {name!r} has no version {version}")
    return model, rows[0][0]


async def models(reader: Reader, numbers: Sequence[int]) -> list[RegisteredModel]:
    """In this order."""
    found: dict[int, RegisteredModel] = {}
    for some in pages(numbers):
        for number, *row in await reader.fetch(in_list(sql.registered_models, len(some)), some):
            found[number] = RegisteredModel(*row)
        tags = await reader.fetch(in_list(sql.registered_model_tags, len(some)), some)
        for number, name, value in tags:
            found[number].tags[name] = value
        aliases = await reader.fetch(in_list(sql.aliases_of_models, len(some)), some)
        for number, name, version in aliases:
            found[number].aliases[name] = version
        newest: dict[int, list[int]] = {}
        latest = await reader.fetch(in_list(sql.latest_versions, len(some)), some)
        for number, _, version in latest:
            newest.setdefault(number, []).append(version)
        for number, wanted in newest.items():
            found[number].latest = await _of_model(reader, number, wanted)
    return [found[number] for number in numbers]


async def _of_model(reader: Reader, model: int, wanted: Sequence[int]) -> list[ModelVersion]:
    statement = in_list(sql.versions_by_numbers, len(wanted))
    ids = dict(await reader.fetch(statement, (model, *wanted)))
    return await versions(reader, [ids[version] for version in wanted])


async def versions(reader: Reader, numbers: Sequence[int]) -> list[ModelVersion]:
    """In this order."""
    found: dict[int, ModelVersion] = {}
    for some in pages(numbers):
        for number, *row in await reader.fetch(in_list(sql.model_versions, len(some)), some):
            found[number] = ModelVersion(*row)
        tags = await reader.fetch(in_list(sql.model_version_tags, len(some)), some)
        for number, name, value in tags:
            found[number].tags[name] = value
        aliases = await reader.fetch(in_list(sql.aliases_of_versions, len(some)), some)
        for number, name in aliases:
            found[number].aliases.append(name)
    return [found[number] for number in numbers]
