"""The machine beside the training."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stepwell import ExperimentTracker
from stepwell.system import Cpu, by_nvml, find_gpus, memory, watch
from tests.sdk.fault_server import FaultServer


def test_a_run_is_watched_until_it_ends(server: FaultServer, tracker: ExperimentTracker):
    with tracker.start_run() as run:
        watch(run, every_s=0.1)
        run.log_metric("loss", 1.0)
        wait_for(lambda: len(server.runs) and len(points(server, "system/memory_mb")) >= 3)
        run.log_metric("loss", 2.0)
    stored = server.only_run()
    assert stored.values("loss") == [(0, 1.0), (1, 2.0)]  # a watch takes no step of the training's
    assert set(stored.points) >= {
        "loss", "system/cpu_percent", "system/process_cpu_percent", "system/memory_mb",
        "system/memory_percent", "system/process_memory_mb",
    }  # fmt: skip
    for _, value in stored.values("system/memory_percent"):
        assert 0 < value <= 100
    for _, value in stored.values("system/cpu_percent"):
        assert 0 <= value <= 100
    seen = len(stored.values("system/memory_mb"))
    time.sleep(0.3)
    assert len(stored.values("system/memory_mb")) == seen


def points(server: FaultServer, key: str) -> list[tuple[int, float]]:
    return server.only_run().values(key)


def test_the_environment_asks_for_it_and_ranks_have_names_of_their_own(
    server: FaultServer, settings: Callable[..., None]
):
    settings(system_s=0.1, rank=2)
    with ExperimentTracker(server.url).start_run():
        wait_for(lambda: len(server.runs) and points(server, "system/rank_2/memory_mb"))


def test_the_core_imports_neither():
    script = """if True:
    import sys
    from stepwell import ExperimentTracker
    run = ExperimentTracker(mode="offline").start_run("exp")
    run.log_metric("loss", 1.0)
    assert not {"stepwell.console", "stepwell.system", "subprocess"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_an_import_brings_nothing_that_is_slow_to_load():
    """Networks, cryptography and logging come with the first run; the figures are measured by
    `make bench-sdk`."""
    slow = "asyncio email hashlib http inspect logging random secrets socket ssl urllib3"
    script = f"""if True:
    import sys, msgspec
    before = set(sys.modules)
    from stepwell import ExperimentTracker, RunConfig, RunMetrics, StepwellError
    ExperimentTracker("http://127.0.0.1:9")
    found = {set(slow.split())} & set(sys.modules) - before
    assert not found, found
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_process_that_works_is_seen_to_work():
    cpu = Cpu()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    busy = cpu.sample()["process_cpu_percent"]
    time.sleep(0.3)
    assert cpu.sample()["process_cpu_percent"] < busy


def test_memory_is_what_the_system_says():
    found = memory()
    resident = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )
    kib = int(resident.split()[1])
    assert found["process_memory_mb"] == pytest.approx(kib * 1024 / 1e6, rel=0.2)


def test_gpus_are_told_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho '37, 1000, 61, 250.5'\necho '0, 10, [N/A], [N/A]'\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_gpus()() == {
        "gpu_0_percent": 37, "gpu_0_memory_mb": pytest.approx(1048.576), "gpu_0_celsius": 61,
        "gpu_0_watts": 250.5, "gpu_1_percent": 0, "gpu_1_memory_mb": pytest.approx(10.48576),
    }  # fmt: skip


def test_gpus_are_told_by_nvml():
    def power(gpu: int) -> int:
        raise RuntimeError("not supported")

    nvml: Any = SimpleNamespace(
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=lambda gpu: SimpleNamespace(gpu=42),
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=3_000_000),
        nvmlDeviceGetTemperature=lambda gpu, kind: 55,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetPowerUsage=power,
    )
    assert by_nvml(nvml) == {"gpu_0_percent": 42, "gpu_0_memory_mb": 3, "gpu_0_celsius": 55}


def test_without_a_gpu_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_gpus()() == {}


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)
