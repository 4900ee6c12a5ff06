"""The spool on disk: torn, full, unwritable, killed, marked; what was written is read, once."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from stepwell import spool as module
from stepwell.config import Config
from stepwell.folders import folders
from stepwell.records import MAGIC, AnyRecord, Head, Params, Tags, count, frame
from stepwell.segments import FileSegment, MemorySegment
from stepwell.sender import leftover
from stepwell.spool import Spool

HEAD = Head("http://127.0.0.1:7837", "default", "ab" * 16)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(spool_dir=tmp_path / "spool")


def put(spool: Spool, *records: AnyRecord) -> None:
    for record in records:
        assert spool.append([frame(record)], count(record), False)


def read_all(spool: Spool, budget: int = 10_000) -> list[AnyRecord]:
    """Read and acknowledge everything."""
    found: list[AnyRecord] = []
    while (window := spool.read(budget)).records:
        found += window.records
        spool.acknowledge(window)
    return found


def tag(number: int) -> Tags:
    return Tags({"n": str(number)})


def abandon(spool: Spool) -> Path:
    """What a SIGKILL leaves: the files, and no lock."""
    assert spool.folder is not None
    spool.forget()
    return spool.folder


def adopt(config: Config) -> Spool:
    [folder] = folders(config.spool_dir)
    spool = Spool.adopt(folder, config)
    assert spool is not None
    return spool


def test_what_was_appended_is_read_in_order_and_then_gone(config: Config):
    spool = Spool.create(config, HEAD)
    put(spool, *map(tag, range(100)))
    assert spool.pending == 100
    assert read_all(spool, 64) == [tag(number) for number in range(100)]
    assert spool.pending == 0
    spool.close()
    assert folders(config.spool_dir) == []


def test_reading_without_acknowledging_reads_the_same_again(config: Config):
    spool = Spool.create(config, HEAD)
    put(spool, tag(1))
    assert spool.read(100).records == spool.read(100).records == [tag(1)]
    spool.close()
    assert adopt(config).read(100).records == [tag(1)]


def test_another_process_goes_on_where_the_dead_one_was_acknowledged(config: Config):
    spool = Spool.create(config, HEAD)
    put(spool, tag(1))
    read_all(spool)
    put(spool, tag(2))
    abandon(spool)
    adopted = adopt(config)
    assert adopted.head == HEAD
    assert read_all(adopted) == [tag(2)]
    adopted.close()
    assert folders(config.spool_dir) == []


@pytest.mark.parametrize("mark", [b"", b"\0" * 20, os.urandom(20), b"x" * 7], ids=len)
def test_a_torn_mark_only_means_that_everything_is_sent_again(config: Config, mark: bytes):
    spool = Spool.create(config, HEAD)
    put(spool, tag(1), tag(2))
    spool.acknowledge(spool.read(10))
    folder = abandon(spool)
    (folder / "acked").write_bytes(mark)
    assert read_all(adopt(config)) == [tag(1), tag(2)]


def test_cut_at_every_byte_the_records_before_the_cut_are_read(config: Config):
    spool = Spool.create(config, HEAD)
    put(spool, *map(tag, range(5)))
    folder = abandon(spool)
    path = folder / "00000001.spool"
    whole = path.read_bytes()
    ends = [len(MAGIC) + len(frame(HEAD)) + len(frame(tag(0))) * n for n in range(6)]
    for cut in range(len(MAGIC), len(whole) + 1):
        path.write_bytes(whole[:cut])
        adopted = Spool.adopt(folder, config)
        assert adopted is not None
        kept = max((n for n, end in enumerate(ends) if end <= cut), default=0)
        assert adopted.read(10_000).records == [tag(number) for number in range(kept)]
        adopted.forget()


def test_a_flipped_bit_costs_one_record_and_the_file_is_kept(config: Config):
    spool = Spool.create(config, HEAD)
    put(spool, tag(0), tag(1), tag(2))
    path = abandon(spool) / "00000001.spool"
    data = bytearray(path.read_bytes())
    data[-len(frame(tag(2))) - 2] ^= 1
    path.write_bytes(data)
    adopted = adopt(config)
    assert read_all(adopted) == [tag(0), tag(2)]
    assert adopted.damaged == 1
    adopted.close()
    assert folders(config.spool_dir) == []
    assert [path.suffix for path in config.spool_dir.iterdir()] == [".damaged"]


def test_a_spool_of_a_newer_client_is_never_touched(config: Config):
    folder = config.spool_dir / ("cd" * 16 + "-00000000")
    folder.mkdir(parents=True)
    (folder / "owner").touch()
    (folder / "00000001.spool").write_bytes(b"stepwell-spool9\n" + b"who knows")
    assert Spool.adopt(folder, config) is None
    assert leftover(folder, config) is None
    assert (folder / "00000001.spool").exists()


@pytest.mark.parametrize("size", range(len(MAGIC)))
def test_a_segment_that_was_killed_at_its_birth_is_empty(config: Config, size: int):
    spool = Spool.create(config, HEAD)
    put(spool, tag(1))
    folder = abandon(spool)
    (folder / "00000002.spool").write_bytes(MAGIC[:size])
    adopted = adopt(config)
    assert read_all(adopted) == [tag(1)]
    adopted.close()
    assert folders(config.spool_dir) == []


def test_what_a_process_left_that_was_killed_while_it_removed_its_spool_goes(config: Config):
    (config.spool_dir / ("cd" * 16 + "-00000000")).mkdir(parents=True)
    (remnant,) = folders(config.spool_dir)
    assert leftover(remnant, config) is None
    assert folders(config.spool_dir) == []


def test_a_strangers_file_in_a_spool_is_left_alone(config: Config):
    spool = Spool.create(config, HEAD)
    folder = abandon(spool)
    (folder / "notes.spool").write_text("mine")
    assert leftover(folder, config) is None
    assert (folder / "notes.spool").read_text() == "mine"


def test_a_frame_larger_than_the_budget_is_read_whole(config: Config):
    spool = Spool.create(config, HEAD)
    large = Params({"a": "x" * 100_000})
    put(spool, large, tag(1))
    assert read_all(spool, 10) == [large, tag(1)]


def test_segments_that_are_done_go_while_the_run_goes_on(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1_000)
    spool = Spool.create(config, HEAD)
    for number in range(500):
        put(spool, tag(number))
        assert read_all(spool) == [tag(number)]
        assert spool.folder is not None
        assert len(list(spool.folder.glob("*.spool"))) <= 2
    spool.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_long_outage_does_not_take_the_trainings_file_descriptors(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    """8 GiB are a thousand segments, and a process may open about as many files."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    before = open_files()
    spool = Spool.create(config, HEAD)
    put(spool, *map(tag, range(2_000)))
    assert len(spool._segments) > 300
    assert open_files() - before <= 4
    abandon(spool)
    spool = adopt(config)
    assert open_files() - before <= 4
    assert read_all(spool) == [tag(number) for number in range(2_000)]
    spool.close()
    assert open_files() == before


