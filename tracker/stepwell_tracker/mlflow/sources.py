"""What a version is registered from: where its files lie, and which run and model they are of.

A source is a URI that clients, not this server, read later.  So it is held against the tenant:
files behind this server's proxy must be those of the run or the model that the request names, a
path of a client's own machine must lie where its experiment keeps its files, and no path climbs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, NoReturn
from urllib.parse import unquote, urlsplit

from stepwell_storage.errors import NotFound
from stepwell_storage.records import ModelVersion
from stepwell_storage.tenant import Tenant
from stepwell_tracker.mlflow import views
from stepwell_tracker.mlflow.errors import INVALID, MISSING, Refused
from stepwell_tracker.mlflow.filters import is_prompt
from stepwell_tracker.mlflow.registered import STAGES, aliased, find, find_version, newest

_MODEL_ID: Final = re.compile(r"m-[0-9a-f]{32}")
_PROXY: Final = "/mlflow-artifacts/artifacts"


@dataclass(frozen=True, slots=True)
class Asked:
    source: str
    run_id: str | None
    model_id: str | None
    is_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    source: str
    location: str
    run_id: str | None
    model_id: str | None


async def resolve(tenant: Tenant, asked: Asked) -> Resolved:
    """Raises Refused for what cannot be registered."""
    if asked.is_prompt:  # a prompt has no files; its source is a placeholder
        return Resolved(asked.source, asked.source, asked.run_id, asked.model_id)
    plain = _decoded(asked.source)
    scheme = _scheme(plain)
    if scheme is None or ".." in re.split(r"[/\\]", plain) or "\0" in plain:
        raise Refused(
            INVALID,
            f"Invalid model version source: '{asked.source[:500]}'. A source is an absolute path or"
            " URI without relative parts.",
        )
    if scheme == "models":
        return await _of_registry(tenant, asked, asked.source.partition(":")[2])
    if scheme == "runs":
        return await _of_run_uri(tenant, asked, asked.source.partition(":")[2])
    if asked.model_id:
        asked = await _with_run_of_model(tenant, asked)
    local = scheme in ("", "file") or len(scheme) == 1  # one letter: a drive
    if local or scheme == "mlflow-artifacts" or _PROXY in plain:
        await _require_own(tenant, asked)
    return Resolved(asked.source, asked.source, asked.run_id, asked.model_id)


async def _of_registry(tenant: Tenant, asked: Asked, rest: str) -> Resolved:
    """``models:/<model id>``, ``models:/<name>/<version>`` or ``models:/<name>@<alias>``."""
    if rest.startswith("//"):
        _refuse(asked, "model_id")
    path = rest.strip("/")
    if _MODEL_ID.fullmatch(path):
        if asked.model_id not in (None, path):
            _refuse(asked, "model_id")
        return await _of_model(tenant, replace(asked, model_id=path))
    version = await _version(tenant, asked, path)
    for given, known in ((asked.run_id, version.run_id), (asked.model_id, version.model_id)):
        if given is not None and given != known:
            raise Refused(
                INVALID,
                f"Invalid model version source: '{asked.source[:500]}'. The run_id and model_id"
                " request parameters must match the referenced model version.",
            )
    source = f"models:/{version.name}/{version.version}"
    return Resolved(source, version.location, version.run_id, version.model_id)


async def _version(tenant: Tenant, asked: Asked, path: str) -> ModelVersion:
    name, slash, which = path.partition("/")
    if not slash:
        name, at, alias = path.rpartition("@")
        if not at or not name:
            _refuse(asked, "model_id")
        return await aliased(tenant, name, alias)
    model = await find(tenant, name)
    if is_prompt(model.tags):
        _refuse(asked, "model_id")
    if which.isascii() and which.isdecimal() and len(which) < 19:
        return await find_version(tenant, name, int(which))
    if which.lower() == "latest":
        return newest(model)
    for one in model.latest:
        if one.stage.lower() == which.lower() and one.stage in STAGES:
            return one
    raise Refused(MISSING, f"Model Version (name={name}, version={which[:100]}) not found")


async def _of_model(tenant: Tenant, asked: Asked) -> Resolved:
    location, run_id = await _model(tenant, asked)
    return Resolved(asked.source, location, asked.run_id or run_id, asked.model_id)


async def _of_run_uri(tenant: Tenant, asked: Asked, rest: str) -> Resolved:
    """``runs:/<run id>/<path>``, as the files of that run."""
    run_id, _, path = rest.lstrip("/").partition("/")
    if rest.startswith("//") or asked.run_id not in (None, run_id):
        _refuse(asked, "run_id")
    asked = replace(asked, run_id=run_id)
    location = await _run(tenant, asked)
    return Resolved(asked.source, f"{location}/{path}".rstrip("/"), run_id, asked.model_id)


async def _with_run_of_model(tenant: Tenant, asked: Asked) -> Asked:
    _, run_id = await _model(tenant, asked)
    return replace(asked, run_id=asked.run_id or run_id)


async def _require_own(tenant: Tenant, asked: Asked) -> None:
    """Raises Refused unless the source lies below the run or the model that the request names."""
    roots = []
    if asked.model_id:
        roots.append((await _model(tenant, asked))[0])
    if asked.run_id:
        roots.append(await _run(tenant, asked))
    place = _place(asked.source)
    if not any(place == _place(root) or place.startswith(_place(root) + "/") for root in roots):
        _refuse(asked, "model_id" if asked.model_id else "run_id")


async def _model(tenant: Tenant, asked: Asked) -> tuple[str, str | None]:
    """Where the files of the model lie, and the run that made it."""
    try:
        model = await tenant.models.get(asked.model_id or "")
    except NotFound:
        _refuse(asked, "model_id")
    home = await tenant.experiment_by_number(model.experiment_number)
    return views.model_location(home, model.model_id), model.source_run_id


async def _run(tenant: Tenant, asked: Asked) -> str:
    """Where the files of the run lie."""
    try:
        number = await tenant.experiment_of_run(asked.run_id or "")
    except NotFound:
        _refuse(asked, "run_id")
    return views.run_location(await tenant.experiment_by_number(number), asked.run_id or "")


def _scheme(text: str) -> str | None:
    """Lower case, empty for a bare path; None where it is no URI."""
    try:
        return urlsplit(text).scheme
    except ValueError:
        return None


def _decoded(text: str) -> str:
    while (further := unquote(text)) != text:
        text = further
    return text


def _place(uri: str) -> str:
    """A URI for comparison: decoded, no doubled slashes."""
    parts = urlsplit(_decoded(uri))
    scheme = parts.scheme.replace("file", "")
    return f"{scheme}:{parts.netloc}" + re.sub("/+", "/", "/" + parts.path).rstrip("/")


def _refuse(asked: Asked, field: str) -> NoReturn:
    raise Refused(
        INVALID,
        f"Invalid model version source: '{asked.source[:500]}'. The {field} request parameter must"
        " identify the resource that contains the source.",
    ) from None
