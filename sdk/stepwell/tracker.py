"""The front door: start runs, and read them back."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from stepwell import checks, config as settings
from stepwell.errors import StepwellError, WrongUse
from stepwell.ids import hash_of_run_id, new_run_id, parse_run_id, tenant_hash
from stepwell.lifecycle import LIFECYCLE
from stepwell.notices import Notices
from stepwell.records import AnyRecord, Create, Head, Resume
from stepwell.run import ActiveRun
from stepwell.transport import HttpTransport
from stepwell.wire import MAX_NAME_CHARS, MAX_TEXT_CHARS, Artifact, CreateRun

if TYPE_CHECKING:
    from stepwell.reader import MetricArrays, Reader, Run

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class _Named(Struct, frozen=True):
    """What a RunConfig takes by position too: ``kw_only`` holds for the fields of one class."""

    run_name: str | None = None


class RunConfig(_Named, frozen=True, kw_only=True):
    """What a run is called and whose it is.  ``run_id`` joins a run instead of making one."""

    tenant_id: str | None = None
    user_id: str | None = None
    run_id: str | None = None
    description: str | None = None
    tags: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None
    parent_run_id: str | None = None
    start_time: Any = None


class ExperimentTracker:
    """One server, one tenant.  Arguments come first, then STEPWELL_*, then defaults.

    Making one does no I/O.  Starting and logging runs never raises; reading raises StepwellError.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tenant: str | None = None,
        token: str | None = None,
        mode: str | None = None,
        spool_dir: str | Path | None = None,
        exit_timeout_s: float | None = None,
    ) -> None:
        given: dict[str, object] = {
            "url": url,
            "tenant": tenant,
            "token": token,
            "mode": mode,
            "spool_dir": spool_dir,
            "exit_timeout_s": exit_timeout_s,
        }
        self.config, wrong = settings.load(given, os.environ)
        self._wrong = Notices("settings", strict=self.config.strict).wrong
        for text in wrong:
            self._wrong(WrongUse(text, text.partition(":")[0]))
        self._reader: Reader | None = None

    # --- writing ---------------------------------------------------------------------------------

    def start_run(
        self,
        experiment_name: str | None = None,
        run_config: RunConfig | None = None,
        *,
        run_id: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> ActiveRun:
        """A new run, or with a ``run_id`` one that goes on.  Works without any server.

        Use it in a ``with`` block, or call ``end`` on it.
        """
        try:
            config = self._config_of(run_config)
            run = self._open(
                experiment_name or self.config.experiment,
                run_id or config.run_id or self.config.run_id,
                msgspec.structs.replace(config, run_name=run_name or config.run_name),
            )
        except WrongUse:
            raise
        except Exception as error:  # noqa: BLE001 - a training must outlive any bug of ours
            self._wrong(WrongUse(f"no run could be started ({type(error).__name__}: {error})"))
            return self._inert()
        for some in (config.params, params):
            if some is not None:
                run.log_params(some)
        for labels in (config.tags, tags):
            if labels is not None:
                run.set_tags(labels)
        self._add_extras(run)
        return run

    def _config_of(self, given: object) -> RunConfig:
        if isinstance(given, RunConfig):
            return given
        if given is None:
            return RunConfig()
        text = f"run_config is a RunConfig, not {type(given).__name__}; it is passed over"
        self._wrong(WrongUse(text, "run_config"))
        return RunConfig()

    def _open(self, experiment: str | None, given_id: str | None, config: RunConfig) -> ActiveRun:
        tenant = str(config.tenant_id or self.config.tenant)
        known_id = None if given_id is None else parse_run_id(str(given_id))
        if not _TENANT.fullmatch(tenant):
            self._wrong(WrongUse(f"{tenant!r} is no tenant name; nothing is logged", "tenant"))
            return self._inert()
        if given_id is not None and known_id is None:
            self._wrong(WrongUse(f"{given_id!r} is no run id; a new run is made", "run_id"))
        # Only a run of several processes has a rank that matters: an own run is ended by its maker.
        rank = self.config.rank
        ends = known_id is None or rank in (None, 0)
        head = Head(self.config.url, tenant, known_id or new_run_id(tenant), rank)
        create = self._create(experiment, config, head)
        records: list[AnyRecord] = []
        if known_id is None or hash_of_run_id(known_id) in (None, tenant_hash(tenant)):
            records.append(Create(create))
        if known_id is not None and ends:
            records.append(Resume())
        names = (create.name, create.experiment_name or "Default")
        run = ActiveRun(self.config, head, names, ends=ends)
        run.open(records)
        return run

    def _add_extras(self, run: ActiveRun) -> None:
        """What the environment asks for beside the core, which does not import it."""
        if self.config.mode == "disabled":
            return
        try:
            if self.config.console:
                import_module("stepwell.console").capture(run)
            if self.config.system_s:
                import_module("stepwell.system").watch(run, self.config.system_s)
        except Exception as error:  # noqa: BLE001 - a training must outlive any bug of ours
            text = f"console or system are not logged ({type(error).__name__}: {error})"
            self._wrong(WrongUse(text, "extras"))

    def _create(self, experiment: str | None, config: RunConfig, head: Head) -> CreateRun:
        started = config.start_time
        return CreateRun(
            experiment_name=self._text("experiment_name", experiment, MAX_NAME_CHARS),
            name=self._text("run_name", config.run_name, MAX_NAME_CHARS),
            description=self._text("description", config.description, MAX_TEXT_CHARS) or "",
            user_id=self._text("user_id", config.user_id, MAX_NAME_CHARS),
            run_id=head.run_id,
            start_time=time.time_ns() // 1_000_000 if started is None else self._millis(started),
            parent_run_id=self._text("parent_run_id", config.parent_run_id, MAX_NAME_CHARS),
        )

    def _inert(self) -> ActiveRun:
        """A run that goes nowhere, so that the training goes on."""
        config = msgspec.structs.replace(self.config, mode="disabled")
        head = Head(config.url, config.tenant, os.urandom(16).hex())
        return ActiveRun(config, head, (None, "Default"))

    def _text(self, what: str, given: object, limit: int) -> str | None:
        if given is None or given == "":
            return None
        try:
            return checks.text(what, given, limit=limit)
        except WrongUse as error:
            self._wrong(error)
            return None

    def _millis(self, given: Any) -> int:
        try:
            return checks.millis(given)
        except WrongUse as error:
            self._wrong(error)
            return time.time_ns() // 1_000_000

    # --- reading ---------------------------------------------------------------------------------

    def get_metric_history(
        self, run_id: str, key: str, *, start_step: int | None = None, end_step: int | None = None
    ) -> list[dict[str, Any]]:
        """Every point of a metric by (step, timestamp, value): never sampled."""
        found = self.get_metric_arrays(run_id, key, start_step=start_step, end_step=end_step)
        columns = zip(found.steps, found.timestamps, found.values, strict=True)
        return [
            {"key": key, "value": value, "timestamp": timestamp, "step": step}
            for step, timestamp, value in columns
        ]

    def get_metric_arrays(
        self, run_id: str, key: str, *, start_step: int | None = None, end_step: int | None = None
    ) -> MetricArrays:
        """The same in three arrays, which NumPy wraps without a copy (``numpy.asarray``)."""
        self._settle(run_id)
        return self._read().points(run_id, key, start_step, end_step)

    def get_run(self, run_id: str) -> Run:
        self._settle(run_id)
        return self._read().run(run_id)

    def search_runs(
        self,
        experiment_name: str | None = None,
        filter: str | None = None,
        order_by: str | Iterable[str] | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """The runs that match, all of them unless ``limit`` says how many."""
        self._settle(None)
        order = [order_by] if isinstance(order_by, str) else list(order_by or ())
        return self._read().search(experiment_name, filter, order, limit)

    def list_artifacts(self, run_id: str, path: str = "") -> list[Artifact]:
        """The files and folders in one folder of a run's artifacts."""
        self._settle(run_id)
        return self._read().artifacts(run_id, path)

    def download_artifact(
        self, run_id: str, path: str, destination: str | Path | IO[bytes]
    ) -> Path | None:
        """One file, streamed; ``destination`` is a file, a folder that exists, or a stream."""
        self._settle(run_id)
        return self._read().download(run_id, path, destination)

    def _settle(self, run_id: str | None) -> None:
        """What this process logged into a run, or into any, should be there to be read."""
        wanted = parse_run_id(run_id) if isinstance(run_id, str) else None
        deadline = time.monotonic() + self.config.exit_timeout_s
        for run in list(LIFECYCLE.runs.values()):
            if run_id is None or run.run_id == wanted:
                run.flush(max(0.0, deadline - time.monotonic()))

    def _read(self) -> Reader:
        if self.config.mode != "online":
            why = f"in mode {self.config.mode}" if self.config.url else "without an address"
            raise StepwellError(f"nothing can be read {why}")
        if self._reader is None or self._reader.pid != os.getpid():
            from stepwell.reader import Reader  # most trainings read nothing

            self._reader = Reader(self.config, HttpTransport(self.config))
        return self._reader
