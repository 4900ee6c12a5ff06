"""Artifacts: the proxy that clients send files to, and listings of runs and models.

A path names an experiment, then a run or a model, then ``artifacts`` and the file.  The tenant is
that of the headers, never one that the path names, and what the path names must be there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from msgspec import Struct

from stepwell_storage.artifacts import Entry, OwnedFiles
from stepwell_storage.errors import Conflict, Invalid, NotFound
from stepwell_storage.paths import split
from stepwell_storage.records import RunQuery
from stepwell_storage.tenant import Tenant
from stepwell_tracker.files import FileReply
from stepwell_tracker.http import Reply, Request
from stepwell_tracker.mlflow import views
from stepwell_tracker.mlflow.errors import INVALID, MISSING, Refused, no_model, no_run
from stepwell_tracker.mlflow.experiments import Nothing
from stepwell_tracker.mlflow.fields import Fields
from stepwell_tracker.mlflow.ingest import require_active
from stepwell_tracker.mlflow.models import shown
from stepwell_tracker.mlflow.scopes import experiment_of, in_run, in_tenant, run_id_of

MAX_UPLOAD_BYTES: Final = 10 * 1024 * 1024
_MODELS, _ARTIFACTS, _WORKSPACES = "models", "artifacts", "workspaces"


class File(Struct, omit_defaults=True):
    path: str
    is_dir: bool
    file_size: int | None = None


class Listing(Struct, omit_defaults=True):
    files: list[File] = []
    root_uri: str | None = None


class Place(NamedTuple):
    """Whose files a path leads to, and where in them; ``rest`` is empty at their root."""

    tenant: Tenant
    files: OwnedFiles
    rest: str
    run_id: str | None = None
    model_id: str | None = None


# --- the proxy -----------------------------------------------------------------------------------


async def proxy_list(request: Request) -> Listing:
    """One folder, by names relative to it; empty where no folder is."""
    path = request.body.optional_text("path") or ""
    async with in_tenant(request) as tenant:
        parts = _parts(path.strip("/"), tenant) if path.strip("/") else []
        if owner := _owner(parts):
            place = await _place(tenant, owner)
            entries = await _all(place.files, place.rest)
            return Listing([_file(entry, entry.path.rpartition("/")[2]) for entry in entries])
        names = await _virtual(tenant, parts)
    return Listing([File(name, is_dir=True) for name in sorted(names)])


async def download(request: Request) -> FileReply:
    async with _named(request) as place:
        return await _send(request, place.files, place.rest)


async def upload(request: Request) -> Nothing:
    """Streamed to disk, then renamed."""
    raw = request.scope["path"]
    if raw.endswith("/"):
        raise Refused(INVALID, f"Invalid path: {raw[-200:]} names a folder")
    async with _named(request) as place:
        if place.run_id is not None:
            await require_active(place.tenant, place.run_id)
        await _put(request, place)
    return Nothing()


async def delete(request: Request) -> Nothing:
    """A file or a tree; nothing there is fine."""
    async with _named(request) as place:
        if place.rest:
            await place.files.delete(place.rest)
        else:
            await place.files.delete_all()
    return Nothing()


async def no_multipart(request: Request) -> Reply:
    raise Refused(
        "NOT_IMPLEMENTED",
        "Multipart upload is not supported for the current artifact repository: this server takes"
        " files of any size in one request",
    )


async def no_presigned(request: Request) -> Reply:
    raise Refused(
        "NOT_IMPLEMENTED",
        "Multipart download is not supported for the current artifact repository: this server"
        " sends files of any size itself",
    )


# --- runs and models -----------------------------------------------------------------------------


async def list_of_run(request: Request) -> Listing:
    body: Fields = request.body
    path = _folder(body.optional_text("path"))
    async with in_run(request, run_id_of(body)) as (tenant, run_id):
        run = await tenant.run(run_id, max_keys=0)
        home = await tenant.experiment_by_number(run.experiment_number)
        entries = await _all(tenant.artifacts.of_run(run_id), path)
        return Listing([_file(e, e.path) for e in entries], views.run_location(home, run_id))


async def list_of_model(request: Request) -> Listing:
    path = _folder(request.body.optional_text("artifact_directory_path"))
    async with _model(request) as (tenant, model):
        entries = await _all(tenant.artifacts.of_model(model.info.model_id), path)
        return Listing([_file(e, e.path) for e in entries], model.info.artifact_uri)


async def get_of_model(request: Request) -> FileReply:
    path = request.body.text("artifact_file_path")
    async with _model(request) as (tenant, model):
        files = tenant.artifacts.of_model(model.info.model_id)
        return await _send(request, files, _checked(path))


async def get_of_run(request: Request) -> FileReply:
    """What MLflow's web pages download by."""
    body: Fields = request.body
    path = body.text("path")
    async with in_run(request, run_id_of(body)) as (tenant, run_id):
        return await _send(request, tenant.artifacts.of_run(run_id), _checked(path))


