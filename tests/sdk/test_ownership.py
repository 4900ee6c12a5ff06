"""Who owns a spool: a living process, for exactly as long as it lives."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from stepwell import ownership
from stepwell.ownership import Owner, take


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "owner"


@pytest.fixture(params=["locks", "no locks"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system without locks answers ENOSYS, ENOLCK or EOPNOTSUPP."""
    if request.param == "no locks":

        def flock(fd: int, operation: int) -> None:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr("stepwell.ownership.fcntl.flock", flock)
    return str(request.param)


OTHER = """
import sys, time
from pathlib import Path
from stepwell.ownership import take
assert take(Path(sys.argv[1]), create=True)
print(1, flush=True)
time.sleep(60)
"""


ONLY_IF_FREE = """
import fcntl, sys
from pathlib import Path
from stepwell import ownership
ownership.fcntl.flock = fcntl.lockf
sys.exit(ownership.take(Path(sys.argv[1])) is not None)
"""


def other_process(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("locks")
def test_a_dead_owners_file_is_free_at_once(path: Path):
    process = other_process(path)
    assert take(path) is None
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    assert take(path) is None
    end(process)
    owner = take(path)
    assert owner is not None
    owner.release()


@pytest.mark.usefixtures("locks")
def test_what_was_released_can_be_taken_again(path: Path):
    first = take(path, create=True)
    assert first is not None
    first.release()
    first.release()
    path.unlink()
    second = take(path, create=True)
    assert second is not None
    second.release()


def test_a_file_that_was_never_made_cannot_be_taken(path: Path):
    with pytest.raises(FileNotFoundError):
        take(path)


def test_a_file_that_its_owner_removed_meanwhile_is_not_owned(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    path.touch()
    real = ownership._lock

    def lock(fd: int, *, create: bool) -> bool:
        path.unlink()
        return real(fd, create=create)

    monkeypatch.setattr(ownership, "_lock", lock)
    assert take(path) is None


def test_a_child_that_lets_go_leaves_the_lock_to_its_parent(path: Path):
    owner = take(path, create=True)
    assert owner is not None
    pid = os.fork()
    if pid == 0:
        owner.release()
        os._exit(0)
    os.waitpid(pid, 0)
    check = "import sys; from pathlib import Path; from stepwell.ownership import take; "
    check += "sys.exit(take(Path(sys.argv[1])) is not None)"
    assert subprocess.run([sys.executable, "-c", check, str(path)]).returncode == 0
    owner.release()


@pytest.mark.parametrize(
    ("change", "lives"),
    [
        ({}, True),
        ({"started": "12345"}, False),
        ({"pid": 2**22 - 3}, False),
        ({"host": "another 1"}, True),
        ({"pid": 2**22 - 3, "host": "another 1"}, True),
        ({"boot": "0" * 36}, False),
        ({"boot": "b" * 36 + "pid:[2]", "pid": 2**22 - 3}, True),
    ],
    ids=[
        "us", "its number was used again", "gone", "another host", "gone from another host",
        "before the machine was started again", "another container",
    ],
)  # fmt: skip
def test_without_locks_host_boot_process_and_start_decide(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch, *, lives: bool
):
    us = msgspec.structs.replace(ownership._myself(), host="h 1", boot="b" * 36 + "pid:[1]")
    monkeypatch.setattr(ownership, "_myself", lambda: us)
    assert ownership._lives(msgspec.json.encode(msgspec.structs.replace(us, **change))) is lives


def test_a_restart_of_a_machine_without_an_id_proves_nothing(monkeypatch: pytest.MonkeyPatch):
    """It may be another one of the same name."""
    us = msgspec.structs.replace(ownership._myself(), host="localhost ", boot="b" * 36)
    monkeypatch.setattr(ownership, "_myself", lambda: us)
    assert ownership._lives(msgspec.json.encode(msgspec.structs.replace(us, boot="c" * 36)))


def test_a_process_never_takes_its_own_file_where_locks_belong_to_processes(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    """POSIX locks do, and what emulates flock by them."""
    monkeypatch.setattr("stepwell.ownership.fcntl.flock", fcntl.lockf)
    owner = take(path, create=True)
    assert owner is not None
    assert take(path) is None
    process = subprocess.run([sys.executable, "-c", ONLY_IF_FREE, str(path)])
    assert process.returncode == 0
    owner.release()
    again = take(path)
    assert again is not None
    again.release()


def test_a_torn_owner_file_owns_nothing():
    whole = msgspec.json.encode(Owner("host", 1, None))
    assert not any(ownership._lives(whole[:cut]) for cut in range(len(whole)))