@pytest.mark.parametrize("read_before", [False, True])
def test_a_folder_that_somebody_removes_costs_what_was_in_it_at_most(
    config: Config, read_before: bool
):
    spool = Spool.create(config, HEAD)
    put(spool, tag(0))
    if read_before:
        assert spool.read(1_000).records == [tag(0)]
    shutil.rmtree(config.spool_dir)
    assert read_all(spool) == ([tag(0)] if read_before else [])
    put(spool, tag(1), tag(2))
    assert read_all(spool) == [tag(1), tag(2)]
    spool.close()


OPERATIONS = st.lists(
    st.sampled_from(["append", "read", "read and acknowledge", "killed"]), max_size=60
)


@hypothesis_settings(deadline=None, max_examples=60)
@given(OPERATIONS)
def test_nothing_is_lost_and_nothing_acknowledged_comes_back(
    tmp_path_factory: pytest.TempPathFactory, operations: list[str]
):
    """Against a plain list.  A mark may be lost with its process, never a record."""
    config = Config(spool_dir=tmp_path_factory.mktemp("spool"))
    spool, expected, number = Spool.create(config, HEAD), [], 0
    alive = True
    for operation in operations:
        if operation == "append" and alive:
            put(spool, tag(number))
            expected.append(tag(number))
            number += 1
        elif operation.startswith("read"):
            window = spool.read(30)
            assert window.records == expected[: len(window.records)]
            assert bool(window.records) == bool(expected)
            if operation.endswith("acknowledge"):
                spool.acknowledge(window)
                del expected[: len(window.records)]
        elif operation == "killed":
            abandon(spool)
            spool, alive = adopt(config), False
    assert read_all(spool) == expected
    spool.close()
    assert folders(config.spool_dir) == []


