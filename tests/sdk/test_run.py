"""A run against a server that behaves: everything arrives, once, as it was logged."""

import copy
import pickle
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stepwell import ExperimentTracker, RunConfig, RunMetrics, WrongUse
from stepwell.ids import new_run_id
from tests.sdk.fault_server import FaultServer


def test_everything_that_was_logged_arrives(server: FaultServer, tracker: ExperimentTracker):
    config = RunConfig("baseline", tenant_id="acme-corp", user_id="alice", description="first")
    with tracker.start_run("fraud", config, tags={"team": "risk"}) as run:
        run.log_params({"learning_rate": 0.01, "layers": [1, 2], "none": None})
        run.set_tag("stage", "dev")
        for epoch in range(50):
            run.log_metrics({"train_loss": 1 / (epoch + 1), "val_loss": epoch}, step=epoch)
    stored = server.runs[run.run_id]
    assert stored.values("train_loss") == [(epoch, 1 / (epoch + 1)) for epoch in range(50)]
    assert stored.values("val_loss") == [(epoch, float(epoch)) for epoch in range(50)]
    assert stored.params == {"learning_rate": "0.01", "layers": "[1, 2]", "none": "None"}
    assert stored.tags == {"team": "risk", "stage": "dev"}
    assert (stored.created.name, stored.created.user_id) == ("baseline", "alice")
    assert (stored.created.experiment_name, stored.created.description) == ("fraud", "first")
    assert (stored.status, run.status, run.pending) == ("finished", "finished", 0)
    assert (run.name, run.experiment_name, run.tenant) == ("baseline", "fraud", "acme-corp")


def test_nothing_is_left_on_disk_when_all_is_acknowledged(
    tracker: ExperimentTracker, spool_dir: Path
):
    with tracker.start_run() as run:
        run.log_metric("loss", 1.0)
        assert list(spool_dir.iterdir())
    assert list(spool_dir.iterdir()) == []


def test_points_and_texts_never_travel_in_one_request(
    server: FaultServer, tracker: ExperimentTracker
):
    with tracker.start_run() as run:
        run.log_param("a", 1)
        run.log_metric("loss", 1.0)
    assert len(server.requests("log-batch")) == 2


def test_the_run_id_names_the_tenant_and_no_header_does(
    server: FaultServer, tracker: ExperimentTracker
):
    with tracker.start_run(run_config=RunConfig(tenant_id="acme-corp")) as run:
        run.log_metric("loss", 1.0)
    headers = {seen.path.split("?")[0].rpartition("/")[2]: seen.headers for seen in server.seen}
    assert headers["runs"]["X-Tenant-ID"] == "acme-corp"
    assert "X-Tenant-ID" not in headers["log-batch"]
    assert "X-Tenant-ID" not in headers["end"]


def test_an_imported_run_id_takes_the_header_along(server: FaultServer):
    tracker = ExperimentTracker(server.url, tenant="acme-corp")
    with tracker.start_run(run_id="0123456789abcdef0123456789abcdef") as run:
        run.log_metric("loss", 1.0)
    assert server.requests("log-batch")[0].headers["X-Tenant-ID"] == "acme-corp"


def test_an_exception_in_the_body_passes_and_the_run_has_failed(
    server: FaultServer, tracker: ExperimentTracker
):
    run = tracker.start_run()
    with pytest.raises(ZeroDivisionError), run:
        run.log_metric("loss", 1 / 0)
    assert server.runs[run.run_id].status == "failed"


@pytest.mark.parametrize(
    ("raised", "status"),
    [(KeyboardInterrupt(), "killed"), (SystemExit(0), "finished"), (SystemExit(3), "failed")],
    ids=["ctrl-c", "exit 0", "exit 3"],
)
def test_how_the_block_is_left_decides_the_status(
    server: FaultServer, tracker: ExperimentTracker, raised: BaseException, status: str
):
    with pytest.raises(type(raised)), tracker.start_run() as run:
        raise raised
    assert server.runs[run.run_id].status == status


def test_steps_count_on_when_none_is_given(server: FaultServer, tracker: ExperimentTracker):
    with tracker.start_run() as run:
        run.log_metric("a", 0.0)
        run.log_metrics({"a": 1.0, "b": 1.0})
        run.log_metric("a", 2.0, step=10)
        run.log_metric("b", 3.0)
        run.log_metric("b", 4.0, step=4)
        run.log_metric("b", 5.0)
    stored = server.only_run()
    assert stored.values("a") == [(0, 0.0), (1, 1.0), (10, 2.0)]
    assert stored.values("b") == [(1, 1.0), (4, 4.0), (11, 3.0), (12, 5.0)]


