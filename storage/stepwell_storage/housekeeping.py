"""What a store does by itself: compaction where it is due, and freed pages given back when idle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from stepwell_storage.compactor import Compactor
from stepwell_storage.meters import Meters
from stepwell_storage.tenant import Tenant
from stepwell_storage.turns import Turns

if TYPE_CHECKING:
    from stepwell_storage.store import Store

logger = logging.getLogger(__name__)

TICK_S = 0.1
LOOKS_SHARE = 50
IDLE_S = 2.0
RETRY_S = 1.0


class Housekeeping:
    """One unit of compaction at a time, for all tenants of a store, the most urgent first."""

    def __init__(self, store: Store, meters: Meters) -> None:
        self._store = store
        self._meters = meters
        self._task: asyncio.Task[None] | None = None
        self._turns = Turns(store, "housekeeping", RETRY_S)
        self.compactor = Compactor()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="housekeeping")

    async def close(self) -> None:
        """Stop at once; a unit that is being built is given up."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.compactor.close()

    async def _run(self) -> None:
        while True:
            start = time.perf_counter()
            try:
                busy = await self._compact_most_urgent() or await self._tidy_idle()
            except Exception:
                logger.exception("housekeeping failed; trying again")
                await asyncio.sleep(RETRY_S)
                continue
            if not busy:  # to look through thousands of waiting runs in vain takes a while, too
                await asyncio.sleep(max(TICK_S, LOOKS_SHARE * (time.perf_counter() - start)))

    def _rested(self) -> list[Tenant]:
        return [one for one in self._store.opened() if not self._turns.is_resting(one.name)]

    async def _compact_most_urgent(self) -> bool:
        due = [
            (*most_urgent, tenant.name)
            for tenant in self._rested()
            if (most_urgent := tenant.writer.backlog.most_urgent())
        ]
        if not due:
            return False
        _, run, name = max(due)

        async def unit(tenant: Tenant) -> None:
            backlog = tenant.writer.backlog
            runs = backlog.unit(run)
            try:
                await self._unit(tenant, runs)
            except Exception:
                if len(runs) > 1:
                    backlog.part(runs)
                else:
                    backlog.postpone(run)
                raise

        await self._turns.give(name, unit)
        return True

    async def _unit(self, tenant: Tenant, runs: list[int]) -> None:
        """Compact some runs' oldest journal rows."""
        assert tenant.folder is not None
        backlog = tenant.writer.backlog
        start = time.perf_counter()
        await tenant.settle()
        sealed = await self.compactor.build(tenant.folder / "tenant.db", runs)
        for run, what in sealed.damaged:
            logger.error("tenant %s, run row %d, damaged: %s", tenant.name, run, what)
        for run, taken in sealed.taken.items():
            if not taken.rows:
                backlog.give_up(run)
        if not sealed.journal:
            return
        if not await tenant.seal(sealed):
            if len(runs) > 1:
                backlog.part(runs)
            else:
                backlog.give_up(runs[0])
            return
        tenant.tidy = False
        self._meters.unit_points += sealed.points
        self._meters.unit_seconds.add(time.perf_counter() - start)

    async def compact(self, tenant: Tenant) -> None:
        """All that the tenant's journal holds, due or not; then give every freed page back."""
        backlog = tenant.writer.backlog
        while most_urgent := backlog.most_urgent(everything=True):
            await self._unit(tenant, backlog.unit(most_urgent[1], everything=True))
        while await tenant.maintain():
            pass

    async def _tidy_idle(self) -> bool:
        """Give back what idle tenants hold: connections of readers, and some pages; whether there
        is more to do."""
        quiet_since = time.monotonic() - IDLE_S
        for tenant in self._rested():
            unread = tenant.read_at is not None and tenant.read_at < quiet_since
            untidy = not tenant.tidy and tenant.writer.written_at < quiet_since
            if not (unread or untidy):
                continue
            await self._turns.give(tenant.name, partial(_tidy, unread=unread, untidy=untidy))
            return True
        return False


async def _tidy(tenant: Tenant, *, unread: bool, untidy: bool) -> None:
    if unread:
        await tenant.rest()
    if untidy:
        tenant.tidy = not await tenant.maintain()
