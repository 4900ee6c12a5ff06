"""The machine beside the training: ``STEPWELL_SYSTEM_S=10``, or ``watch(run)``.

Metrics ``system/...``, whose step is whole seconds since the watch began: CPU and memory of the
machine and of this process from /proc, GPUs from NVML where ``pynvml`` is installed, else from
``nvidia-smi``.  What a machine does not tell is left out.  The core does not import this module.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from stepwell.buffer import Shape
from stepwell.records import Points
from stepwell.run import ActiveRun

Sample = dict[str, float]
MB: Final = 1e6
QUERY: Final = ("utilization.gpu", "memory.used", "temperature.gpu", "power.draw")
NAMES: Final = ("percent", "memory_mb", "celsius", "watts")
MIB_AS_MB: Final = 1.048576
SMI_TIMEOUT_S: Final = 10.0


class Watch:
    """One daemon thread that samples every ``every_s`` seconds until the run ends."""

    def __init__(self, run: ActiveRun, every_s: float) -> None:
        self._run = run
        self._every_s = max(every_s, 0.1)
        self._prefix = f"system/rank_{run.rank}/" if run.rank else "system/"
        self._begun = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stepwell-system", daemon=True)
        run.closers.append(self._over.set)
        self._thread.start()

    def close(self) -> None:
        """Stop.  May be called twice."""
        self._over.set()

    def _watch(self) -> None:
        cpu, gpus = Cpu(), find_gpus()
        while not self._over.wait(self._every_s):
            sample: Sample = {}
            for source in (cpu.sample, memory, gpus):
                with contextlib.suppress(Exception):  # what cannot be read is left out
                    sample |= source()
            self._log(sample)

    def _log(self, sample: Sample) -> None:
        """Not by ``log_metrics``: a step of ours must not count among the training's."""
        if sample:
            shape = Shape(tuple(self._prefix + name for name in sample))
            step, now = int(time.monotonic() - self._begun), time.time_ns() // 1_000_000
            self._run.put(Points(shape.keys, shape.pack(step, now, *sample.values())))


def watch(run: ActiveRun, every_s: float = 10.0) -> Watch:
    """Log the machine's state until the run ends."""
    return Watch(run, every_s)


class Cpu:
    """Shares of time since the last look: of all cores together, and of one core for a process."""

    def __init__(self) -> None:
        self._machine = (0, 0)
        self._process = (0.0, 0.0)
        with contextlib.suppress(Exception):
            self.sample()

    def sample(self) -> Sample:
        process = (time.process_time(), time.monotonic())
        spent, passed = (new - old for new, old in zip(process, self._process, strict=True))
        self._process = process
        found = {"process_cpu_percent": 100 * spent / passed}
        with contextlib.suppress(OSError):
            times = [int(t) for t in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
            machine = (sum(times), times[3] + times[4])  # idle, and waiting for a disk
            total, idle = (new - old for new, old in zip(machine, self._machine, strict=True))
            self._machine = machine
            if total:
                found["cpu_percent"] = 100 * (1 - idle / total)
        return found


def memory() -> Sample:
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    used = kib["MemTotal"] - kib["MemAvailable"]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory_mb": used * 1024 / MB,
        "memory_percent": 100 * used / kib["MemTotal"],
        "process_memory_mb": pages * os.sysconf("SC_PAGE_SIZE") / MB,
    }


def find_gpus() -> Callable[[], Sample]:
    """Whatever tells of GPUs here: NVML, the command, or nothing."""
    with contextlib.suppress(Exception):
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        return lambda: by_nvml(nvml)
    command = shutil.which("nvidia-smi")
    if command is not None:
        return lambda: by_command(command)
    return dict


def by_nvml(nvml: Any) -> Sample:
    found: Sample = {}
    for number in range(nvml.nvmlDeviceGetCount()):
        for name, source in zip(NAMES, _sources(nvml, number), strict=True):
            with contextlib.suppress(Exception):  # not every GPU knows its power
                found[f"gpu_{number}_{name}"] = float(source())
    return found


def _sources(nvml: Any, number: int) -> tuple[Callable[[], float], ...]:
    """In the order of NAMES."""
    gpu = nvml.nvmlDeviceGetHandleByIndex(number)
    return (
        lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
        lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used / MB,
        lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    )


def by_command(command: str) -> Sample:
    done = subprocess.run(
        [command, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"],
        capture_output=True, check=True, text=True, timeout=SMI_TIMEOUT_S,
    )  # fmt: skip
    return dict(_parsed(done.stdout))


def _parsed(output: str) -> Iterator[tuple[str, float]]:
    """One line a GPU, in the order of QUERY; ``[N/A]`` where one does not know."""
    for number, line in enumerate(output.strip().splitlines()):
        for name, text in zip(NAMES, line.split(","), strict=False):
            with contextlib.suppress(ValueError):
                value = float(text)
                yield f"gpu_{number}_{name}", value * (MIB_AS_MB if name == "memory_mb" else 1)