async def upload_of_run(request: Request) -> Nothing:
    """What MLflow's web pages upload by: up to 10 MB."""
    query = Fields.of_query(request.scope["query_string"])
    for name in ("run_uuid", "path"):
        if not query.optional_text(name):
            raise Refused(INVALID, f"Request must specify {name}.")
    length = request.header(b"content-length") or ""
    if length == "0":
        raise Refused(INVALID, "Request must specify data.")
    if length.isdecimal() and int(length) > MAX_UPLOAD_BYTES:
        raise Refused(INVALID, "Artifact size is too large. Max size is 10MB.")
    async with in_run(request, query.text("run_uuid")) as (tenant, run_id):
        await require_active(tenant, run_id)
        files = tenant.artifacts.of_run(run_id)
        await _put(request, Place(tenant, files, _checked(query.text("path")), run_id))
    return Nothing()


# --- paths ---------------------------------------------------------------------------------------


@asynccontextmanager
async def _named(request: Request) -> AsyncIterator[Place]:
    """The place that a request's path names, its tenant held open."""
    path = request.path["path"]
    if not request.scope["path"].endswith(path):  # the router's pattern drops a last newline
        raise Refused(INVALID, "Invalid path")
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        raise Refused(INVALID, "Invalid path: a path is UTF-8") from None
    async with in_tenant(request) as tenant:
        parts = _parts(path, tenant)
        owner = _owner(parts)
        if owner is None:
            raise Refused(MISSING, f"No such artifact: '{path[:300]}'")
        yield await _place(tenant, owner)


def _checked(path: str) -> str:
    """A path below a run or a model.  Raises Refused."""
    if "#" in _decoded(path):
        raise Refused(INVALID, f"Invalid path: {path[:300]}")
    try:
        split(path)
    except Invalid as error:
        raise Refused(INVALID, f"Invalid path: {error}") from None
    return path


def _folder(path: str | None) -> str:
    return _checked(path.strip("/")) if path and path.strip("/") else ""


def _decoded(path: str) -> str:
    while (further := unquote(path)) != path:
        path = further
    return path


def _parts(path: str, tenant: Tenant) -> list[str]:
    """The parts of a path of the proxy, without the workspace that it may begin with."""
    parts = _checked(path).split("/")
    if parts[0] != _WORKSPACES:
        return parts
    if len(parts) < 2 or parts[1].lower() != tenant.name:
        raise Refused(INVALID, f"Invalid path: it is not of the workspace '{tenant.name}'")
    return parts[2:]


class Owner(NamedTuple):
    """What a path says: the location of an experiment, then a run or a model, then a file."""

    location: list[str]
    run_id: str | None
    model_id: str | None
    rest: list[str]


def _owner(parts: list[str]) -> Owner | None:
    """Whose files a path leads to; None where it leads to nobody's.

    The location is an experiment's number, unless its maker chose another one behind this proxy.
    """
    for i in range(2, len(parts)):
        if parts[i] != _ARTIFACTS:
            continue
        if i > 2 and parts[i - 2] == _MODELS:
            return Owner(parts[: i - 2], None, parts[i - 1], parts[i + 1 :])
        if parts[i - 1] != _MODELS:
            return Owner(parts[: i - 1], parts[i - 1], None, parts[i + 1 :])
    return None


