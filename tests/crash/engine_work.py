"""Work for the engine with an oracle of it, in a process of its own on a watched disk.

As a program: ``engine_work.py FOLDER`` with the shim preloaded does the work once on FOLDER/data
and marks in the shim's record what it asked for and what was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import errno
import json
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stepwell_storage import purges, sqlite, writer
from stepwell_storage.compaction import build
from stepwell_storage.errors import Busy, Full, NotFound, Purged, Unreadable
from stepwell_storage.records import NewRun, RunChange
from stepwell_storage.sealed import Sealed
from stepwell_storage.sqlite import read_only
from stepwell_storage.store import Options, Store
from stepwell_storage.tenant import Tenant
from tests.crash.plans import FILES, KEYS, SIZES, Action, batch_of, plan, values_of, with_purges

TENANT = "default"
ATTEMPTS = 5
ANY_WRITE, ANY_SYNC, FOLDER_SYNC, ANY_NAME, ANY_READ, ANY_CHANGE, ANY_LOOK = range(1, 8)
INTERNAL = ("compact", "settle", "reopen", "dispose")


async def ask(tenant: Tenant, action: Action) -> None:
    """One request.  Returns once it is acknowledged, raises what storage raises."""
    if action.kind == "create":
        await tenant.create_run(NewRun(run_id=action.run_id, name="a run", start_time=1_000))
    elif action.kind == "log":
        await tenant.log(action.run_id, batch_of(action))
    elif action.kind == "put":
        await tenant.artifacts.of_run(action.run_id).put(action.path, _pieces(action.contents))
    elif action.kind == "remove":
        await tenant.artifacts.of_run(action.run_id).delete(action.path)
    elif action.kind == "purge":
        await tenant.purges.run(action.run_id)
    else:
        lifecycle = "deleted" if action.kind == "delete" else "active"
        await tenant.change_run(action.run_id, RunChange(lifecycle=lifecycle))


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


# --- the oracle -----------------------------------------------------------------------------------


@dataclass
class Oracle:
    """What was asked for, and what of it was acknowledged."""

    actions: dict[int, Action]
    sent: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, groups: Sequence[Sequence[Action]]) -> Oracle:
        return cls({action.number: action for group in groups for action in group})

    async def compare(self, store: Store) -> None:
        """Raises AssertionError where something acknowledged is not there bit for bit, once, or
        something else is there in part."""
        by_run = defaultdict(list)
        for number in sorted(self.sent):
            action = self.actions[number]
            if action.kind not in INTERNAL:
                by_run[action.run_id].append(action)
        async with store.lease(TENANT, create=True) as tenant:
            for run_id, actions in by_run.items():
                await self._compare_run(tenant, run_id, actions)

    async def _compare_run(self, tenant: Tenant, run_id: str, actions: Sequence[Action]) -> None:
        done = {action.kind for action in actions if action.number in self.done}
        try:
            run = await tenant.run(run_id)
        except NotFound:
            if any(action.kind == "purge" for action in actions):
                await self._compare_purged(tenant, run_id)
            else:
                assert not done, f"run {run_id} is gone"
            return
        assert "purge" not in done, f"run {run_id} is back"
        self._compare_lifecycle(run.lifecycle, actions)
        for path in FILES:
            await self._compare_file(tenant, path, actions)
        steps = {key: await self._steps(tenant, run_id, key) for key in KEYS}
        for action in actions:
            if action.kind != "log":
                continue
            stretch = range(action.first, action.first + action.count)
            there = [len(steps[key].intersection(stretch)) == action.count for key in action.keys]
            none = [steps[key].isdisjoint(stretch) for key in action.keys]
            there += [f"param {action.number}" in run.params, f"tag {action.number}" in run.tags]
            assert all(there) or (all(none) and not any(there)), f"half of {action} is there"
            assert all(there) or action.number not in self.done, f"{action} is lost"
            for key in action.keys:
                steps[key] -= set(stretch)
        assert not any(steps.values()), "points that nobody sent"

    @staticmethod
    async def _compare_purged(tenant: Tenant, run_id: str) -> None:
        try:
            await tenant.create_run(NewRun(run_id=run_id, name="again", start_time=1))
        except Purged:
            return
        raise AssertionError(f"run {run_id} is gone, and its id is free again")

    @staticmethod
    async def _steps(tenant: Tenant, run_id: str, key: str) -> set[int]:
        points = await tenant.points(run_id, key)
        assert (np.diff(points.steps) > 0).all(), "a point is there twice or out of order"
        assert (points.timestamps == points.steps).all(), "other times"
        assert points.values.tobytes() == values_of(key, points.steps).tobytes(), "other bits"
        return set(points.steps.tolist())

    async def _compare_file(self, tenant: Tenant, path: str, actions: Sequence[Action]) -> None:
        allowed: list[bytes | None] = [None]
        for action in actions:
            if action.kind == "put" and action.path == path:
                state: bytes | None = action.contents
            elif action.kind == "remove" and f"{path}/".startswith(f"{action.path}/"):
                state = None
            else:
                continue
            allowed = [state] if action.number in self.done else [*allowed, state]
        try:
            async with await tenant.artifacts.of_run(actions[0].run_id).open(path) as file:
                found: bytes | None = await file.read(0, max(SIZES) + 1)
        except NotFound:
            found = None
        assert found in allowed, f"the file {path} is lost, or in part another"

    def _compare_lifecycle(self, found: str, actions: Sequence[Action]) -> None:
        allowed = {"active"}
        for action in actions:
            if action.kind in ("delete", "restore"):
                state = "deleted" if action.kind == "delete" else "active"
                allowed = {state} if action.number in self.done else allowed | {state}
        assert found in allowed, f"the run is {found}"


# --- the process ----------------------------------------------------------------------------------


class Shim:
    """The preloaded library, from inside."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)

    def mark(self, what: str, number: int) -> None:
        text = json.dumps([what, number]).encode()
        self._library.shim_mark(text, ctypes.c_size_t(len(text)))

    def arm(self, what: int, at: int, error: int, *, sticky: bool, shorten: bool) -> None:
        """The ``at``-th ANY_WRITE or ANY_SYNC from now on fails; see shim.c."""
        self._library.shim_arm(what, ctypes.c_long(at), error, sticky, shorten)

    def disarm(self) -> None:
        self.arm(0, 0, 0, sticky=False, shorten=False)

    def seen(self, what: int) -> int:
        return int(self._library.shim_seen(what))

    def kill(self, at: int, when: int) -> None:
        """SIGKILL at the ``at``-th change from now on: 0 before it, 1 halfway, 2 after it."""
        self._library.shim_kill(ctypes.c_long(at), when)

    @property
    def failed(self) -> int:
        return int(self._library.shim_failed())


