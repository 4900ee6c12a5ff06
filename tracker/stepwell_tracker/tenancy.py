"""Whose data a request is about: the tenant of its headers, or of the run id in its path.

A run id carries 32 bits of its tenant's name (``stepwell.ids``), so run-scoped calls need no
header.  Several tenants may share those bits; then each is asked.  Whatever is another tenant's
is not found, for writes too, and nothing is created.  Once there are tokens, they are checked
where a name is taken from the headers: :meth:`Tenancy.name`, which every call passes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Final

from stepwell import ids, wire
from stepwell_storage.errors import NotFound, Purged
from stepwell_tracker.errors import BadRequest

if TYPE_CHECKING:
    from stepwell_storage.store import Store
    from stepwell_storage.tenant import Tenant

Headers = Mapping[bytes, bytes]
Lease = AbstractAsyncContextManager["Tenant"]

MAX_KNOWN_RUNS: Final = 50_000

_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HEADER: Final = wire.TENANT_HEADER.lower().encode()
_MLFLOW_HEADER: Final = b"x-mlflow-workspace"


class Tenancy:
    """The tenants of one store, by name and by run id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hashed: set[str] = set()
        self._names_by_hash: dict[int, list[str]] = {}
        self.known: dict[tuple[str | None, str], tuple[str, str]] = {}
        """(Tenant of the headers, run id as sent) to (tenant, run id), where that was found."""

    def names(self) -> list[str]:
        """Of every tenant on disk."""
        return self._store.names()

    def name(self, headers: Headers) -> str | None:
        """The tenant that the headers name, lower case.  Raises BadRequest."""
        given = headers.get(_HEADER)
        other = headers.get(_MLFLOW_HEADER, b"").strip()  # a client's empty setting chooses none
        if other:
            if given is not None and given.lower() != other.lower():
                raise BadRequest(
                    f"{wire.TENANT_HEADER} and X-MLFLOW-WORKSPACE name different tenants"
                )
            given = other
        return None if given is None else tenant_name(given)

    def tenant(
        self, headers: Headers, *, create: bool = False
    ) -> AbstractAsyncContextManager[Tenant]:
        """The tenant of the headers, ``default`` without; ``create`` makes it if need be."""
        name = self.name(headers) or wire.DEFAULT_TENANT
        return self._store.lease(name, create=create)

    def exists(self, headers: Headers) -> bool:
        """Whether the tenant of the headers has been made."""
        return self._store.exists(self.name(headers) or wire.DEFAULT_TENANT)

    def run(self, headers: Headers, text: str) -> RunLease:
        """``async with`` it for (tenant, run id).  Raises BadRequest, and NotFound on entry."""
        return RunLease(self, self.name(headers), text)

    @asynccontextmanager
    async def runs(self, headers: Headers, texts: Sequence[str]) -> AsyncIterator[Tenant]:
        """The one tenant that has all these runs.  Raises likewise."""
        async with self.run(headers, texts[0]) as (tenant, _):
            for text in texts[1:]:
                await tenant.require_run(parse_run_id(text))
            yield tenant

    async def experiment_id(self, tenant: Tenant, text: str) -> str:
        """The id of an experiment that exists, dashed, from either form.  Raises NotFound."""
        experiment_id = parse_experiment_id(text)
        await tenant.experiment(experiment_id)
        return experiment_id

    def candidates(self, name: str | None, run_id: str) -> Iterable[str]:
        """The tenants that may have a run, likeliest first."""
        wanted = ids.hash_of_run_id(run_id)
        if name is not None:
            if (wanted is None or wanted == ids.tenant_hash(name)) and self._store.exists(name):
                yield name
        elif wanted is None:
            yield wire.DEFAULT_TENANT
        else:
            known = tuple(self._names_by_hash.get(wanted, ()))
            yield from known
            self._refresh()  # not found so far: the tenant may be younger than the map
            yield from (n for n in self._names_by_hash.get(wanted, []) if n not in known)

    def _refresh(self) -> None:
        for name in self._store.names():
            if name not in self._hashed:
                self._hashed.add(name)
                self._names_by_hash.setdefault(ids.tenant_hash(name), []).append(name)

    async def enter(self, name: str, run_id: str) -> tuple[Lease, Tenant]:
        """A lease that was entered, if the tenant has the run.  Raises NotFound."""
        lease = self._store.lease(name, create=False)
        tenant = await lease.__aenter__()
        try:
            await tenant.require_run(run_id)
        except BaseException:
            await lease.__aexit__(None, None, None)
            raise
        return lease, tenant


class RunLease:
    """An open tenant that has a certain run: (tenant, run id), as a context manager."""

    __slots__ = ("_lease", "_name", "_tenancy", "_text")
    _lease: Lease

    def __init__(self, tenancy: Tenancy, name: str | None, text: str) -> None:
        self._tenancy = tenancy
        self._name = name
        self._text = text

    async def __aenter__(self) -> tuple[Tenant, str]:
        asked = (self._name, self._text)
        known = self._tenancy.known
        if (home := known.get(asked)) is not None:
            with suppress(NotFound):  # the tenant may have been replaced by another folder
                self._lease, tenant = await self._tenancy.enter(*home)
                return tenant, home[1]
        run_id = parse_run_id(self._text)
        unknown = NotFound(f"there is no run {self._text}")
        for name in self._tenancy.candidates(self._name, run_id):
            try:
                self._lease, tenant = await self._tenancy.enter(name, run_id)
            except NotFound as error:
                unknown = error if isinstance(error, Purged) else unknown
                continue
            if len(known) >= MAX_KNOWN_RUNS:
                known.clear()
            known[asked] = (name, run_id)
            return tenant, run_id
        raise unknown

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._lease.__aexit__(kind, error, traceback)


@lru_cache(4096)
def tenant_name(given: bytes) -> str:
    """A tenant's name as it is stored, lower case.  Raises BadRequest."""
    if not _NAME.fullmatch(given):
        raise BadRequest(
            f"{wire.TENANT_HEADER} {given.decode('latin-1')!r} is no tenant's name: 1 to 63"
            " letters, digits, dots, dashes and underscores, a letter or digit first"
        )
    return given.decode().lower()


def parse_run_id(text: str) -> str:
    """32 hex digits from either form of a run id.  Raises NotFound: no run has another form."""
    run_id = ids.parse_run_id(text)
    if run_id is None:
        raise NotFound(f"there is no run {text!r}: run ids are 32 hex digits")
    return run_id


def parse_experiment_id(text: str) -> str:
    """The dashed UUID from either form of an experiment id.  Raises NotFound likewise."""
    plain = ids.parse_run_id(text)
    if plain is None:
        raise NotFound(f"there is no experiment {text!r}: experiment ids are UUIDs")
    return str(uuid.UUID(plain))


def contradicts(name: str, run_id: str) -> bool:
    """Whether a run id, made offline, belongs to a tenant of another name."""
    wanted = ids.hash_of_run_id(run_id)
    return wanted is not None and wanted != ids.tenant_hash(name)
