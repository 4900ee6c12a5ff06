"""The power fails while a tenant is backed up, restored, exported or imported.

What was said to be done is there, whole; before that what stood there before is, whole as well, and
the same command can be given again.
"""

import asyncio
import random
import shutil
import sys
from pathlib import Path

import pytest

from stepwell_storage.backups import back_up
from stepwell_storage.check import verify
from stepwell_storage.parquet_export import export
from tests.crash import moving_work, shim
from tests.crash.moving_work import NEW, OLD, TENANT, make, move, what_is_there
from tests.crash.test_power_loss import SEED, cut_power, record


def source_of(folder: Path, kind: str) -> Path:
    """What is moved: a data directory, a backup of it, or an export."""
    data = folder / "source"
    asyncio.run(make(data, NEW))
    if kind == "restore":
        back_up(data, [TENANT], folder / "made")
    elif kind == "import":
        export(data, TENANT, folder / "made", lambda *_: None)
    return folder / "made" if kind in ("restore", "import") else data


def check(kind: str, source: Path, disk: Path, *, begun: bool, done: bool) -> None:
    """Raises AssertionError, or whatever else was wrong."""
    data = disk / "data"
    if kind in ("backup", "export"):
        target = disk / kind
        assert target.exists() or not done, "it was said to be there"
        if not target.exists():
            asyncio.run(move(kind, source, disk))
        arrive(kind, target, disk / "elsewhere")
        return
    if begun:
        (data / "tenants").mkdir(parents=True, exist_ok=True)
        found = asyncio.run(what_is_there(data))
        assert found == NEW or not done, "it was said to be there"
        assert found in (NEW, OLD if kind == "restore" else None)
        asyncio.run(move(kind, source, disk))
        assert asyncio.run(what_is_there(data)) == NEW
        assert asyncio.run(verify(data)).problems == []


def arrive(kind: str, target: Path, elsewhere: Path) -> None:
    """What was made can be used."""
    elsewhere.mkdir()
    asyncio.run(move("restore" if kind == "backup" else "import", target, elsewhere))
    assert asyncio.run(what_is_there(elsewhere / "data")) == NEW


def storm(folder: Path, kind: str, seed: int, cuts: int) -> list[str]:
    source = source_of(folder, kind)
    records = record(folder, moving_work.__file__, f"--source={source}", f"--kind={kind}")
    began = next(at for at, one in enumerate(records) if one.data.startswith(b'["sent"'))
    rng = random.Random(seed)
    places = sorted(rng.randint(began + 1, len(records)) for _ in range(cuts - 2))
    places += [len(records)] * 2
    marks: set[str] = set()
    wrong = []
    for number, (cut, files) in enumerate(
        cut_power(records, places, seed, lambda what, _: marks.add(what))
    ):
        left = folder / f"cut{number}"
        shim.restore(files, left)
        try:
            check(kind, source, left, begun="sent" in marks, done="done" in marks)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            wrong.append(f"cut {number} at {cut}: {type(error).__name__}: {error}")
        else:
            shutil.rmtree(left)
    assert marks == {"sent", "done"}
    sys.stderr.write(f"{kind}: {len(places)} cuts in {len(records)} records\n")
    return wrong


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", moving_work.KINDS)
def test_the_power_fails_while_a_tenant_moves(tmp_path: Path, kind: str):
    assert storm(tmp_path, kind, SEED, 25) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", moving_work.KINDS)
def test_the_power_fails_hundreds_of_times_while_a_tenant_moves(tmp_path: Path, kind: str):
    assert storm(tmp_path, kind, SEED + 1, 400) == []
