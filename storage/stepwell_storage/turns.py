"""Turns of a store's tenants: where something fails, that one has a rest and the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from stepwell_storage.errors import StorageError
from stepwell_storage.tenant import Tenant

if TYPE_CHECKING:
    from stepwell_storage.store import Store

logger = logging.getLogger(__name__)


class Turns:
    """Of one kind of work, named ``what``; a rest takes ``rest_s`` seconds."""

    def __init__(self, store: Store, what: str, rest_s: float) -> None:
        self._store = store
        self._what = what
        self._rest_s = rest_s
        self._resting: dict[str, float] = {}

    def is_resting(self, name: str) -> bool:
        return time.monotonic() < self._resting.get(name, 0.0)

    async def give(self, name: str, work: Callable[[Tenant], Awaitable[None]]) -> bool:
        """Do something for a tenant, and whether that went well; raises nothing."""
        try:
            async with self._store.lease(name, create=False) as tenant:
                await work(tenant)
        except StorageError as error:
            logger.error("%s in tenant %s: %s; trying again", self._what, name, error)
        except Exception:
            logger.exception("%s in tenant %s failed; trying again", self._what, name)
        else:
            self._resting.pop(name, None)
            return True
        self._resting[name] = time.monotonic() + self._rest_s
        return False
