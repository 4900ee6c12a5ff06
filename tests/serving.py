"""A real server: a process of its own, on a real socket, over a folder of the test's."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stepwell.__main__ import main

READY = re.compile(r"serves .* on (http://\S+) \(pid (\d+)\)")
STOP_WITHIN_S = 10.0
PROGRAM = ("-m", "stepwell")


@dataclass
class Served:
    """``url`` has no slash at its end.  ``errors`` is what the server wrote to stderr."""

    url: str
    process: subprocess.Popen[str]
    stderr: Path
    data: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def errors(self) -> str:
        return self.stderr.read_text()

    def stop(self) -> int:
        """SIGTERM, and the exit code.  Raises TimeoutExpired after what DESIGN allows."""
        self.process.terminate()
        return self.process.wait(STOP_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serving(
    data: Path,
    *options: str,
    port: int = 0,
    program: Sequence[str] = PROGRAM,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """A server over ``data`` on a free port; it is gone when the block ends.

    ``program`` is what Python runs; ``environment`` replaces this process's.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    stderr = data.parent / f"{data.name}.stderr"
    with stderr.open("a") as errors:
        arguments = ["--port", str(port), *options]
        process = start(data, errors, *arguments, program=program, environment=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        ready = READY.search(line)
        if ready is None:
            process.wait(STOP_WITHIN_S)
            raise RuntimeError(f"the server did not start: {line}{stderr.read_text()}")
        yield Served(ready[1], process, stderr, data)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            finally:
                process.kill()
        process.stdout.close()
        process.wait()


def stepwell(*arguments: str | Path) -> int:
    """``stepwell ...`` in this process: its exit code."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        return int(exit_.code or 0)


def start(
    data: Path,
    errors: IO[str] | int,
    *options: str,
    program: Sequence[str] = PROGRAM,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """``stepwell serve`` as a process, not waited for."""
    return subprocess.Popen(
        [sys.executable, *program, "serve", "--data", str(data), *options],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment,
    )
