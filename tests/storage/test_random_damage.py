"""Any bit or page of a tenant's file changes: verify finds it, or no answer is another.

But for what docs/durability.md says has no checksum: ``UNCOVERED``.
"""

import asyncio
import os
import random
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from stepwell_storage.check import verify
from tests.serving import stepwell
from tests.storage.everything import CRASHED, Answers, answers, make

SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))
UNCOVERED = frozenset(
    f"{kind}.{field}"
    for kind, fields in {
        "run": "name description user_id end_time heartbeat_at stop_requested writers datasets"
        " models",
        "experiment": "description created_at updated_at artifact_location tags",
        "model": "model_type source_run_id status_message updated_at params tags metrics",
        "registered_model": "description created_at updated_at tags aliases latest",
        "model_version": "description user_id source location run_link created_at updated_at tags"
        " aliases",
    }.items()
    for field in fields.split()
) | {"datasets", "note", "purged"}
"""What answers with columns that stand in one place alone, without a checksum."""
PAGE = 8192
SECTOR = 512
Spoil = Callable[[bytes, random.Random], bytes]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("whole") / "data"
    asyncio.run(make(data))
    assert asyncio.run(verify(data)).problems == []
    return data


def kinds(before: Answers, after: Answers) -> set[str]:
    """What kinds of answers are others."""
    places = before.keys() | after.keys()
    return {at.split()[0] for at in places if before.get(at) != after.get(at)}


def crashes(after: Answers) -> list[object]:
    """Errors that are none of storage's."""
    return [one for one in after.values() if isinstance(one, str) and one.startswith(CRASHED)]


def flipped(raw: bytes, rng: random.Random) -> bytes:
    """One bit, of a byte that is not zero most of the time: a file has much space that is free."""
    at = rng.randrange(len(raw))
    while not raw[at] and rng.random() < 0.95:
        at = rng.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]


def other_page(raw: bytes, rng: random.Random) -> bytes:
    """A page, or its end from a sector on, is zeros, noise or another page: what a disk does that
    forgets, tears or misdirects a write."""
    count = len(raw) // PAGE
    at = rng.randrange(count) * PAGE
    begin = at + rng.choice((0, 0, SECTOR * rng.randrange(1, PAGE // SECTOR)))
    elsewhere = rng.randrange(count) * PAGE + begin - at
    size = at + PAGE - begin
    kinds = bytes(size), rng.randbytes(size), raw[elsewhere : elsewhere + size]
    return raw[:begin] + rng.choice(kinds) + raw[at + PAGE :]


def storm(
    whole: Path, folder: Path, seed: int, times: int, spoil: Spoil = flipped
) -> tuple[Counter[str], list[str]]:
    """What became of so many damages, and those that are findings."""
    rng, outcomes = random.Random(seed), Counter[str]()
    before = asyncio.run(answers(shutil.copytree(whole, folder / "before")))
    raw = (whole / "tenants/acme/tenant.db").read_bytes()
    wrong = []
    for number in range(times):
        data = shutil.copytree(whole, folder / "data")
        spoiled = spoil(raw, rng)
        (data / "tenants/acme/tenant.db").write_bytes(spoiled)
        problems = asyncio.run(verify(data)).problems
        after = asyncio.run(answers(data))
        changed = kinds(before, after)
        shutil.rmtree(data)
        if crashed := crashes(after):
            wrong.append(f"{number}: {crashed[0]}")
        elif problems:
            outcomes["found"] += 1
            assert all(one.startswith("tenant acme") for one in problems)
        elif not changed:
            outcomes["without effect"] += 1
        elif changed <= UNCOVERED:
            outcomes["has no checksum"] += 1
        else:
            at = next(at for at, byte in enumerate(raw) if byte != spoiled[at])
            wrong.append(f"{number} at {at}: {sorted(changed)}")
    sys.stderr.write(f"{times} times {spoil.__name__}: {dict(outcomes)}\n")
    return outcomes, wrong


@pytest.mark.timeout(600)
def test_a_flipped_bit_is_found_or_changes_nothing(whole: Path, tmp_path: Path):
    outcomes, wrong = storm(whole, tmp_path, SEED, 100)
    assert wrong == []
    assert outcomes["found"] > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(1, 5))
def test_thousands_of_flipped_bits_are_found_or_change_nothing(
    whole: Path, tmp_path: Path, number: int
):
    outcomes, wrong = storm(whole, tmp_path, SEED + number, 1_000)
    assert wrong == []
    assert outcomes["found"] > 300


@pytest.mark.timeout(600)
def test_a_page_that_is_another_is_found_or_changes_nothing(whole: Path, tmp_path: Path):
    outcomes, wrong = storm(whole, tmp_path, SEED, 60, other_page)
    assert wrong == []
    assert outcomes["found"] > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(1, 3))
def test_hundreds_of_pages_that_are_others_are_found_or_change_nothing(
    whole: Path, tmp_path: Path, number: int
):
    outcomes, wrong = storm(whole, tmp_path, SEED + number, 500, other_page)
    assert wrong == []
    assert outcomes["found"] > 300


@pytest.mark.timeout(120)
def test_a_page_in_which_a_search_goes_round_for_ever_ends(whole: Path, tmp_path: Path):
    """The rows of ``run`` are zeros: each has the number 0, and each search begins at the first."""
    data = shutil.copytree(whole, tmp_path / "data")
    file = data / "tenants/acme/tenant.db"
    with closing(sqlite3.connect(file)) as connection:
        query = "select rootpage from sqlite_schema where name = 'run'"
        [root] = connection.execute(query).fetchone()
    raw = bytearray(file.read_bytes())
    raw[(root - 1) * PAGE + SECTOR : root * PAGE] = bytes(PAGE - SECTOR)
    file.write_bytes(raw)
    assert "out of order" in " ".join(asyncio.run(verify(data)).problems)
    assert crashes(asyncio.run(answers(data))) == []
    for kind in ("mlflow", "parquet"):  # neither is made as if it were whole
        target = str(tmp_path / kind)
        assert stepwell("export", kind, target, "--data", str(data), "--tenant", "acme") == 1


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("update run set stop_requested = 9", "asked to stop 9 times"),
        ("update run set deleted_at = 1 where deleted_at is not null", "was deleted at 1 ms"),
        ("update purged set purged_at = 1 << 50", "was purged at 1125899906842624 ms"),
        ("update model set status = 'reedy'", "has the status reedy"),
        ("update model_version set stage = 'Nonf'", "has the stage Nonf"),
        ("update model_use set kind = 'knput'", "as knput, which there is not"),
    ],
)
def test_a_value_that_nothing_writes_is_found(
    whole: Path, tmp_path: Path, statement: str, told: str
):
    data = shutil.copytree(whole, tmp_path / "data")
    with closing(sqlite3.connect(data / "tenants/acme/tenant.db")) as connection:
        assert connection.execute(statement).rowcount > 0
        connection.commit()
    assert any(told in problem for problem in asyncio.run(verify(data)).problems)