class CompactorHere:
    """The compactor without its process, which would take longer to start than the work takes."""

    async def build(self, path: Path, runs: list[int]) -> Sealed:
        async with read_only(path) as reader:
            return await build(reader, runs)

    async def close(self) -> None: ...


async def open_store(data: Path) -> Store:
    store = await Store.open(data, Options(compact=False))
    compactor: Any = CompactorHere()
    store._housekeeping.compactor = compactor
    return store


def set_pragma(name: str, value: object) -> None:
    """Another setting of the writing connection than the product's."""
    assert any(pragma.startswith(f"{name}=") for pragma in sqlite._WRITER)
    sqlite._WRITER = tuple(
        f"{name}={value}" if pragma.startswith(f"{name}=") else pragma for pragma in sqlite._WRITER
    )


def purge_in_slices() -> None:
    """Smaller ones than the product's, so that many transactions remove a run of a few rows."""
    purges.SLICE_ROWS = 2  # type: ignore[misc]  # constants of the product's
    purges.SLICE_BYTES = 2_000  # type: ignore[misc]


def flush_by_no_clock(interval_s: float) -> None:
    """The same changes of the disk in every run: statistics are written by every commit (0), or by
    none that is not asked to (infinite)."""
    writer.FLUSH_INTERVAL_S = interval_s
    writer.FLUSH_SHARE = 0
    writer.PIECE_S = math.inf


