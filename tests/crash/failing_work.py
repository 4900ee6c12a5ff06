"""The n-th write or sync fails, for one n after another: a program, run with the shim preloaded.

``failing_work.py FOLDER FAULT SEED FIRST STRIDE`` does the work of a seed once for every n from
FIRST, STRIDE apart, up to the number of calls that the work makes, each time on a fresh folder.  It
prints one line of JSON: how many n were tried, how many faults struck, how many requests were
refused, and what was wrong.
"""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from stepwell_storage.check import verify
from stepwell_storage.records import RunQuery
from tests.crash.engine_work import (
    ANY_LOOK,
    ANY_NAME,
    ANY_READ,
    ANY_SYNC,
    ANY_WRITE,
    TENANT,
    Oracle,
    Shim,
    Work,
    flush_by_no_clock,
    may_be_beyond,
    purge_in_slices,
    set_pragma,
)
from tests.crash.plans import Action, plan, with_purges

LOGS = 8
ATTEMPTS_DOWN = 2


@dataclass(frozen=True, slots=True)
class Fault:
    what: int
    error: int
    sticky: bool = False
    shorten: bool = False


FAULTS = {
    "no space once": Fault(ANY_WRITE, errno.ENOSPC),
    "no space for a while, after half a write": Fault(ANY_WRITE, errno.ENOSPC, True, True),
    "over quota for a while": Fault(ANY_WRITE, errno.EDQUOT, True),
    "a write fails": Fault(ANY_WRITE, errno.EIO),
    "a sync fails": Fault(ANY_SYNC, errno.EIO),
    "syncs fail for a while": Fault(ANY_SYNC, errno.EIO, True),
    "no space for a name": Fault(ANY_NAME, errno.ENOSPC),
    "a name cannot be read or written": Fault(ANY_NAME, errno.EIO),
    "too many open files for a while": Fault(ANY_NAME, errno.EMFILE, True),
    "a look at a name fails": Fault(ANY_LOOK, errno.EIO),
    "looks at names fail for a while": Fault(ANY_LOOK, errno.EIO, True),
    "a read fails": Fault(ANY_READ, errno.EIO),
    "reads fail for a while": Fault(ANY_READ, errno.EIO, True),
}
UNREADABLE = {ANY_READ, ANY_NAME, ANY_LOOK}
"""While these last nothing can be read; once they end, all of it can."""


class Scenario:
    """The work once, with one fault."""

    def __init__(self, shim: Shim, groups: list[list[Action]], fault: Fault) -> None:
        self._shim = shim
        self._fault = fault
        self._groups = groups
        self._oracle = Oracle.of(groups)
        self.refused = 0
        self.calls = 0

    def mark(self, what: str, number: int) -> None:
        (self._oracle.sent if what == "sent" else self._oracle.done).add(number)

    async def when_refused(self, work: Work) -> None:
        """Reads go on while the fault lasts; after some attempts it ends."""
        self.refused += 1
        created = [a for a in self._groups[0] if a.number in self._oracle.done]
        if created and work.is_open and self._is_readable(work):
            await self._oracle.compare(work.store)
            async with work.store.lease(TENANT, create=False) as tenant:
                found = await tenant.search(RunQuery(lifecycle="all"))
                assert {a.run_id for a in created} <= {run.run_id for run in found.runs}
        if self.refused % ATTEMPTS_DOWN == 0:
            self._shim.disarm()

    def _is_readable(self, work: Work) -> bool:
        """A tenant that is not open yet needs the syncs of its names, an open one none."""
        if not self._fault.sticky:
            return True
        if self._fault.what == ANY_SYNC:
            return work.tenant is not None
        return self._fault.what not in UNREADABLE

    async def run(self, folder: Path) -> None:
        """Raises what was wrong."""
        data = folder / "data"
        async with Work(data, self.mark, self.when_refused) as work:
            await self._work(work)
        found = await verify(data)
        assert found.problems == []
        async with Work(data, self.mark, self.when_refused) as again:
            await self._oracle.compare(again.store)

    async def _work(self, work: Work) -> None:
        try:
            await work.do(self._groups)
        finally:
            self.calls = self._shim.seen(self._fault.what)
            self._shim.disarm()
        everything = {action.number for group in self._groups for action in group}
        reopened = {a.number for g in self._groups for a in g if a.kind == "reopen"}
        assert self._oracle.done == everything - reopened, "it did not recover"
        await self._oracle.compare(work.store)


def main() -> None:
    folder, fault = Path(sys.argv[1]), FAULTS[sys.argv[2]]
    seed, first, stride = map(int, sys.argv[3:6])
    set_pragma("wal_autocheckpoint", 40)
    shim = Shim()
    purge_in_slices()
    flush_by_no_clock(0.0)
    groups = with_purges(plan(seed, LOGS), seed, 1)
    undisturbed = Scenario(shim, groups, fault)
    asyncio.run(undisturbed.run(folder / "whole"))
    tried = refused = 0
    wrong = []
    for at in range(first, undisturbed.calls + 1, stride):
        scenario, before = Scenario(shim, groups, fault), shim.failed
        here = folder / f"n{at}"
        shim.arm(fault.what, at, fault.error, sticky=fault.sticky, shorten=fault.shorten)
        try:
            asyncio.run(scenario.run(here))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            wrong.append(f"n = {at}: {type(error).__name__}: {error}")
        else:
            shutil.rmtree(here)
        beyond = shim.failed == before and may_be_beyond(at, undisturbed.calls)
        tried += not beyond
        refused += scenario.refused
    answer: dict[str, object] = {"tried": tried, "calls": undisturbed.calls, "struck": shim.failed}
    answer |= {"refused": refused, "wrong": wrong}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
