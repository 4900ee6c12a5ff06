"""The data directory: its lock and its tenants.

``<data>/tenants/<tenant>/tenant.db`` and ``.../artifacts``.  One process owns a data directory, by
a kernel lock on ``<data>/lock``, which a killed process cannot leave behind.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from stepwell_storage.backups import settle_places, sync
from stepwell_storage.committer import Gauge
from stepwell_storage.descriptors import affordable_tenants
from stepwell_storage.disposal import Disposal
from stepwell_storage.errors import Closed, Corrupt, Invalid, StorageError, Unsupported
from stepwell_storage.folders import disk_errors
from stepwell_storage.housekeeping import Housekeeping
from stepwell_storage.paths import TENANT_NAME, is_tenant_name
from stepwell_storage.sqlite import read_only
from stepwell_storage.statements import sql
from stepwell_storage.tenant import Tenant

logger = logging.getLogger(__name__)

_TRASH = ".removed-"
"""Begins the names of folders that were tenants; no tenant's name begins with a dot."""


@dataclass(frozen=True, slots=True)
class Options:
    max_queue_bytes: int = 64 * 1024 * 1024
    max_server_queue_bytes: int = 256 * 1024 * 1024
    max_journal_bytes: int = 256 * 1024 * 1024
    max_open_tenants: int = 256
    """Fewer where the process may not open files enough; those in use are never closed."""
    compact: bool = True
    """Whether compaction, and the removal of what is purged, happen by themselves."""
    keep_deleted_s: float | None = None
    """What was deleted is purged after so long; None: never by itself."""


@dataclass(slots=True)
class _Open:
    """A tenant that is open or being opened; ``users`` keep it so."""

    ready: asyncio.Task[Tenant]
    users: int = 0


