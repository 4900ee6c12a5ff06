"""Artifacts of a run: one folder's listing, files up, down and away."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from msgspec import Meta, Struct

from stepwell import wire
from stepwell_storage.artifacts import MAX_ENTRIES_PER_PAGE, OwnedFiles
from stepwell_storage.errors import Invalid, NotFound
from stepwell_storage.paths import split
from stepwell_tracker import schema
from stepwell_tracker.errors import BadRequest, WrongMedia
from stepwell_tracker.files import FileReply, media_type
from stepwell_tracker.http import Call, Request, Scope, as_json
from stepwell_tracker.runs import RUN


class ListingQuery(Struct):
    path: Annotated[str, Meta(description="the folder; without it the top one")] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_ENTRIES_PER_PAGE)] = MAX_ENTRIES_PER_PAGE
    cursor: Annotated[str | None, Meta(description="next_cursor of the page before")] = None


async def list_artifacts(request: Request) -> wire.ArtifactPage:
    """List one folder of a run's artifacts, by name; where no folder is, the list is empty."""
    query: ListingQuery = request.query
    page = await _files(request).entries(query.path, limit=query.limit, cursor=query.cursor)
    artifacts = [
        wire.Artifact(
            path=entry.path,
            is_dir=entry.is_dir,
            size=entry.size,
            modified_at=entry.modified_at,
            media_type=None if entry.is_dir else media_type(entry.path.rpartition("/")[2]),
        )
        for entry in page.entries
    ]
    return wire.ArtifactPage(artifacts, page.next_cursor)


async def get_artifact(request: Request) -> FileReply:
    """Download a file, in whole or in ranges; a folder is 404."""
    path = _path(request)
    file = await _files(request).open(path)
    return FileReply(file, path.rpartition("/")[2], request)


async def put_artifact(request: Request) -> wire.ArtifactReply:
    """Upload a file of any size; one of that name is replaced, a folder there is 409."""
    path = _path(request)
    _refuse_conditions(request)
    if request.header(b"content-range") is not None:
        raise BadRequest("Content-Range: a file is uploaded in one piece")
    if request.header(b"content-encoding") not in (None, "", "identity"):
        raise WrongMedia("Content-Encoding is not supported: send the file as it is")
    length = request.header(b"content-length")
    await request.tenant.require_active(request.run_id)
    stored = await _files(request).put(
        path, request.stream(), size=int(length) if length and length.isdecimal() else None
    )
    try:
        await request.tenant.require_run(request.run_id)
    except NotFound:  # purged while the file was under way, perhaps after its folder had gone
        await _files(request).delete_all()
        raise
    _tell(request, {"path": stored.path, "size": stored.size})
    return wire.ArtifactReply(stored.path, stored.size, stored.sha256)


async def delete_artifact(request: Request) -> schema.DeletedArtifact:
    """Delete a file, or a folder with all below it; repeating it changes nothing."""
    path = _path(request)
    _refuse_conditions(request)
    await request.tenant.require_active(request.run_id)
    deleted = await _files(request).delete(path)
    if deleted:
        _tell(request, {"path": path, "size": None})
    return schema.DeletedArtifact(path, deleted)


def _refuse_conditions(request: Request) -> None:
    """Whoever asks to keep what stands there must not have it replaced."""
    for name in _CONDITIONS:
        if request.header(name) is not None:
            raise BadRequest(f"{name.decode()}: files are stored and deleted unconditionally")


def _files(request: Request) -> OwnedFiles:
    return request.tenant.artifacts.of_run(request.run_id)


def _tell(request: Request, data: dict[str, object]) -> None:
    if request.tenant.events.watched(request.run_id):
        request.tenant.events.publish(request.run_id, "artifact", data)


def _path(request: Request) -> str:
    """The name in the request's path, decoded exactly once.  Raises Invalid."""
    path = request.path["path"]
    if not request.scope["path"].endswith(path):  # the router's pattern drops a last newline
        raise Invalid("path", "a path holds no control characters")
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:  # servers replace what they cannot decode: names would collide
        raise Invalid("path", "a path is UTF-8") from None
    split(path)
    return path


_CONDITIONS = (b"if-match", b"if-none-match", b"if-unmodified-since")
_ONE = RUN + "/artifacts/{path:path}"
CALLS = (
    Call(
        "GET", RUN + "/artifacts", list_artifacts, scope=Scope.RUN, query=ListingQuery,
        answer=as_json(wire.ArtifactPage),
    ),
    Call(
        "GET", _ONE, get_artifact, scope=Scope.RUN, answer={"*/*": None},
        statuses=(200, 206, 304), errors=(412, 416, 422),
    ),
    Call(
        "PUT", _ONE, put_artifact, scope=Scope.RUN, body={"*/*": None},
        answer=as_json(wire.ArtifactReply), errors=(400, 409, 415, 422, 507),
    ),
    Call(
        "DELETE", _ONE, delete_artifact, scope=Scope.RUN, answer=as_json(schema.DeletedArtifact),
        errors=(400, 409, 422),
    ),
)  # fmt: skip