def may_be_beyond(at: int, calls: int) -> bool:
    """Whether a call of this number need not come, where the same work made ``calls``: what shares
    a transaction is a matter of the moment, so the last of them are not there every time."""
    return at > 0.96 * calls


class Work:
    """Everything of a plan, asked for again and again while the disk refuses it."""

    def __init__(
        self,
        data: Path,
        mark: Callable[[str, int], None],
        refused: Callable[[Work], Awaitable[None]],
    ) -> None:
        self.data = data
        self.tenant: Tenant | None = None
        self.is_open = False
        self._mark = mark
        self._refused = refused
        self.store: Store

    async def __aenter__(self) -> Work:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()

    async def do(self, groups: Sequence[Sequence[Action]]) -> None:
        for group in groups:
            if group[0].kind == "reopen":
                self.tenant = None
                self.is_open = False
                await self.store.close()
                await self._open()
            else:
                await self._insist(list(group))

    async def _open(self) -> None:
        """A server that cannot start says why and ends; it is started again."""
        for _ in range(ATTEMPTS):
            try:
                self.store = await open_store(self.data)
            except OSError:
                await self._refused(self)
            else:
                self.is_open = True
                return
        raise AssertionError("it does not start")

    async def _insist(self, group: list[Action]) -> None:
        """Until everything is acknowledged.  Nothing is under way while ``refused`` looks on."""
        for _ in range(ATTEMPTS):
            outcomes = await asyncio.gather(*map(self._attempt, group), return_exceptions=True)
            for outcome in outcomes:
                if outcome is not None and not isinstance(outcome, Full | Busy | Unreadable):
                    raise outcome
            group = [a for a, outcome in zip(group, outcomes, strict=True) if outcome is not None]
            if not group:
                return
            await self._refused(self)
        raise AssertionError("it does not recover")

    async def _attempt(self, action: Action) -> None:
        self._mark("sent", action.number)
        if action.kind == "compact":
            await self.store.compact(TENANT)
        elif action.kind == "dispose":
            await self.store.dispose(TENANT)
        else:
            async with self.store.lease(TENANT, create=True) as self.tenant:
                if action.kind == "settle":
                    await self.tenant.settle()
                else:
                    await ask(self.tenant, action)
        self._mark("done", action.number)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--logs", type=int, required=True)
    parser.add_argument("--pragma", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--fail-sync", type=int, default=0, metavar="N", help="every N-th fails")
    parser.add_argument("--folders", action="store_true", help="only syncs of folders count")
    parser.add_argument("--purges", type=int, default=0, metavar="N", help="of so many runs")
    arguments = parser.parse_args()
    purge_in_slices()
    groups = with_purges(plan(arguments.seed, arguments.logs), arguments.seed, arguments.purges)
    for pragma in arguments.pragma:
        set_pragma(*pragma.split("=", 1))
    shim = Shim()
    what_fails = FOLDER_SYNC if arguments.folders else ANY_SYNC

    def fail_again() -> None:
        if arguments.fail_sync:
            shim.arm(what_fails, arguments.fail_sync, errno.EIO, sticky=False, shorten=False)

    def mark(what: str, number: int) -> None:
        shim.mark(what, number)
        if what == "done" and shim.seen(what_fails) >= arguments.fail_sync:
            fail_again()

    async def refused(_: Work) -> None:
        shim.mark("refused", 0)

    async def run() -> None:
        async with Work(arguments.folder / "data", mark, refused) as work:
            await work.do(groups)

    fail_again()
    asyncio.run(run())


if __name__ == "__main__":
    main()