class Store:
    """One data directory.  Made by :meth:`open`."""

    def __init__(self, data: Path, lock: "Lock", options: Options) -> None:
        self.data = data
        self._lock = lock
        self._options = options
        self._max_open = affordable_tenants(options.max_open_tenants)
        self._tenants: OrderedDict[str, _Open] = OrderedDict()
        self._closing: dict[str, asyncio.Task[None]] = {}
        self._names: set[str] = set()
        self._absent: dict[str, set[Tenant]] = {}
        """Stand-ins of unknown tenants, which somebody reads or follows."""
        self._closed = False
        self.gauge = Gauge(options.max_server_queue_bytes)
        self._housekeeping = Housekeeping(self, self.gauge.meters)
        self._disposal = Disposal(self, options.keep_deleted_s)
        self.meters = self.gauge.meters

    @classmethod
    async def open(cls, data: Path, options: Options | None = None) -> "Store":
        """Take the directory, made as needed.  Raises Unsupported when another server owns it."""
        (data / "tenants").mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = take_lock(data / "lock")
        try:
            store = cls(data, lock, options or Options())
            store._names = await asyncio.to_thread(_settle, data / "tenants")
        except BaseException:
            lock.close()
            raise
        if store._options.compact:
            store._housekeeping.start()
            store._disposal.start()
        return store

    async def close(self) -> None:
        """Commit what is queued and close every tenant.  Compaction is not waited for."""
        if self._closed:
            return
        self._closed = True
        await self._housekeeping.close()
        await self._disposal.close()
        await asyncio.gather(*(self._shut(name) for name in list(self._tenants)))
        self._lock.close()

    async def compact(self, name: str) -> None:
        """Compact everything that a tenant's journal holds, and give freed pages back."""
        async with self.lease(name, create=False) as tenant:
            await self._housekeeping.compact(tenant)

    async def remove(self, name: str) -> None:
        """Remove a tenant with everything that it holds; calls that use it end with Closed.

        Its folder vanishes at once, by rename; the bytes go after that, or at the next start.
        Raises Full where the disk refuses that.
        """
        self._names.discard(name)
        while closing := self._closing.get(name):
            await asyncio.shield(closing)
        removal = asyncio.create_task(self._remove(name), name=f"removal of {name}")
        self._closing[name] = removal  # nobody opens it meanwhile
        removal.add_done_callback(lambda _: self._closing.pop(name, None))
        await asyncio.shield(removal)

    async def _remove(self, name: str) -> None:
        if entry := self._tenants.pop(name, None):
            await self._close(name, entry)
        try:
            await asyncio.to_thread(_burn, self.data / "tenants", name)
        except StorageError:
            if (self.data / "tenants" / name).exists():  # it is as it was
                self._names.add(name)
            raise

    async def note_of(self, name: str, note: str) -> str | None:
        """A note of a tenant, which stays closed where it is; None where it has no such note."""
        path = self.data / "tenants" / name / "tenant.db"
        if not path.exists():
            return None
        with contextlib.suppress(StorageError):  # an older file has none; a damaged one tells later
            async with read_only(path) as reader:
                rows = await reader.fetch(sql.note, (note,))
                return rows[0][0] if rows else None
        return None

    async def dispose(self, name: str) -> None:
        """Remove everything of a tenant that is purged, and give freed pages back."""
        async with self.lease(name, create=False) as tenant:
            while await tenant.purges.dispose():
                pass
            while await tenant.maintain():
                pass

    # --- tenants -------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The tenants on disk, sorted."""
        return sorted(self._names)

    def exists(self, name: str) -> bool:
        return name.lower() in self._names

    def opened(self) -> list[Tenant]:
        """The tenants that are open now."""
        return [
            entry.ready.result()
            for entry in self._tenants.values()
            if entry.ready.done() and not entry.ready.cancelled() and not entry.ready.exception()
        ]

    def lease(self, name: str, *, create: bool) -> "Lease":
        """Hold a tenant open, as an async context manager.

        Without ``create`` an unknown tenant is an empty one that refuses writes (NotFound), and
        stays unknown.  Raises Invalid for what is no name, Closed after close, and on entry
        whatever opening the file raises.
        """
        if not is_tenant_name(name):
            raise Invalid("tenant", f"a tenant's name is like {TENANT_NAME.pattern}")
        return Lease(self, name.lower(), create=create)

    async def enter(self, name: str, *, create: bool) -> "tuple[Tenant, _Open | None]":
        """For :class:`Lease` alone."""
        if self._closed:
            raise Closed("the store was closed")
        if name not in self._names and not create:
            absent = await self._open(name, None)
            self._absent.setdefault(name, set()).add(absent)
            return absent, None
        entry = self._tenants.get(name) or await self._admit(name)
        entry.users += 1
        try:
            ready = entry.ready
            return ready.result() if ready.done() else await asyncio.shield(ready), entry
        except BaseException:
            entry.users -= 1
            raise

    def leave_absent(self, name: str, absent: Tenant) -> None:
        """For :class:`Lease` alone."""
        self._absent[name].discard(absent)
        if not self._absent[name]:
            del self._absent[name]

    def leave(self, name: str, entry: _Open) -> None:
        """For :class:`Lease` alone."""
        entry.users -= 1
        if self._tenants.get(name) is entry:
            self._tenants.move_to_end(name)

    async def _admit(self, name: str) -> _Open:
        while closing := self._closing.get(name):  # never two writers of one file
            await asyncio.shield(closing)
        if entry := self._tenants.get(name):
            return entry
        folder = self.data / "tenants" / name
        entry = _Open(asyncio.create_task(self._open(name, folder), name=f"opening of {name}"))
        self._tenants[name] = entry
        entry.ready.add_done_callback(lambda _: self._opened(name, entry))
        entry.users += 1  # so that nobody evicts it while it opens
        try:
            await self._evict()
            await asyncio.shield(entry.ready)  # whoever goes away leaves it to the next
        finally:
            entry.users -= 1
        return entry

    def _opened(self, name: str, entry: _Open) -> None:
        if self._tenants.get(name) is not entry:  # it was removed meanwhile
            return
        if entry.ready.cancelled() or entry.ready.exception():
            del self._tenants[name]
            return
        self._names.add(name)
        for absent in self._absent.get(name, ()):
            absent.events.close()  # who follows it is to follow the one that is there now

    async def _open(self, name: str, folder: Path | None) -> Tenant:
        with contextlib.suppress(Corrupt):
            return await self._open_once(name, folder)
        try:  # again: SQLite calls a read that the disk refused for a moment damage, too
            return await self._open_once(name, folder)
        except Corrupt as error:
            raise Corrupt(error.reason, tenant=name, **error.place) from error

    async def _open_once(self, name: str, folder: Path | None) -> Tenant:
        options = self._options
        return await Tenant.open(
            name,
            folder,
            gauge=self.gauge,
            max_queue_bytes=options.max_queue_bytes,
            max_journal_bytes=options.max_journal_bytes,
        )

    async def _evict(self) -> None:
        """Close idle tenants beyond the bound, least recently used first."""
        surplus = len(self._tenants) - self._max_open
        for name in [name for name, entry in self._tenants.items() if not entry.users]:
            if surplus <= 0:
                return
            surplus -= 1
            await self._shut(name)

    async def _shut(self, name: str) -> None:
        entry = self._tenants.pop(name)
        closing = asyncio.create_task(self._close(name, entry), name=f"closing of {name}")
        self._closing[name] = closing
        try:
            await asyncio.shield(closing)
        finally:
            if closing.done():
                del self._closing[name]
            else:
                closing.add_done_callback(lambda _: self._closing.pop(name, None))

    @staticmethod
    async def _close(name: str, entry: _Open) -> None:
        try:
            tenant = await entry.ready
            await tenant.close()
        except StorageError as error:
            logger.error("tenant %s could not be closed cleanly: %s", name, error)


