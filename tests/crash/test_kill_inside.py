"""SIGKILL inside what the server does by itself: compaction, statistics, migration, first creation.

Once at every change of the disk that the engine makes (kill_work.py), and once in a real server
under load, at a statement of a transaction (changed_server.py).
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3

from stepwell.ids import new_run_id
from tests.crash import changed_server, kill_work, shim
from tests.crash.test_server_kill import Writer, check_all, settle, under_load, writers
from tests.serving import Served, serving

SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))
ROOT = Path(__file__).parents[2]
DIES_WITHIN_S = 60
PARTS = 8


def storm(folder: Path, scenario: str, seed: int, first: int, stride: int) -> dict[str, Any]:
    disk = folder / "disk"
    disk.mkdir()
    environment = shim.environment(shim.build(folder), disk) | {"PYTHONPATH": str(ROOT)}
    numbers = map(str, (seed, first, stride))
    command = [sys.executable, kill_work.__file__, str(disk), scenario, *numbers]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    answer: dict[str, Any] = json.loads(done.stdout)
    sys.stderr.write(f"killed: {answer}\n")
    return answer


@pytest.mark.timeout(600)
def test_the_engine_is_killed_at_a_change_of_the_disk(tmp_path: Path):
    answer = storm(tmp_path, "everything", SEED, 1 + SEED % 17, 17)
    assert answer["wrong"] == []
    assert answer["tried"] >= 20
    assert {"first creation", "log", "compact", "put", "dispose"} <= answer["during"].keys()


@pytest.mark.timeout(600)
def test_a_migration_is_killed_at_a_change_of_the_disk(tmp_path: Path):
    answer = storm(tmp_path, "migration", SEED, 1 + SEED % 3, 3)
    assert answer["wrong"] == []
    assert answer["during"]["migration"] >= 5


@pytest.mark.timeout(600)
def test_an_engine_that_acknowledges_before_it_commits_is_caught(tmp_path: Path):
    """An oracle that cannot fail proves nothing."""
    answer = storm(tmp_path, "acknowledges first", SEED, 100, 83)
    assert any("is lost" in one or "is gone" in one for one in answer["wrong"]), answer


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("seed", [SEED + 1, SEED + 2, SEED + 3])
def test_the_engine_is_killed_at_every_change_of_the_disk(tmp_path: Path, seed: int, part: int):
    """Three plans of work, each killed at every change: before, halfway or after it in turn."""
    answer = storm(tmp_path, "everything", seed, 1 + part, PARTS)
    assert answer["wrong"] == []
    assert {"first creation", "compact", "put", "purge"} <= answer["during"].keys()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "scenario", ["migration", "migration of version 2", "migration of version 3"]
)
def test_a_migration_is_killed_at_every_change_of_the_disk(tmp_path: Path, scenario: str):
    answer = storm(tmp_path, scenario, SEED, 1, 1)
    assert answer["wrong"] == []
    assert answer["during"]["migration"] >= 15


# --- a real server, under load --------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "place",
    [
        pytest.param("small-units,die:delete_journal:after:2", id="after a unit's rows went"),
        pytest.param("small-units,die:insert_chunk:after:2", id="after a unit's chunks"),
        pytest.param("small-units,die:correct_series:after:1", id="before a unit's commit"),
        pytest.param("eager-flush,die:merge_series:before:5", id="before the statistics"),
        pytest.param("eager-flush,die:set_meta:before:5", id="within the statistics"),
        pytest.param("eager-flush,die:set_meta:after:9", id="after the statistics"),
        pytest.param("die:commit:before:30", id="before a commit"),
        pytest.param("die:commit:after:30", id="after a commit"),
    ],
)  # fmt: skip
def test_the_server_dies_in_the_middle_of_a_transaction(tmp_path: Path, place: str):
    data, load = tmp_path / "data", writers()
    with serving(data, program=(changed_server.__file__, place)) as server:
        check_all(server, load)
        with under_load(server, load):
            assert server.process.wait(DIES_WITHIN_S) == -signal.SIGKILL, "it was to be killed"
    assert settle(data, load) > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("when", "commit"), [("before", 1), ("after", 1), ("before", 2)])
def test_the_server_dies_while_a_tenant_is_made(tmp_path: Path, when: str, commit: int):
    """Its first transaction makes its rows, the second its first run."""
    data, writer = tmp_path / "data", Writer(new_run_id("default"))
    program = changed_server.__file__, f"die:commit:{when}:{commit}"
    with serving(data, program=program) as server:
        with contextlib.suppress(urllib3.exceptions.HTTPError, AssertionError):
            check_all(server, [writer])
        assert server.process.wait(DIES_WITHIN_S) == -signal.SIGKILL
    with serving(data) as server:
        check_all(server, [writer])
        with under_load(server, [writer]):
            time.sleep(0.3)
        assert server.stop() == 0
    assert settle(data, [writer]) > 0


@pytest.mark.timeout(300)
def test_the_compactor_is_killed_again_and_again(tmp_path: Path):
    """The server starts another, and what was half done is done again."""
    data, load, rng = tmp_path / "data", writers(), random.Random(SEED)
    killed = 0
    with serving(data, program=(changed_server.__file__, "small-units")) as server:
        check_all(server, load)
        with under_load(server, load):
            until = time.monotonic() + DIES_WITHIN_S
            while killed < 4:
                assert time.monotonic() < until, f"{killed} compactors were there to be killed"
                time.sleep(rng.uniform(0.05, 0.4))
                killed += kill_child(server)
        check_all(server, load)
        before = compacted(server)
        while compacted(server) == before or before == 0:
            assert time.monotonic() < until, "compaction did not go on"
            time.sleep(0.1)
            before = before or compacted(server)
            with under_load(server, load):
                time.sleep(0.1)
        assert server.stop() == 0
    assert settle(data, load) > 0


def kill_child(server: Served) -> bool:
    """SIGKILL to the server's compactor, where it has one."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    return bool(children)


def compacted(server: Served) -> int:
    text = urllib3.request("GET", f"{server.url}/metrics").data.decode()
    name = "stepwell_compacted_points_total "
    return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1])
