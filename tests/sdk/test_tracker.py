"""Starting runs: whatever is asked for, the training goes on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import stepwell
from stepwell import ExperimentTracker, RunConfig, StepwellError, WrongUse
from stepwell.ids import hash_of_run_id, new_run_id, tenant_hash
from tests.sdk.fault_server import FaultServer


def test_what_is_exported_is_there():
    for name in stepwell.__all__:
        assert getattr(stepwell, name) is not None
    assert set(stepwell.__all__) <= set(dir(stepwell))
    with pytest.raises(AttributeError):
        _ = stepwell.nonsense


def test_every_error_is_exported():
    kinds, waiting = set(), [StepwellError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__ == "stepwell.errors":
            kinds.add(kind.__name__)
    assert kinds <= set(stepwell.__all__)


@pytest.mark.parametrize(
    ("tenants", "expected"),
    [
        ({"config": "a", "argument": "b", "environment": "c"}, "a"),
        ({"argument": "b", "environment": "c"}, "b"),
        ({"environment": "c"}, "c"),
        ({}, "default"),
    ],
    ids=["run config", "tracker", "environment", "default"],
)
def test_where_the_tenant_comes_from(
    tenants: dict[str, str], expected: str, settings: Callable[..., None]
):
    if "environment" in tenants:
        settings(tenant=tenants["environment"])
    tracker = ExperimentTracker(mode="offline", tenant=tenants.get("argument"))
    with tracker.start_run(run_config=RunConfig(tenant_id=tenants.get("config"))) as run:
        assert run.tenant == expected
        assert hash_of_run_id(run.run_id) == tenant_hash(expected)


def test_the_environment_names_experiment_and_run(
    server: FaultServer, settings: Callable[..., None]
):
    run_id = new_run_id("default")
    settings(experiment="from-environment", run_id=run_id, url=server.url)
    with ExperimentTracker().start_run() as run:
        assert run.run_id == run_id
        assert run.experiment_name == "from-environment"
    assert server.only_run().created.experiment_name == "from-environment"


def test_a_dashed_run_id_is_the_same_run(server: FaultServer, tracker: ExperimentTracker):
    import uuid

    run_id = new_run_id("default")
    with tracker.start_run(run_id=str(uuid.UUID(run_id)).upper()) as run:
        assert run.run_id == run_id


def test_a_run_of_another_tenant_is_joined_by_its_id_alone(
    server: FaultServer, tracker: ExperimentTracker
):
    """The tracker knows only its own tenant's name; to create with it would be a contradiction."""
    with tracker.start_run("exp", RunConfig(tenant_id="acme-corp")) as first:
        pass
    with tracker.start_run(run_id=first.run_id) as second:
        second.log_metric("loss", 1.0)
    assert server.only_run().values("loss") == [(0, 1.0)]
    assert len([seen for seen in server.seen if seen.path.endswith("/runs")]) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"run_config": RunConfig(tenant_id="../etc")},
        {"run_config": RunConfig(tenant_id="a b")},
        {"run_id": "not an id"},
        {"experiment_name": "x" * 501},
        {"run_name": "x" * 501},
        {"run_config": RunConfig(description="x" * 20_001)},
        {"run_config": RunConfig(start_time=1.5)},
        {"run_config": RunConfig(start_time=datetime(2024, 1, 1))},  # noqa: DTZ001
        {"run_config": RunConfig(tags="nonsense")},  # type: ignore[arg-type]
        {"params": {"a": "\0"}},
        {"run_config": {"run_name": "a dict"}},
        {"run_config": RunConfig(parent_run_id="x" * 501)},
        {"run_id": 5},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_argument_costs_itself_and_not_the_training(
    wrong: dict[str, Any], server: FaultServer, tracker: ExperimentTracker,
    warned: Callable[[], list[str]], settings: Callable[..., None],
):  # fmt: skip
    with tracker.start_run(**wrong) as run:
        run.log_metric("loss", 1.0)
    assert len(warned()) == 1
    lost = "tenant" in warned()[0]
    assert len(server.runs) == (0 if lost else 1)
    settings(strict=1)
    with pytest.raises(WrongUse):
        ExperimentTracker(server.url).start_run(**wrong)


