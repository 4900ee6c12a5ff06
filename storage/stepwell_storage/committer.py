"""Group commit: one queue, one task, one visible loop.

Whoever wants something written puts a :class:`Job` into the queue and awaits its future.  The task
drains the queue, hands the whole group to ``apply`` - which runs it in one transaction - and then
resolves every future.  An acknowledgement means: committed and synced.

- A cancelled request cancels nothing that was queued; its future is simply not awaited any more.
- A job that cannot be done is failed by ``apply`` alone (``job.fail``), before anything of it is
  written.  When the transaction as a whole fails, each job is tried once more by itself, so that
  one poisoned job cannot fail its neighbours.
- The queue is bounded in bytes; beyond that :meth:`Committer.submit` raises Busy at once.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from stepwell_storage.errors import Busy, Closed, Corrupt, Full, StorageError, Unreadable
from stepwell_storage.meters import Meters

logger = logging.getLogger(__name__)

# How often the task yields to the event loop before it drains the queue: requests that are
# already decoded get into this group instead of waiting for the next sync.
YIELDS = 3
MAX_GROUP_JOBS = 512


class Job:
    """Something to write.  ``size`` is what it holds of the queue's bound, in bytes."""

    __slots__ = ("error", "future", "result", "size")

    def __init__(self, size: int = 256) -> None:
        self.size = size
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.result: Any = None
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """This job alone does not happen."""
        self.error = error

    def resolve(self) -> None:
        if self.future.done():  # its request was cancelled
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)
            self.future.exception()  # a request that went away never asks


class Gauge:
    """Bytes queued by all tenants of one server, their bound, and what the server counts."""

    def __init__(self, max_bytes: int) -> None:
        self.meters = Meters()
        self.max_bytes = max_bytes
        self.bytes = 0


class Committer:
    """Owns the writing of one tenant.  ``apply`` runs a group in one transaction."""

    def __init__(
        self,
        name: str,
        apply: Callable[[Sequence[Job]], Awaitable[None]],
        *,
        max_bytes: int,
        gauge: Gauge,
        pause: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._name = name
        self._apply = apply
        self._pause = pause
        self._max_bytes = max_bytes
        self._gauge = gauge
        self._queue: deque[Job] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name=f"committer of {name}")
        self.groups = self.jobs = 0
        self.last_commit_s = 0.0

    @property
    def queued_bytes(self) -> int:
        return self._bytes

    def submit(self, job: Job) -> asyncio.Future[Any]:
        """Queue a job.  Raises at once: Busy beyond the bounds, Closed after close."""
        if self._closing:
            raise Closed(f"tenant {self._name} was closed")
        gauge = self._gauge
        if self._bytes and self._bytes + job.size > self._max_bytes:
            gauge.meters.refused_busy += 1
            raise Busy(f"more than {self._max_bytes} bytes wait to be written")
        if gauge.bytes and gauge.bytes + job.size > gauge.max_bytes:
            gauge.meters.refused_busy += 1
            raise Busy(f"more than {gauge.max_bytes} bytes wait to be written on this server")
        self._queue.append(job)
        self._bytes += job.size
        gauge.bytes += job.size
        self._wake.set()
        return job.future

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                continue
            for _ in range(YIELDS):
                await asyncio.sleep(0)
            if delay := self._pause():
                await asyncio.sleep(delay)
            await self._commit(self._drain())

    def _drain(self) -> list[Job]:
        count = min(len(self._queue), MAX_GROUP_JOBS)
        return [self._queue.popleft() for _ in range(count)]

    async def _commit(self, group: list[Job]) -> None:
        start = time.perf_counter()
        try:
            await self._apply(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must reach the requests
            await self._retry(group, error)
        except BaseException:  # the task was cancelled: nothing says that this was committed
            self._fail(group, Closed(f"tenant {self._name} was closed"))
            raise
        finally:
            size = sum(job.size for job in group)
            self._bytes -= size
            self._gauge.bytes -= size
            self.groups += 1
            self.jobs += len(group)
            self.last_commit_s = time.perf_counter() - start
            self._gauge.meters.commit_seconds.add(self.last_commit_s)
            self._gauge.meters.group_jobs.add(len(group))
            for job in group:
                job.resolve()

    async def _retry(self, group: list[Job], error: Exception) -> None:
        """The transaction failed: find out whom it was about.

        SQLite calls a sector that could not be read damage, so that is tried again by one job too.
        """
        alone = len(group) == 1 and not isinstance(error, Corrupt)
        if alone or isinstance(error, Full | Unreadable):
            self._fail(group, error)
            return
        for job in group:
            job.error = None
            try:
                await self._apply([job])
            except Exception as again:  # noqa: BLE001 - as above
                self._fail([job], again)

    def _fail(self, group: list[Job], error: Exception) -> None:
        if not isinstance(error, StorageError):
            logger.error("a write to tenant %s failed", self._name, exc_info=error)
        for job in group:
            job.fail(error)

    async def close(self) -> None:
        """Commit what is queued, then end the task."""
        self._closing = True
        self._wake.set()
        await self._task
