"""Files and folders of a run: they arrive as they were, or somebody is told."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from stepwell import ExperimentTracker, WrongUse
from stepwell.artifacts import to_records
from tests.sdk.fault_server import Fault, FaultServer


def test_files_and_folders_arrive_as_they_are(
    server: FaultServer, tracker: ExperimentTracker, tmp_path: Path
):
    folder = tmp_path / "report"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "ü b.bin").write_bytes(bytes(range(256)) * 100)
    (folder / "empty").write_bytes(b"")
    with tracker.start_run() as run:
        run.log_artifact(folder / "a.txt")
        run.log_artifact(folder, "under/here")
    assert server.only_run().artifacts == {
        "a.txt": b"a",
        "under/here/a.txt": b"a",
        "under/here/empty": b"",
        "under/here/deep/ü b.bin": bytes(range(256)) * 100,
    }


def test_a_small_file_may_go_as_soon_as_it_was_logged(
    server: FaultServer, tracker: ExperimentTracker, tmp_path: Path
):
    server.faults = []
    path = tmp_path / "plot.png"
    path.write_bytes(b"first")
    with tracker.start_run() as run:
        run.log_artifact(path)
        path.write_bytes(b"second")
        path.unlink()
    assert server.only_run().artifacts == {"plot.png": b"first"}


def test_a_large_file_is_sent_from_where_it_is(
    server: FaultServer, settings: Callable[..., None], tmp_path: Path
):
    settings(artifact_copy_bytes=1000)
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)) * 2_000)
    with ExperimentTracker(server.url).start_run() as run:
        run.log_artifact(path, "models")
    assert server.only_run().artifacts == {"models/model.bin": path.read_bytes()}


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    for path in ("a", "deep/b"):
        (tmp_path / path).write_bytes(b"x")
    wrong: list[WrongUse] = []
    records = to_records(tmp_path, None, 1_000, wrong.append)
    assert next(records).path == "a"
    shutil.rmtree(tmp_path / "deep")
    assert list(records) == []
    assert [str(error) for error in wrong] == [
        f"artifact {tmp_path / 'deep'}: No such file or directory"
    ]


def test_a_small_file_that_could_not_be_opened_for_want_of_descriptors_is_sent_later(
    server: FaultServer, spool_dir: Path, tmp_path: Path
):
    path = tmp_path / "plot.png"
    path.write_bytes(b"first")
    script = f"""if True:
    import resource
    from stepwell import ExperimentTracker
    run = ExperimentTracker({server.url!r}).start_run()
    assert run.flush()
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    taken = []
    try:
        while True:
            taken.append(open("/dev/null"))
    except OSError:
        pass
    run.log_artifact({str(path)!r})
    while taken:
        taken.pop().close()
    print(run.end(), run.wrong_uses)
    """
    environment = os.environ | {"STEPWELL_SPOOL_DIR": str(spool_dir)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "True 0\n"), done.stderr
    assert server.only_run().artifacts == {"plot.png": b"first"}


def test_a_file_that_vanished_is_told_whatever_was_refused_before(
    server: FaultServer,
    settings: Callable[..., None],
    warned: Callable[[], list[str]],
    tmp_path: Path,
):
    settings(artifact_copy_bytes=10)
    path = tmp_path / "model.bin"
    path.write_bytes(b"x" * 1_000)
    server.refuse = lambda kind, key, _: (422, "no such key") if key == "bad" else None
    with ExperimentTracker(server.url).start_run() as run:
        run.log_metrics({"bad": 1.0, "good": 1.0})
        assert run.flush()
        server.faults = [Fault("status", times=1)]
        run.log_artifact(path)
        path.unlink()
    kinds = [line.split(": ")[2] for line in warned()]
    assert kinds.count("the server refuses") == 1
    assert kinds.count("an artifact is not what was logged") == 1
    assert server.only_run().values("good") == [(0, 1.0)]
    assert server.only_run().artifacts == {}
