"""Reading runs back.  Everything here raises StepwellError."""

from __future__ import annotations

import os
import sys
import tempfile
from array import array
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from stepwell import checks, wire
from stepwell.config import Config
from stepwell.errors import BadReply, NotFound, WrongUse
from stepwell.ids import parse_run_id
from stepwell.requests import BASE, tenant_headers
from stepwell.transport import Request, Response, Transport, decoded, error_of
from stepwell.wire import TENANT_HEADER, Artifact, ArtifactPage, ColumnarReply, ExperimentPage

POINTS_PER_PAGE = wire.MAX_POINTS_PER_PAGE


class MetricArrays(Struct, frozen=True):
    """One series: ``array.array`` of int64, int64 (ms) and float64, of equal length."""

    steps: array[int]
    timestamps: array[int]
    values: array[float]


class Run(Struct, frozen=True):
    """A run as it was when it was read.  ``metrics`` holds last values, NaN and infinities too.

    ``truncated`` says that there are more keys than are shown; times are in milliseconds.
    """

    run_id: str
    experiment_id: str
    name: str
    description: str
    user_id: str | None
    parent_run_id: str | None
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    start_time: int
    end_time: int | None
    duration_seconds: float | None
    heartbeat_at: int
    lifecycle: str
    stop_requested: bool
    truncated: bool
    writers: dict[str, int]


class Reader:
    """The reading calls over one transport; ``pid`` is the process that may use it."""

    def __init__(self, config: Config, transport: Transport) -> None:
        self.pid = os.getpid()
        self._tenant = config.tenant
        self._transport = transport

    def points(
        self, run_id: str, key: str, start_step: int | None, end_step: int | None
    ) -> MetricArrays:
        steps, timestamps, values = array("q"), array("q"), array("d")
        path = f"{_run_path(run_id)}/metrics/{quote(checks.key(key), safe='')}"
        query: dict[str, Any] = {"limit": POINTS_PER_PAGE}
        if start_step is not None:
            query["start_step"] = start_step
        if end_step is not None:
            query["end_step"] = end_step
        while True:
            response = self._get(path, query, self._scoped(run_id) | {"Accept": wire.COLUMNS})
            page = _columns(response).series[0]
            steps.frombytes(page.steps)
            timestamps.frombytes(page.timestamps)
            values.frombytes(page.values)
            if page.next_cursor is None:
                break
            query["cursor"] = page.next_cursor
        if sys.byteorder == "big":
            for column in (steps, timestamps, values):
                column.byteswap()
        return MetricArrays(steps, timestamps, values)

    def run(self, run_id: str) -> Run:
        response = self._get(_run_path(run_id), {}, self._scoped(run_id))
        return _run(decoded(response, wire.Run))

    def search(
        self, experiment: str | None, filter: str | None, order_by: list[str], limit: int | None
    ) -> list[Run]:
        if limit is not None and limit <= 0:
            return []
        query: dict[str, Any] = {"total": "false", "order_by": order_by}
        if filter:
            query["filter"] = filter
        if experiment is not None:
            query["experiment_id"] = self._experiment_id(experiment)
        found: list[Run] = []
        while limit is None or len(found) < limit:
            left = wire.MAX_RUNS_PER_PAGE if limit is None else limit - len(found)
            query["limit"] = min(left, wire.MAX_RUNS_PER_PAGE)
            page = decoded(self._get(f"{BASE}/runs", query, self._header()), wire.RunPage)
            found += map(_run, page.runs)
            if page.next_cursor is None:
                break
            query["cursor"] = page.next_cursor
        return found

    def artifacts(self, run_id: str, path: str) -> list[Artifact]:
        query: dict[str, Any] = {"path": path} if path else {}
        found: list[Artifact] = []
        while True:
            response = self._get(f"{_run_path(run_id)}/artifacts", query, self._scoped(run_id))
            page = decoded(response, ArtifactPage)
            found += page.artifacts
            if page.next_cursor is None:
                return found
            query["cursor"] = page.next_cursor

    def download(self, run_id: str, path: str, destination: str | Path | IO[bytes]) -> Path | None:
        """Into a file beside the destination first, so that there is never half of it."""
        request = Request("GET", _artifact_path(run_id, path), None, self._scoped(run_id))
        if not isinstance(destination, str | Path):
            request.sink = destination
            self._answered(request)
            return None
        target = Path(destination)
        if target.is_dir():
            # The name is what the caller asked for, never what a server says it is.
            target = target / path.replace("\\", "/").rstrip("/").rpartition("/")[2]
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            try:
                request.sink = file
                self._answered(request)
                file.close()
                Path(file.name).replace(target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        return target

    def _experiment_id(self, name: str) -> str:
        query = {"name": name, "lifecycle": "all"}
        page = decoded(self._get(BASE, query, self._header()), ExperimentPage)
        if not page.experiments:
            problem = wire.Problem("about:blank", "unknown", 404, f"no experiment {name!r}")
            raise NotFound(problem)
        return page.experiments[0].experiment_id

    def _get(self, path: str, query: dict[str, Any], headers: dict[str, str]) -> Response:
        asked = f"{path}?{urlencode(query, doseq=True)}" if query else path
        return self._answered(Request("GET", asked, None, headers))

    def _answered(self, request: Request) -> Response:
        response = self._transport.send(request)
        if not response.ok:
            raise error_of(response)
        return response

    def _header(self) -> dict[str, str]:
        return {TENANT_HEADER: self._tenant}

    def _scoped(self, run_id: str) -> dict[str, str]:
        return tenant_headers(run_id, self._tenant)


def _run_path(run_id: object) -> str:
    plain = parse_run_id(run_id) if isinstance(run_id, str) else None
    if plain is None:
        raise WrongUse(f"{run_id!r} is no run id")
    return f"{BASE}/runs/{plain}"


def _artifact_path(run_id: str, path: object) -> str:
    parts = path.split("/") if isinstance(path, str) else []
    if not parts or any(part in ("", ".", "..") for part in parts):
        raise WrongUse(f"{path!r} is no path of an artifact")
    return f"{_run_path(run_id)}/artifacts/{quote('/'.join(parts), safe='/')}"


def _columns(response: Response) -> ColumnarReply:
    try:
        reply = msgspec.msgpack.decode(response.body, type=ColumnarReply)
    except msgspec.MsgspecError as error:
        raise BadReply(f"this is no answer of a Stepwell server: {error}") from error
    if reply.format != wire.COLUMNS_FORMAT or len(reply.series) != 1:
        raise BadReply(f"columns of a format that this client does not know: {reply.format}")
    return reply


def _run(run: wire.Run) -> Run:
    fields = {name: getattr(run, name) for name in Run.__struct_fields__}
    fields["metrics"] = {key: wire.from_value(value) for key, value in run.metrics.items()}
    return Run(**fields)