def test_whatever_a_run_config_holds_the_run_is_created(
    server: FaultServer, tracker: ExperimentTracker
):
    """A record that this client itself could not read back would never be sent."""
    odd: dict[str, Any] = {"user_id": 7, "parent_run_id": 7, "tenant_id": 7, "description": 7}
    with tracker.start_run(7, RunConfig(7, **odd)) as run:  # type: ignore[arg-type]
        run.log_metric("loss", 1.0)
    stored = server.only_run()
    assert stored.values("loss") == [(0, 1.0)]
    assert (stored.created.name, stored.created.parent_run_id) == ("7", "7")
    assert run.tenant == "7"


def test_nothing_at_all_can_make_start_run_raise(
    tracker: ExperimentTracker, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
):
    def explode(*_: object) -> None:
        raise MemoryError("a bug of ours")

    monkeypatch.setattr(ExperimentTracker, "_open", explode)
    with tracker.start_run() as run:
        run.log_metric("loss", 1.0)
    assert "a bug of ours" in warned()[0]


class Ambiguous(dict[str, float]):
    """What has no truth value, as a NumPy array or a table has none."""

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")


def test_a_run_that_was_started_is_the_run_that_is_returned(
    server: FaultServer, warned: Callable[[], list[str]], settings: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    """Whatever fails after its creation."""

    def explode(*_: object) -> None:
        raise MemoryError("no thread")

    monkeypatch.setattr("stepwell.system.watch", explode)
    settings(url=server.url, system_s=1)
    with ExperimentTracker().start_run(params=Ambiguous(lr=0.1), tags=Ambiguous(a=1)) as run:
        run.log_metric("loss", 1.0)
    stored = server.only_run()
    assert (stored.params, stored.tags) == ({"lr": "0.1"}, {"a": "1"})
    assert stored.values("loss") == [(0, 1.0)]
    assert ["no thread" in line for line in warned()] == [True]


def test_the_start_can_be_given(server: FaultServer, tracker: ExperimentTracker):
    config = RunConfig(start_time=datetime(2024, 2, 12, 7, 40, tzinfo=UTC))
    with tracker.start_run(run_config=config):
        pass
    assert server.only_run().created.start_time == 1_707_723_600_000


def test_params_and_tags_may_come_with_the_start(server: FaultServer, tracker: ExperimentTracker):
    config = RunConfig(params={"a": 1, "b": 2}, tags={"t": 1, "u": 2})
    with tracker.start_run(run_config=config, params={"c": 3}, tags={"t": 3}):
        pass
    assert server.only_run().params == {"a": "1", "b": "2", "c": "3"}
    assert server.only_run().tags == {"t": "3", "u": "2"}


def test_starting_a_run_waits_for_nobody(tmp_path: Path):
    import socket

    ExperimentTracker("http://127.0.0.1:9").start_run().end(timeout_s=0)  # imports what it needs
    with socket.create_server(("127.0.0.1", 0)) as hole:
        tracker = ExperimentTracker(f"http://127.0.0.1:{hole.getsockname()[1]}")
        times = []
        for _ in range(3):  # a crowded machine may hold up one of them
            begun = time.monotonic()
            run = tracker.start_run("exp")
            times.append(time.monotonic() - begun)
            run.end(timeout_s=0)
        assert min(times) < 0.2


def test_run_configs_are_frozen_and_take_one_thing_by_place():
    config = RunConfig("name", tenant_id="t")
    assert (config.run_name, config.tenant_id) == ("name", "t")
    with pytest.raises(TypeError):
        RunConfig("name", "t")  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        config.tenant_id = "u"  # type: ignore[misc]


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_reading_needs_a_server(mode: str):
    with pytest.raises(StepwellError, match=mode):
        ExperimentTracker(mode=mode).get_run("0" * 32)


def test_without_a_free_file_descriptor_the_training_goes_on(spool_dir: Path):
    script = """if True:
    import resource
    from stepwell import ExperimentTracker
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    taken = []
    try:
        while True:
            taken.append(open("/dev/null"))
    except OSError:
        pass
    with ExperimentTracker("http://127.0.0.1:1", exit_timeout_s=0).start_run() as run:
        run.log_metric("loss", 1.0)
        run.log_artifact("/etc/hostname")
        run.flush(timeout_s=0.1)
    print(run.status)
    """
    environment = os.environ | {"STEPWELL_SPOOL_DIR": str(spool_dir)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr
