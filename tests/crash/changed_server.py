"""A server with one thing changed, by which a suite shows that it would notice, or strikes where it
means to: ``changed_server.py CHANGE[,CHANGE...] serve ...``.

- ``ack-first``: log requests are answered before their transaction, not after it, and 10 ms before,
  so that a few kills at random moments hit that gap
- ``die:STATEMENT:WHEN:COUNT``: SIGKILL ``before`` or ``after`` the COUNT-th use of a statement of
  queries.sql by the writer, or of ``commit``
- ``small-units``: compaction is due after a few batches
- ``eager-flush``: every commit catches the statistics up
- ``brisk-sweep``: the deadlines of connections are a twentieth of theirs
- ``few-files:COUNT``: the process may open so many
- ``small-arriving:BYTES``: the bound of the bodies that arrive
"""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from stepwell.__main__ import main
from stepwell_storage import backlog, sqlite, writer
from stepwell_storage.committer import Committer, Job
from stepwell_storage.journal import LogJob
from stepwell_storage.records import Ack
from stepwell_storage.statements import sql
from stepwell_tracker import connections, http


def ack_first() -> None:
    commit = Committer._commit

    async def acknowledge_and_commit(self: Committer, group: list[Job]) -> None:
        for job in group:
            if type(job) is LogJob:
                job.result = Ack(False)
                job.resolve()
        await asyncio.sleep(0.01)
        await commit(self, group)

    Committer._commit = acknowledge_and_commit  # type: ignore[method-assign]


def die(statement: str, when: str, count: str) -> None:
    text = getattr(sql, statement) if statement != "commit" else statement
    beginning, left = text.partition("(?*)")[0], int(count)

    def wrapped(method: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[int]]:
        async def counting(self: Any, asked: str, *rest: Sequence[Any]) -> int:
            nonlocal left
            ours = asked.startswith(beginning)
            left -= ours
            if ours and not left and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await method(self, asked, *rest)
            if ours and not left:
                await self.call(lambda raw: None)  # what was only queued is done by then
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counting

    for name in ("execute", "executemany"):
        setattr(sqlite._Connection, name, wrapped(getattr(sqlite._Connection, name)))


def small_units() -> None:
    backlog.UNIT_POINTS = 2_000


def eager_flush() -> None:
    writer.FLUSH_INTERVAL_S = 0.0


def brisk_sweep() -> None:
    for name in ("SWEEP_S", "HEAD_S", "SLOW_S", "UNREAD_S", "IDLE_S"):
        setattr(connections, name, getattr(connections, name) / 20)


def few_files(count: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count), int(count)))


def small_arriving(size: str) -> None:
    http.MAX_ARRIVING_BYTES = int(size)  # type: ignore[misc]  # a constant of the product's


CHANGES: dict[str, Callable[..., None]] = {
    "ack-first": ack_first,
    "die": die,
    "small-units": small_units,
    "eager-flush": eager_flush,
    "brisk-sweep": brisk_sweep,
    "few-files": few_files,
    "small-arriving": small_arriving,
}

if __name__ == "__main__":
    for change in sys.argv.pop(1).split(","):
        name, *arguments = change.split(":")
        CHANGES[name](*arguments)
    sys.exit(main())