# --- disks that refuse ---------------------------------------------------------------------------


def test_a_home_that_cannot_be_written_means_memory(tmp_path: Path):
    (tmp_path / "file").touch()
    spool = Spool.create(Config(spool_dir=tmp_path / "file" / "spool"), HEAD)
    assert spool.folder is None
    assert spool.trouble
    put(spool, tag(1), tag(2))
    assert read_all(spool) == [tag(1), tag(2)]
    spool.close()


def test_memory_is_bounded_and_what_is_too_much_is_counted(tmp_path: Path):
    (tmp_path / "file").touch()
    config = Config(spool_dir=tmp_path / "file" / "spool", memory_bytes=2_000)
    spool = Spool.create(config, HEAD)
    taken = sum(spool.append([frame(tag(number))], 1, False) for number in range(1_000))
    assert 0 < taken < 200
    assert spool.dropped == 1_000 - taken
    assert spool.append([frame(tag(1_000))], 1, True)  # an end of a run is worth more than points
    assert read_all(spool) == [*map(tag, range(taken)), tag(1_000)]


class FullDisk:
    """A disk that takes ``room`` more bytes, through the system call that the segments use."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 10**9
        monkeypatch.setattr("stepwell.segments.os.writev", self.write)

    def write(self, fd: int, pieces: list[bytes]) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(fd, b"".join(pieces)[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", range(0, 60, 7))
def test_a_disk_that_fills_at_any_byte_loses_nothing_that_memory_can_hold(
    config: Config, monkeypatch: pytest.MonkeyPatch, room: int
):
    disk = FullDisk(monkeypatch)
    spool = Spool.create(config, HEAD)
    put(spool, tag(0))
    disk.room = room
    put(spool, *map(tag, range(1, 50)))
    assert "No space" in spool.trouble
    disk.room = 10**9
    monkeypatch.setattr("stepwell.spool.time.monotonic", lambda: 10**9)
    put(spool, *map(tag, range(50, 60)))
    assert spool.trouble == ""
    assert isinstance(spool._segments[spool._last], FileSegment)
    assert read_all(spool) == [tag(number) for number in range(60)]
    spool.close()
    assert folders(config.spool_dir) == []


def test_what_memory_held_is_written_down_at_the_end_if_the_disk_is_back(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    disk = FullDisk(monkeypatch)
    spool = Spool.create(config, HEAD)
    put(spool, tag(0))
    disk.room = 0
    put(spool, tag(1))
    assert isinstance(spool._segments[spool._last], MemorySegment)
    disk.room = 10**9
    spool.close()
    assert read_all(adopt(config)) == [tag(0), tag(1)]


def test_a_file_system_that_is_really_full(tmp_path: Path):
    """RLIMIT_FSIZE makes the kernel refuse for real, in the middle of a frame."""
    script = """
    import resource, signal, sys
    from pathlib import Path
    from stepwell.config import Config
    from stepwell.records import Head, Tags, frame
    from stepwell.spool import Spool
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    spool = Spool.create(Config(spool_dir=Path(sys.argv[1])), Head("u", "t", "ab" * 16))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
    for number in range(1_000):
        assert spool.append([frame(Tags({"n": str(number)}))], 1, False)
    assert spool.trouble, "the limit was not met"
    found = []
    while (window := spool.read(1_000)).records:
        found += window.records
        spool.acknowledge(window)
    assert found == [Tags({"n": str(number)}) for number in range(1_000)]
    spool.close()
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "spool")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert folders(tmp_path / "spool") == []


def test_the_folder_is_bounded_and_the_newest_points_are_dropped(tmp_path: Path):
    config = Config(spool_dir=tmp_path / "spool", spool_bytes=3_000)
    other = Spool.create(config, Head("u", "t", "cd" * 16))
    while other.append([frame(tag(0))], 1, False):
        pass
    assert other.dropped == 1
    spool = Spool.create(config, HEAD)
    assert not spool.append([frame(tag(1))], 1, False)
    assert spool.append([frame(tag(2))], 1, True)
    assert spool.dropped == 1
    sizes = sum(path.stat().st_size for path in config.spool_dir.rglob("*.spool"))
    assert sizes < 3_000 + 500


def test_room_comes_back_when_others_have_been_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = Config(spool_dir=tmp_path / "spool", spool_bytes=3_000)
    other = Spool.create(config, Head("u", "t", "cd" * 16))
    while other.append([frame(tag(0))], 1, False):
        pass
    spool = Spool.create(config, HEAD)
    assert not spool.append([frame(tag(1))], 1, False)
    read_all(other)
    other.close()
    monkeypatch.setattr("stepwell.spool.time.monotonic", lambda: 10**9)
    assert spool.append([frame(tag(1))], 1, False)


# --- who may read what ---------------------------------------------------------------------------


def test_only_the_owner_can_read_a_spool(config: Config):
    spool = Spool.create(config, HEAD)
    put(spool, tag(1))
    read_all(spool)
    assert spool.folder is not None
    modes = {path.name: path.stat().st_mode & 0o777 for path in spool.folder.iterdir()}
    assert modes == {"owner": 0o600, "00000001.spool": 0o600, "acked": 0o600}
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    spool.close()


def test_a_token_never_reaches_the_disk(tmp_path: Path, settings: Callable[..., None]):
    from stepwell import ExperimentTracker

    settings(token="very-secret-token", mode="offline")
    with ExperimentTracker("http://127.0.0.1:9").start_run("exp") as run:
        run.log_metric("loss", 1.0)
    files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert files
    assert not any(b"very-secret-token" in path.read_bytes() for path in files)
    assert "very-secret-token" not in repr(run._config)


def test_leftovers_are_the_dead_ones_of_our_server_and_empty_ones_go(config: Config):
    living = Spool.create(config, HEAD)
    put(living, tag(0))
    dead = Spool.create(config, Head(config.url, "t", "cd" * 16))
    put(dead, tag(1))
    abandon(dead)
    foreign = Spool.create(config, Head("http://elsewhere", "t", "01" * 16))
    put(foreign, tag(2))
    abandon(foreign)
    abandon(Spool.create(config, Head(config.url, "t", "ef" * 16)))
    found = {path.name[:2]: leftover(path, config) for path in folders(config.spool_dir)}
    assert {name for name, spool in found.items() if spool} == {"cd"}
    assert [path.name[:2] for path in folders(config.spool_dir)] == ["01", "ab", "cd"]
    ours = found["cd"]
    assert ours is not None
    assert read_all(ours) == [tag(1)]
    ours.close()
    living.close()


def test_a_folder_that_cannot_be_listed_holds_nothing(tmp_path: Path):
    assert folders(tmp_path / "none") == []
