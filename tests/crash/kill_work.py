"""SIGKILL at the n-th change of the disk, one n after another: a program, the shim preloaded.

``kill_work.py FOLDER SCENARIO SEED FIRST STRIDE`` does the work once for every n from FIRST, STRIDE
apart, up to the number of changes (writes, syncs, names) that the whole work makes.  Each time a
child is killed at its n-th change - before it, halfway through it or after it, in turn - and
another opens what it left, compares, and goes on working.  Prints one line of JSON: how many n were
tried, how many kills struck while what was under way, and what was wrong.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from stepwell_storage import migrations
from stepwell_storage.check import verify
from tests.crash.engine_work import (
    ANY_CHANGE,
    TENANT,
    Oracle,
    Shim,
    Work,
    flush_by_no_clock,
    may_be_beyond,
    open_store,
    purge_in_slices,
    set_pragma,
)
from tests.crash.plans import Action, plan, with_purges

LOGS = 16
UNHURT = "nothing: it went well"
GOLDEN = Path(__file__).parents[1] / "golden"
FIRST, SECOND = migrations.VERSION + 1, migrations.VERSION + 2
STEPS = {
    f"migrations/{FIRST}.sql": """
        create table copy (id {pk}, payload {bytes} not null);
        insert into copy select id, data from chunk;
        create index copy_by_payload on copy (payload);""",
    f"migrations/{SECOND}.sql": """
        alter table run add column colour text;
        update run set colour = 'red';
        drop table copy;""",
}
"""Two versions after the newest, which rewrite whole tables."""
READ = migrations.read
STEPS["schema.sql"] = READ("schema.sql") + "alter table run add column colour text;"


class Everything:
    """First creation of a tenant, logging, statistics, compaction, deletion, files, reopening."""

    def __init__(self, seed: int) -> None:
        purge_in_slices()
        self.groups = with_purges(plan(seed, LOGS), seed, 1)
        self.oracle = Oracle.of(self.groups)

    def prepare(self, data: Path) -> None: ...

    async def work(self, data: Path, mark: Callable[[str, int], None]) -> None:
        async def refused(_: Work) -> None:
            raise AssertionError("nothing refuses here")

        async with Work(data, mark, refused) as work:
            await work.do(self.groups)

    async def compare(self, data: Path, marks: list[tuple[str, int]]) -> None:
        for what, number in marks:
            (self.oracle.sent if what == "sent" else self.oracle.done).add(number)
        store = await open_store(data)
        try:
            await self.oracle.compare(store)
        finally:
            await store.close()
        found = (await verify(data)).problems
        assert found == [], found
        more = Action(10_000_000, "create", run=99)
        async with Work(data, lambda *_: None, _never) as work:
            await work.do([[more]])
        check_pages(data)

    def under_way(self, marks: list[tuple[str, int]]) -> str:
        done = {number for what, number in marks if what == "done"}
        open_ = [n for what, n in marks if what == "sent" and n not in done]
        if not marks or (open_ and self.oracle.actions[open_[0]] in self.groups[0]):
            return "first creation"
        return self.oracle.actions[open_[0]].kind if open_ else "between"


class Migration:
    """A file of version 1 becomes one of two versions after the newest: it is always of a whole one
    between them, and says the same."""

    source = GOLDEN / "v1_tenant.db"

    def __init__(self, _: int) -> None:
        migrations.read = lambda name: STEPS.get(name) or READ(name)
        migrations.VERSION = SECOND
        self.before = contents(self.source)

    def prepare(self, data: Path) -> None:
        folder = data / "tenants" / TENANT
        folder.mkdir(parents=True)
        shutil.copy(self.source, folder / "tenant.db")

    async def work(self, data: Path, mark: Callable[[str, int], None]) -> None:
        store = await open_store(data)
        async with store.lease(TENANT, create=False):
            mark("done", 0)
        await store.close()

    async def compare(self, data: Path, marks: list[tuple[str, int]]) -> None:
        path = data / "tenants" / TENANT / "tenant.db"
        with sqlite3.connect(path) as connection:
            (version,) = connection.execute("pragma user_version").fetchone()
            tables = {name for (name,) in connection.execute("select name from sqlite_master")}
            columns = [row[1] for row in connection.execute("pragma table_info(run)")]
        connection.close()
        assert version == SECOND or ("done", 0) not in marks, "it was said to be there"
        assert ("registered_model" in tables) == (version >= 2), "half a step was made"
        assert ("copy" in tables) == (version == FIRST), "half a step was made"
        assert ("colour" in columns) == (version == SECOND), "half a step was made"
        assert contents(path) == self.before, "a step changed what it should not"
        await self.work(data, lambda *_: None)
        assert contents(path) == self.before
        found = (await verify(data)).problems
        assert found == [], found
        check_pages(data)

    def under_way(self, marks: list[tuple[str, int]]) -> str:
        return "migration" if not marks else "between"


class MigrationOfVersion2(Migration):
    source = GOLDEN / "v2_tenant.db"


class MigrationOfVersion3(Migration):
    source = GOLDEN / "v3_tenant.db"


class AcknowledgesFirst(Everything):
    """A server that says of everything that it is done when it begins: what a kill costs then must
    be noticed."""

    async def work(self, data: Path, mark: Callable[[str, int], None]) -> None:
        def early(what: str, number: int) -> None:
            mark(what, number)
            mark("done", number)

        await super().work(data, early)


SCENARIOS: dict[str, type[Everything | Migration]] = {
    "everything": Everything,
    "acknowledges first": AcknowledgesFirst,
    "migration": Migration,
    "migration of version 2": MigrationOfVersion2,
    "migration of version 3": MigrationOfVersion3,
}


async def _never(_: Work) -> None:
    raise AssertionError("it refuses after the crash")


def contents(path: Path) -> list[tuple[object, ...]]:
    """What all versions have in common: points, parameters, runs."""
    with sqlite3.connect(path) as connection:
        rows = [
            row
            for query in (
                "select id, run_id, name, status from run order by id",
                "select id, key, run, value from param order by id",
                "select id, run, payload from journal order by id",
                "select id, run, key, count, data from chunk order by id",
            )
            for row in connection.execute(query)
        ]
    connection.close()
    return rows


def check_pages(data: Path) -> None:
    """However it was made, the file gives freed pages back."""
    with sqlite3.connect(data / "tenants" / TENANT / "tenant.db") as connection:
        assert connection.execute("pragma page_size").fetchone() == (8192,)
        assert connection.execute("pragma auto_vacuum").fetchone() == (2,)
    connection.close()


def in_child(work: Callable[[], None]) -> int:
    """The status by which a forked child ended; its own exception is told on stderr."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        work()
    except BaseException:  # noqa: BLE001 - the child must end here, whatever it is
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def one(scenario: Everything | Migration, folder: Path, at: int) -> tuple[str, str]:
    """What was under way when the kill struck, and what was wrong afterwards."""
    data, beside = folder / "data", folder.parent.with_name(f"beside-{folder.name}")
    ledger, said = beside.with_suffix(".marks"), beside.with_suffix(".wrong")
    folder.mkdir()
    scenario.prepare(data)
    shim = Shim()

    def die() -> None:
        fd = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def mark(what: str, number: int) -> None:
            os.write(fd, f"{what} {number}\n".encode())

        shim.kill(at, at % 3)
        asyncio.run(scenario.work(data, mark))

    def look() -> None:
        sys.stderr = said.open("w")
        asyncio.run(scenario.compare(data, marks))

    status = in_child(die)
    marks = [(line.split()[0], int(line.split()[1])) for line in ledger.read_text().splitlines()]
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        during = UNHURT if status == 0 else "nothing"
        return during, f"it ended with {status} where it should have been killed"
    if status := in_child(look):
        last = said.read_text().strip().rpartition("\n")[2]
        return scenario.under_way(marks), last or f"the one that looks ended with {status}"
    shutil.rmtree(folder)
    return scenario.under_way(marks), ""


def changes(scenario: Everything | Migration, folder: Path) -> int:
    """How many changes the whole work makes."""
    folder.mkdir()
    scenario.prepare(folder / "data")
    before = Shim().seen(ANY_CHANGE)
    counted, to = os.pipe()

    def count() -> None:
        asyncio.run(scenario.work(folder / "data", lambda *_: None))
        os.write(to, b"%d" % (Shim().seen(ANY_CHANGE) - before))

    assert in_child(count) == 0, "the work fails by itself"
    return int(os.read(counted, 32))


def main() -> None:
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    seed, first, stride = map(int, sys.argv[3:6])
    set_pragma("wal_autocheckpoint", 40)
    flush_by_no_clock(math.inf)
    total = changes(SCENARIOS[kind](seed), folder / "whole")
    struck: Counter[str] = Counter()
    wrong = []
    for at in range(first, total + 1, stride):
        during, problem = one(SCENARIOS[kind](seed), folder / f"n{at}", at)
        if during == UNHURT and may_be_beyond(at, total):
            continue
        struck[during] += 1
        if problem:
            wrong.append(f"n = {at}, during {during}: {problem}")
    answer = {"tried": sum(struck.values()), "changes": total, "during": struck, "wrong": wrong}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
