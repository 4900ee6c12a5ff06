"""The servers under test as real processes: started, waited for, watched through /proc, ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 180.0
_STOP_SECONDS = 20.0
_LEFTOVER_SECONDS = 3.0
_MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs", "devtmpfs"}


class NotReady(Exception):
    """A server ended or did not answer in time; the text holds the end of what it printed."""


def end_cleanly() -> None:
    """SIGTERM unwinds like an exception, so that servers are ended and folders removed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in BENCH_DIR, else in the first usual place that is on a disk and not in memory;
    removed afterwards."""
    places = [tempfile.gettempdir(), "/var/tmp", "."]
    disks = [place for place in places if _file_system(place) not in _MEMORY_FILE_SYSTEMS]
    place = os.environ.get("BENCH_DIR") or (disks or places)[0]
    folder = Path(tempfile.mkdtemp(prefix="stepwell-bench-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _file_system(place: str) -> str:
    """The type of the mount that holds ``place``."""
    path, best, kind = str(Path(place).resolve()) + "/", "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, fs, *_ = line.split(" ")
        if path.startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
            best, kind = mount, fs
    return kind


@dataclass
class Server:
    """A process that answers HTTP on ``port``, with the children that it started."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    ready_s: float
    """From the start of the process to its first answer."""

    def pids(self) -> list[int]:
        """The process and all its descendants that live now."""
        found = [self.process.pid]
        for pid in found:
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, of descendants that were waited for too."""
        ticks = 0
        for pid in self.pids():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(value) for value in fields[11:15])
        return ticks / _TICKS

    def memory_mb(self, measure: str = "Rss") -> float:
        """``Rss`` counts a page that two processes share twice; ``Pss`` once."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith(f"{measure}:"):
                        total += int(line.split()[1])
        return round(total / 1024, 1)

    def pause(self) -> None:
        """Stops the whole tree, so that its background work is charged to its own rounds."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def settle(self, seconds: float = 60.0) -> bool:
        """Waits until it uses under 3 % of a core for a second; False when time ran out."""
        deadline, calm, last = time.monotonic() + seconds, 0, self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(0.5)
            now = self.cpu_seconds()
            calm = calm + 1 if now - last <= 0.015 else 0
            last = now
            if calm >= 2:
                return True
        return False

    def stop(self) -> float:
        """SIGTERM, and SIGKILL after 20 s, to descendants that outlive it as well; answers how
        many seconds the server itself took."""
        start = time.monotonic()
        self.go_on()
        family = self.pids()[1:]
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        took = time.monotonic() - start
        _end(family)
        return took


def _end(pids: Sequence[int]) -> None:
    """Ends what a server started and left behind (MLflow's job runners outlive it)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = [pid for pid in pids if _alive(pid)]
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        while any(_alive(pid) for pid in alive) and time.monotonic() < deadline:
            time.sleep(0.05)


def _alive(pid: int) -> bool:
    """Whether a process is there that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def running(
    name: str, command: Sequence[str], port: int, log: Path, *, path: str = "/health"
) -> Iterator[Server]:
    """Starts ``command`` and yields once ``path`` answers 200.  Raises NotReady."""
    start = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            stdout=output,
            stderr=output,
            env=_environment(),
            start_new_session=True,  # a terminal's Ctrl-C or hang-up is ours to pass on
        )
    server = Server(name, port, process, 0.0)
    try:
        while not answers(port, path):
            if process.poll() is not None or time.monotonic() - start > _START_SECONDS:
                raise NotReady(f"{name} is not ready: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)
        server.ready_s = round(time.monotonic() - start, 3)
        yield server
    finally:
        server.stop()


def _environment() -> Mapping[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("STEPWELL_")}


def answers(port: int, path: str) -> bool:
    """Whether a GET is answered with 200 now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            return client.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@contextmanager
def stepwell(data: Path) -> Iterator[Server]:
    """``stepwell serve`` on this data directory, as a user starts it."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("stepwell")), "serve", "--data", str(data)]
    with running(
        "stepwell", [*command, "--port", str(port)], port, data.with_suffix(".log")
    ) as server:
        yield server


@contextmanager
def discard(folder: Path) -> Iterator[Server]:
    """The baseline of :mod:`benchmarks.discard`."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.discard", str(port)]
    with running("discard", command, port, folder / "discard.log") as server:
        yield server