async def _place(tenant: Tenant, owner: Owner) -> Place:
    """Raises Refused where the tenant has no such run or model at that location."""
    if owner.model_id is not None:
        try:
            model = await tenant.models.get(owner.model_id, deleted=True)
            await _require_location(tenant, model.experiment_number, owner)
        except NotFound:
            raise no_model(owner.model_id) from None
        files = tenant.artifacts.of_model(owner.model_id)
        return Place(tenant, files, _rest(owner.rest), model_id=owner.model_id)
    run_id = owner.run_id or ""
    try:
        await _require_location(tenant, await tenant.experiment_of_run(run_id), owner)
    except NotFound:
        raise no_run(run_id) from None
    return Place(tenant, tenant.artifacts.of_run(run_id), _rest(owner.rest), run_id)


async def _require_location(tenant: Tenant, number: int, owner: Owner) -> None:
    """Raises NotFound unless the experiment's files lie where the path begins."""
    if owner.location == [str(number)]:
        return
    scheme, _, path = views.location(await tenant.experiment_by_number(number)).partition(":")
    own = [part for part in path.split("/") if part]
    if own[:2] == [_WORKSPACES, tenant.name]:
        own = own[2:]
    if scheme != "mlflow-artifacts" or own != owner.location:
        raise NotFound(f"experiment {number} is elsewhere")


def _rest(parts: list[str]) -> str:
    """What is left is a path of its own: a drive, say, may begin it."""
    return _checked("/".join(parts)) if parts else ""


async def _virtual(tenant: Tenant, parts: list[str]) -> list[str]:
    """The folders above those of runs and models, which are not on disk: at most 1,000."""
    if not parts:
        page = await tenant.experiments(lifecycle="all", limit=1_000)
        return [str(one.number) for one in page.experiments]
    if len(parts) == 1 and parts[0].isascii() and parts[0].isdigit():
        found = await experiment_of(tenant, parts[0])
        query = RunQuery(
            experiment_numbers=(found.number,), lifecycle="all", limit=1_000, total=False, keys=()
        )
        return [_MODELS, *[run.run_id for run in (await tenant.search(query)).runs]]
    owner = _owner([*parts, _ARTIFACTS]) if len(parts) in (2, 3) else None
    if owner is not None:
        await _place(tenant, owner)
        return [_ARTIFACTS]
    return []


@asynccontextmanager
async def _model(request: Request) -> AsyncIterator[tuple[Tenant, views.Model]]:
    model_id = request.path["model_id"]
    async with in_tenant(request) as tenant:
        try:
            found = await tenant.models.get(model_id)
        except NotFound:
            raise no_model(model_id) from None
        yield tenant, (await shown(tenant, [found]))[0]


# --- files ---------------------------------------------------------------------------------------


async def _all(files: OwnedFiles, path: str) -> list[Entry]:
    page = await files.entries(path)
    entries = page.entries
    while page.next_cursor is not None:
        page = await files.entries(path, cursor=page.next_cursor)
        entries += page.entries
    return entries


def _file(entry: Entry, name: str) -> File:
    return File(name, entry.is_dir, entry.size)


async def _send(request: Request, files: OwnedFiles, path: str) -> FileReply:
    try:
        file = await files.open(path)
    except (NotFound, Invalid):
        if not path or (await files.entries(path, limit=1)).entries:
            raise Refused(INVALID, f"Invalid path: '{path[:300]}' is a folder") from None
        raise Refused(MISSING, f"No such artifact: '{path[:300]}'") from None
    return FileReply(file, path.rpartition("/")[2], request)


async def _put(request: Request, place: Place) -> None:
    tenant, files, path, run_id, _ = place
    if not path:
        raise Refused(INVALID, "Invalid path: it names a folder")
    length = request.header(b"content-length")
    size = int(length) if length and length.isdecimal() else None
    try:
        stored = await files.put(path, request.stream(), size=size)
    except Conflict as error:
        raise Refused(INVALID, f"Invalid path: {error}") from None
    await _require_owner(place)
    if run_id is not None and tenant.events.watched(run_id):
        tenant.events.publish(run_id, "artifact", {"path": stored.path, "size": stored.size})


async def _require_owner(place: Place) -> None:
    """It may have been purged while the file was under way, perhaps after its folder had gone."""
    try:
        if place.run_id is not None:
            await place.tenant.require_run(place.run_id)
        else:
            await place.tenant.models.get(place.model_id or "", deleted=True)
    except NotFound:
        await place.files.delete_all()
        raise (no_run(place.run_id) if place.run_id else no_model(place.model_id or "")) from None
