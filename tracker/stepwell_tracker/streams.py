"""Replies without an end of their own: who ends them when the client goes or the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

from starlette.types import Receive


class Streams:
    """The endless replies of one server."""

    def __init__(self) -> None:
        self._ends: set[Callable[[], None]] = set()
        self._over = False

    def __len__(self) -> int:
        return len(self._ends)

    @contextlib.contextmanager
    def member(self, end: Callable[[], None]) -> Iterator[None]:
        """Have ``end`` called when the server stops; at once if it is stopping already."""
        if self._over:
            end()
        self._ends.add(end)
        try:
            yield
        finally:
            self._ends.discard(end)

    def end(self) -> None:
        """The server stops: end them all, and those that still come."""
        self._over = True
        for end in list(self._ends):
            end()


@contextlib.asynccontextmanager
async def client_watched(receive: Receive, on_gone: Callable[[], None]) -> AsyncIterator[None]:
    """Call ``on_gone`` if the client goes away meanwhile: ``send`` alone would never tell."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        on_gone()

    task = asyncio.create_task(watch(), name="watch for the client's end")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
