"""Any bit of a tenant's file flips: verify finds it, or nothing that is answered has changed.

But for what docs/durability.md says has no checksum: ``UNCOVERED``.
"""

import asyncio
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from stepwell_storage.check import verify
from tests.storage.everything import CRASHED, Answers, answers, make

SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))
UNCOVERED: frozenset[str] = frozenset()


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


def storm(whole: Path, folder: Path, seed: int, flips: int) -> tuple[Counter[str], list[str]]:
    """What became of so many flips, and those that are findings."""
    rng, outcomes = random.Random(seed), Counter[str]()
    before = asyncio.run(answers(shutil.copytree(whole, folder / "before")))
    raw = (whole / "tenants/acme/tenant.db").read_bytes()
    wrong = []
    for number in range(flips):
        data = shutil.copytree(whole, folder / "data")
        spoiled = flipped(raw, rng)
        (data / "tenants/acme/tenant.db").write_bytes(spoiled)
        problems = asyncio.run(verify(data)).problems
        after = asyncio.run(answers(data))
        changed = kinds(before, after)
        shutil.rmtree(data)
        if crashed := crashes(after):
            wrong.append(f"flip {number}: {crashed[0]}")
        elif problems:
            outcomes["found"] += 1
            assert all(one.startswith("tenant acme") for one in problems)
        elif not changed:
            outcomes["without effect"] += 1
        elif changed <= UNCOVERED:
            outcomes["has no checksum"] += 1
        else:
            at = next(at for at, byte in enumerate(raw) if byte != spoiled[at])
            wrong.append(f"flip {number} at {at}: {sorted(changed)}")
    sys.stderr.write(f"{flips} flips: {dict(outcomes)}\n")
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
