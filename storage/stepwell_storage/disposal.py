"""What a store removes by itself: the rows of what was purged, and what was deleted long ago.

Both are the committer's work, in slices (purges.py); here is who asks for them, and how often.
Others write meanwhile: after each slice they have the tenant for twice as long as it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from stepwell_storage.clock import now_ms
from stepwell_storage.purges import MARKER
from stepwell_storage.tenant import Tenant
from stepwell_storage.turns import Turns

if TYPE_CHECKING:
    from stepwell_storage.store import Store

logger = logging.getLogger(__name__)

TICK_S: Final = 0.2
RETRY_S: Final = 5.0
PAUSE_SHARE: Final = 2.0
LOOK_S: Final = 60.0
"""How often an open tenant is asked for what was deleted long ago."""
LOOK_CLOSED_S: Final = 24 * 3600.0
"""And one that nobody uses, which has to be opened for it; the first time after an hour."""


class Disposal:
    """One slice at a time, for all tenants of a store.  ``keep_s`` None: deleted is not purged."""

    def __init__(self, store: Store, keep_s: float | None) -> None:
        self._store = store
        self._keep_s = keep_s
        self._looked: dict[str, float] = {}
        self._next_look = time.monotonic()
        self._first_look = self._next_look + 3600.0
        self._task: asyncio.Task[None] | None = None
        self._unfinished: list[str] = []
        self._turns = Turns(store, "disposal", RETRY_S)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="disposal")

    async def close(self) -> None:
        """Stop; the slice that is under way is committed or not, and the rest waits."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        self._unfinished = [name for name in self._store.names() if self._is_marked(name)]
        while True:
            try:
                busy = await self._work()
            except Exception:
                logger.exception("disposal failed; trying again")
                await asyncio.sleep(RETRY_S)
                continue
            if not busy:
                await asyncio.sleep(TICK_S)

    def _is_marked(self, name: str) -> bool:
        return (self._store.data / "tenants" / name / MARKER).exists()

    async def _work(self) -> bool:
        """Something that is due; whether anything was."""
        pending = [one.name for one in self._store.opened() if one.purges.pending]
        due = (*self._unfinished, *pending)
        name = next((name for name in due if not self._turns.is_resting(name)), "")
        if name:
            if await self._turns.give(name, self._clear) and name in self._unfinished:
                self._unfinished.remove(name)
            return True
        return self._keep_s is not None and await self._look(self._keep_s)

    async def _clear(self, tenant: Tenant) -> None:
        """Everything of one tenant that is purged, then the pages that this freed."""
        more = tenant.purges.pending
        while more:
            start = time.monotonic()
            more = await tenant.purges.dispose()
            await _pause(start)
        more = True
        while more:
            start = time.monotonic()
            more = await tenant.maintain(gently=True)
            await _pause(start)
        tenant.tidy = False  # when it is quiet, the rest of the WAL goes, too

    async def _look(self, keep_s: float) -> bool:
        """Purge what was deleted long ago in a tenant that was not asked for it for long."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        opened = {tenant.name for tenant in self._store.opened()}
        for name in self._store.names():
            every = min(LOOK_S, max(1.0, keep_s / 2)) if name in opened else LOOK_CLOSED_S
            never = 0.0 if name in opened else self._first_look - every
            if now < self._looked.get(name, never) + every:
                continue
            self._looked[name] = now
            await self._turns.give(name, partial(_expire, keep_s=keep_s))
            return True
        self._next_look = now + 1.0
        return False


async def _expire(tenant: Tenant, *, keep_s: float) -> None:
    await tenant.purges.expired(now_ms() - round(keep_s * 1000))


async def _pause(start: float) -> None:
    await asyncio.sleep(PAUSE_SHARE * (time.monotonic() - start))