class Lease:
    """A tenant that stays open for a block.  A class, as every request enters one."""

    __slots__ = ("_create", "_entry", "_name", "_store", "_tenant")

    def __init__(self, store: Store, name: str, *, create: bool) -> None:
        self._store = store
        self._name = name
        self._create = create

    async def __aenter__(self) -> Tenant:
        self._tenant, self._entry = await self._store.enter(self._name, create=self._create)
        return self._tenant

    async def __aexit__(self, *_: object) -> None:
        if self._entry is None:
            self._store.leave_absent(self._name, self._tenant)
            await self._tenant.close()
        else:
            self._store.leave(self._name, self._entry)


def _settle(tenants: Path) -> set[str]:
    """Finish what was interrupted; the names of the tenants."""
    settle_places(tenants)
    for leftover in tenants.glob(f"{_TRASH}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with os.scandir(tenants) as entries:
        names = {entry.name for entry in entries if is_tenant_name(entry.name)}
    return {name for name in names if name == name.lower()}


def _burn(tenants: Path, name: str) -> None:
    """Remove a tenant's folder; its name is free, and stays so, before its files are gone."""
    trash = tenants / f"{_TRASH}{secrets.token_hex(8)}"
    with disk_errors():
        with contextlib.suppress(FileNotFoundError):
            (tenants / name).rename(trash)
        sync(tenants)  # where nothing stands, too: the sync after its removal may have failed
    shutil.rmtree(trash, ignore_errors=True)


class Lock:
    """A data directory that is ours until :meth:`close`, or until the process ends."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def open(self, path: Path, flags: int) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        self._descriptors.append(descriptor)
        return descriptor

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


def take_lock(path: Path) -> Lock:
    """Lock that file, made as needed, and its folder: the file may be removed under us.

    Raises Unsupported when another process has either, and OSError where the disk refuses.
    """
    taken = Lock()
    try:
        lock = taken.open(path, os.O_RDWR | os.O_CREAT)
        folder = taken.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _lock_folder(folder)
        except OSError as error:
            owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            raise Unsupported(
                f"{path.parent} belongs to another server (process {owner or 'unknown'}); "
                "stop that one, or choose another data directory"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BaseException:
        taken.close()
        raise
    return taken


def _lock_folder(folder: int) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # some network file systems lock no folders
        logger.info("the data directory itself cannot be locked: %s", error)
