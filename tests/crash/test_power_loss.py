"""The power fails: what was synced is there, the rest is dropped, kept, reordered or torn.

A process logs into an engine on a watched disk, and notes in the record of its writes and syncs
what it asked for and what was acknowledged.  Each cut is a place of that record: the disk as a
power cut may leave it there is opened again and compared with what was acknowledged before.
"""

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from stepwell_storage.check import verify
from stepwell_storage.store import Options, Store
from tests.crash import engine_work, shim
from tests.crash.engine_work import Oracle
from tests.crash.plans import plan, with_purges
from tests.crash.shim import Disk, Kind, Record

SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))
CHECKPOINT_OFTEN = "--pragma=wal_autocheckpoint=40"


def record(folder: Path, program: str, *options: str) -> list[Record]:
    """The record of one scenario, from an empty disk to a clean end."""
    disk, log = folder / "disk", folder / "log"
    disk.mkdir(parents=True)
    command = [sys.executable, program, str(disk), *options]
    environment = shim.environment(shim.build(folder), disk, log=log)
    root = Path(__file__).parents[2]
    subprocess.run(command, env=environment | {"PYTHONPATH": str(root)}, check=True, timeout=240)
    shutil.rmtree(disk)
    return shim.read(log)


def cuts_of(records: list[Record], rng: random.Random, count: int) -> list[int]:
    """Half of them anywhere, half right after an acknowledgement."""
    done = [at + 1 for at, record in enumerate(records) if record.data.startswith(b'["done"')]
    anywhere = range(len(records) + 1)
    return sorted(rng.choice(done if n % 2 else anywhere) for n in range(count))


def cut_power(
    records: list[Record], cuts: Iterable[int], seed: int, mark: Callable[[str, int], None]
) -> Iterator[tuple[int, dict[str, bytes | None]]]:
    """The places of a record (ascending), and what a power cut there leaves; ``mark`` hears of what
    was noted in front of each."""
    disk, at = Disk(seed), 0
    for number, cut in enumerate(cuts):
        for entry in records[at:cut]:
            disk.apply(entry)
            if entry.kind == Kind.MARK:
                mark(*json.loads(entry.data))
        at = cut
        yield cut, disk.cut(random.Random(f"{seed} {number}"))


async def check(folder: Path, oracle: Oracle) -> None:
    store = await Store.open(folder / "data", Options(compact=False))
    try:
        await oracle.compare(store)
    finally:
        await store.close()
    found = await verify(folder / "data")
    assert found.problems == []


def lose_power(
    folder: Path, records: list[Record], cuts: Iterable[int], oracle: Oracle, seed: int
) -> list[str]:
    """Cut the power at each of the places (ascending); what was wrong afterwards."""
    wrong = []

    def mark(what: str, action: int) -> None:
        {"sent": oracle.sent, "done": oracle.done}.get(what, set()).add(action)

    for number, (cut, files) in enumerate(cut_power(records, cuts, seed, mark)):
        left = folder / f"cut{number}"
        shim.restore(files, left)
        try:
            asyncio.run(check(left, oracle))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            wrong.append(f"cut {number} at {cut}: {type(error).__name__}: {error}")
        else:
            shutil.rmtree(left)
    return wrong


def storm(
    folder: Path, seed: int, logs: int, cuts: int, *options: str, purges: int = 0
) -> list[str]:
    chosen = f"--seed={seed}", f"--logs={logs}", f"--purges={purges}"
    records = record(folder, engine_work.__file__, *chosen, *options)
    kinds = {entry.kind for entry in records}
    assert {Kind.WRITE, Kind.SYNC, Kind.CREATE, Kind.TRUNCATE} <= kinds, "the shim saw too little"
    oracle = Oracle.of(with_purges(plan(seed, logs), seed, purges))
    places = cuts_of(records, random.Random(seed), cuts)
    return lose_power(folder, records, places, oracle, seed)


@pytest.mark.timeout(600)
def test_the_power_fails_and_something_acknowledged_is_gone(tmp_path: Path):
    assert storm(tmp_path, SEED, 60, 60, CHECKPOINT_OFTEN) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(14))
def test_the_power_fails_thousands_of_times(tmp_path: Path, number: int):
    """From 10 on with purges, of 6 to 9 and from 12 on every so manieth sync fails."""
    options = [CHECKPOINT_OFTEN] if number % 2 else []
    options += [f"--fail-sync={number}"] if 5 < number < 10 or number > 11 else []
    purges = 12 if number > 9 else 0
    assert storm(tmp_path, SEED + number, 120, 400, *options, purges=purges) == []


@pytest.mark.timeout(600)
def test_the_power_fails_while_runs_are_deleted_for_good(tmp_path: Path):
    assert storm(tmp_path, SEED, 20, 60, CHECKPOINT_OFTEN, purges=5) == []


@pytest.mark.timeout(600)
def test_a_sync_failed_and_what_it_was_for_never_reached_the_disk(tmp_path: Path):
    """The kernel forgets what it could not write, and the next sync succeeds without it."""
    options = CHECKPOINT_OFTEN, "--fail-sync=7"
    assert storm(tmp_path, SEED, 40, 40, *options) == []


@pytest.mark.timeout(600)
def test_a_removed_folder_takes_along_what_has_its_name_by_then(tmp_path: Path):
    """The move of a tree is synced on both sides before the name is given again."""
    seed, logs = 251, 20
    kinds = [action.kind for group in plan(seed, logs) for action in group if action.path]
    assert kinds.index("remove") < len(kinds) - 1 - kinds[::-1].index("put")
    assert storm(tmp_path, seed, logs, 40) == []


@pytest.mark.timeout(600)
def test_the_sync_of_a_folder_failed_and_the_wal_has_no_name(tmp_path: Path):
    """SQLite ignores that error: the first commits after an opening would be lost."""
    assert storm(tmp_path, SEED, 40, 40, "--fail-sync=1", "--folders") == []


@pytest.mark.timeout(600)
def test_without_syncs_the_oracle_sees_the_loss(tmp_path: Path):
    """An oracle that cannot fail proves nothing."""
    wrong = storm(tmp_path, SEED, 30, 20, "--pragma=synchronous=off")
    assert any("is lost" in line or "is gone" in line for line in wrong), wrong