def test_times_are_milliseconds_or_datetimes_with_a_zone(
    server: FaultServer, tracker: ExperimentTracker
):
    before = time.time_ns() // 1_000_000
    with tracker.start_run() as run:
        run.log_metric("given", 1.0, timestamp=1_707_723_600_000)
        run.log_metric("dated", 1.0, timestamp=datetime(2024, 2, 12, 7, 40, tzinfo=UTC))
        run.log_metric("now", 1.0)
    points = server.only_run().points
    assert {stamp for _, stamp, _ in points["given"]} == {1_707_723_600_000}
    assert {stamp for _, stamp, _ in points["dated"]} == {1_707_723_600_000}
    assert all(before <= stamp <= time.time_ns() // 1_000_000 for _, stamp, _ in points["now"])


def test_run_metrics_stand_wherever_a_dict_does(server: FaultServer, tracker: ExperimentTracker):
    with tracker.start_run() as run:
        run.log_metrics(RunMetrics({"a": 1.0}, step=7, timestamp=5))
        run.log_metrics(RunMetrics({"a": 2.0}), step=8)
    points = server.only_run().points["a"]
    assert {(step, stamp) for step, stamp, _ in points if step == 7} == {(7, 5)}
    assert server.only_run().values("a") == [(7, 1.0), (8, 2.0)]


def test_many_threads_log_into_one_run(server: FaultServer, tracker: ExperimentTracker):
    with tracker.start_run() as run:

        def work(number: int) -> None:
            for step in range(2_000):
                run.log_metrics({f"loss/{number}": step, "shared": number}, step=step)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stored = server.only_run()
    for number in range(8):
        expected = [(step, float(step)) for step in range(2_000)]
        assert stored.values(f"loss/{number}") == expected


def test_a_joined_run_goes_on(server: FaultServer, tracker: ExperimentTracker):
    with tracker.start_run("exp") as first:
        first.log_metric("loss", 1.0, step=0)
    assert server.runs[first.run_id].status == "finished"
    second = tracker.start_run(run_id=first.run_id)
    second.log_metric("loss", 2.0, step=1)
    assert second.flush()
    assert server.runs[first.run_id].status == "running"
    assert second.end()
    assert server.runs[first.run_id].status == "finished"
    assert server.runs[first.run_id].values("loss") == [(0, 1.0), (1, 2.0)]


def test_only_rank_0_ends_a_run_of_several_processes(
    server: FaultServer, settings: Callable[..., None]
):
    run_id = new_run_id("default")
    settings(run_id=run_id, rank=1)
    with ExperimentTracker(server.url).start_run("exp") as second:
        second.log_metric("loss", 2.0)
    assert server.runs[run_id].status == "running"
    settings(rank=0)
    with ExperimentTracker(server.url).start_run("exp") as first:
        first.log_metric("loss", 1.0)
    assert server.runs[run_id].status == "finished"
    assert server.runs[run_id].ranks == {0, 1}


def test_a_run_of_its_own_is_ended_by_any_rank(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SLURM_PROCID", "5")
    with ExperimentTracker(server.url).start_run():
        pass
    assert server.only_run().status == "finished"


def test_a_request_to_stop_reaches_the_training(server: FaultServer, tracker: ExperimentTracker):
    with tracker.start_run() as run:
        run.log_metric("loss", 1.0)
        assert run.flush()
        assert not run.stop_requested
        server.runs[run.run_id].stop_requested = True
        run.log_metric("loss", 2.0)
        assert run.flush()
        assert run.stop_requested


def test_a_run_without_a_name_takes_the_servers(server: FaultServer, tracker: ExperimentTracker):
    with tracker.start_run() as run:
        assert run.flush()
        assert run.name == "quiet-otter-7"


def test_what_is_logged_after_the_end_arrives_too(
    server: FaultServer, tracker: ExperimentTracker, spool_dir: Path
):
    run = tracker.start_run()
    run.log_metric("loss", 1.0, step=0)
    assert run.end()
    run.log_metric("loss", 2.0, step=1)
    run.set_tag("late", "yes")
    assert run.flush()
    assert server.only_run().values("loss") == [(0, 1.0), (1, 2.0)]
    assert server.only_run().tags == {"late": "yes"}
    assert server.only_run().status == "finished"
    assert run.end()
    assert list(spool_dir.iterdir()) == []


def test_ending_twice_is_ending_once(server: FaultServer, tracker: ExperimentTracker):
    run = tracker.start_run()
    assert run.end("failed")
    assert run.end()
    assert server.only_run().status == "failed"
    assert len(server.requests("end")) == 1


@pytest.mark.parametrize("pickled", [False, True], ids=["copied", "pickled"])
def test_a_second_handle_logs_and_never_ends(
    server: FaultServer, tracker: ExperimentTracker, *, pickled: bool
):
    run = tracker.start_run()
    other = pickle.loads(pickle.dumps(run)) if pickled else copy.deepcopy(run)
    assert run.flush()
    with other:
        other.log_metric("loss", 1.0)
    assert server.only_run().status == "running"
    assert server.only_run().values("loss") == [(0, 1.0)]
    assert run.end()
    assert server.only_run().status == "finished"


def test_a_pickle_carries_no_token_but_to_a_child(
    server: FaultServer, settings: Callable[..., None]
):
    with ExperimentTracker(server.url, token="s3cret").start_run() as run:
        assert b"s3cret" not in pickle.dumps(run)
        settings(token="other")
        assert pickle.loads(pickle.dumps(run))._config.token == "other"
        assert run._config.token == "s3cret"


def test_an_end_that_does_not_exist_is_wrong_use(
    server: FaultServer, tracker: ExperimentTracker, warned: Callable[[], list[str]]
):
    run = tracker.start_run()
    run.log_metric("loss", 1.0)
    assert run.end("done")  # type: ignore[arg-type]
    assert server.only_run().status == "finished"
    assert "'done'" in warned()[0]


def test_late_points_have_a_deadline_of_their_own(server: FaultServer):
    run = ExperimentTracker(server.url, exit_timeout_s=0.4).start_run()
    assert run.end()
    time.sleep(0.5)
    run.log_metric("loss", 1.0)
    assert run.end()
    assert server.only_run().values("loss") == [(0, 1.0)]


def test_wrong_use_is_said_once_a_kind_and_costs_that_item_only(
    server: FaultServer, tracker: ExperimentTracker, warned: Callable[[], list[str]]
):
    with tracker.start_run() as run:
        run.log_metrics({"good": 1.0, "bad": "text", "": 1.0, "k" * 251: 1.0, "none": None})
        run.log_metrics("nonsense")  # type: ignore[arg-type]
        run.log_metrics({"good": 2.0}, step=1.5)  # type: ignore[arg-type]
        run.log_metrics({"good": 2.0}, timestamp=1.5)
        run.log_metric(["unhashable"], 1.0)  # type: ignore[arg-type]
        run.log_params("nonsense")  # type: ignore[arg-type]
        run.log_params({"long": "x" * 8_001, "kept": 1, "nul": "a\0b"})
        run.set_tag("surrogate", "\ud800")
        run.log_artifact("/does/not/exist")
        run.log_artifact(None)  # type: ignore[arg-type]
        run.log_artifact("a\0b")
        run.log_artifact("")  # not the current folder
        run.log_artifact(__file__, "../up")
        assert run.wrong_uses == 17
        assert [line.split(": ", 2)[2] for line in warned()] == [
            f"{text}; it is dropped, and so will be others like it"
            for text in (
                "metric 'bad': str is no number",
                "a key has 1 to 250 characters: ''",
                "metrics are a mapping, not str",
                "step: float is no integer",
                "timestamp: float is no integer of milliseconds",
                "parameters are a mapping, not str",
                "parameter 'long': 8,001 characters, 8,000 are the limit",
                "no valid Unicode: '\\ud800'",
                "artifact /does/not/exist: No such file or directory",
                "artifact path: a text has no NUL",
            )
        ]
        run.log_metrics({"good": 3.0})
    stored = server.only_run()
    assert stored.values("good") == [(0, 1.0), (1, 3.0)]
    assert set(stored.points) == {"good"}
    assert stored.params == {"kept": "1"}
    assert stored.tags == {}
    assert len(warned()) == 10


def test_an_early_mistake_does_not_hide_a_later_one_of_another_kind(
    tracker: ExperimentTracker, warned: Callable[[], list[str]]
):
    with tracker.start_run() as run:
        for _ in range(1_000):
            run.log_metrics({"bad": "text"})
        assert len(warned()) == 1
        run.log_artifact("/no/such/model.bin")
        run.log_artifact("/no/such/other.bin")
    assert "model.bin" in warned()[1]
    assert (len(warned()), run.wrong_uses) == (2, 1_002)


def test_strict_raises_where_it_happened(server: FaultServer, settings: Callable[..., None]):
    settings(strict=1)
    with ExperimentTracker(server.url).start_run() as run:
        with pytest.raises(WrongUse, match="bad"):
            run.log_metrics({"bad": "text"})
        with pytest.raises(WrongUse):
            run.log_param("nul", "\0")
        for path in ("/does/not/exist", None, "a\0b", ""):
            with pytest.raises(WrongUse):
                run.log_artifact(path)  # type: ignore[arg-type]
        run.log_metric("good", 1.0)
    assert server.only_run().values("good") == [(0, 1.0)]


def test_disabled_does_nothing_at_all(server: FaultServer, spool_dir: Path):
    before = threading.active_count()
    with ExperimentTracker(server.url, mode="disabled").start_run("exp") as run:
        for step in range(1_000):
            run.log_metrics({"loss": 1.0}, step=step)
        run.log_param("a", 1)
        assert threading.active_count() == before
        assert run.pending == 0
    assert server.seen == []
    assert not spool_dir.exists()
