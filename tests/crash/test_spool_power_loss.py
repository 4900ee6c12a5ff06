"""The power fails under the client's spool, which syncs nothing: much may go, nothing is wrong.

What the spool claims (docs/sdk.md): what is read from it afterwards was appended, bit for bit, in
order and once; it can be opened and sent without help.
"""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stepwell.config import Config
from stepwell.folders import folders
from stepwell.records import Tags
from stepwell.spool import Spool
from tests.crash import shim, spool_work
from tests.crash.shim import Disk, Kind, Record

SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))
ROOT = Path(__file__).parents[2]


def record(folder: Path, seed: int) -> list[Record]:
    disk, log = folder / "disk", folder / "log"
    disk.mkdir()
    environment = shim.environment(shim.build(folder), disk, log=log) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, spool_work.__file__, str(disk), str(seed)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    return shim.read(log)


def numbers_in(config: Config) -> list[int]:
    """Those of all records that are found.  Raises AssertionError for one that nobody appended."""
    found = []
    for folder in folders(config.spool_dir):
        spool = Spool.adopt(folder, config)
        if spool is None:
            continue
        while (window := spool.read(10_000)).records:
            for entry in window.records:
                assert isinstance(entry, Tags)
                number = int(entry.values["n"])
                assert entry == spool_work.record_of(number), "another record"
                found.append(number)
            spool.acknowledge(window)
        spool.close()
    return found


def storm(folder: Path, seed: int, cuts: int) -> list[int]:
    """Cut the power so often; how many records each cut left to send."""
    records = record(folder, seed)
    assert {Kind.WRITE, Kind.CREATE, Kind.UNLINK} <= {entry.kind for entry in records}
    rng, disk, at, left = random.Random(seed), Disk(seed), 0, []
    for number, place in enumerate(sorted(rng.randrange(len(records)) for _ in range(cuts))):
        for entry in records[at:place]:
            disk.apply(entry)
        at = place
        here = folder / f"cut{number}"
        shim.restore(disk.cut(rng), here)
        found = numbers_in(Config(spool_dir=here / "spool"))
        assert all(one < next_ for one, next_ in zip(found, found[1:], strict=False)), found
        left.append(len(found))
        shutil.rmtree(here)
    return left


def test_what_the_power_left_of_a_spool_is_right(tmp_path: Path):
    left = storm(tmp_path, SEED, 60)
    assert any(left), "there was nothing to be wrong"
    assert not all(left), "the cuts cost nothing"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_what_the_power_left_of_a_spool_is_right_thousands_of_times(tmp_path: Path, number: int):
    assert any(storm(tmp_path, SEED + number, 400))
