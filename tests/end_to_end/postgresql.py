"""A PostgreSQL server of the test's own: in a folder of its own, on a free port, never as root."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

INSTALLED = Path("/usr/lib/postgresql")
READY_WITHIN_S = 60.0


def programs() -> Path:
    """The folder of ``initdb`` and ``postgres``; skips where there is none, never in CI."""
    found = sorted(INSTALLED.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if path := shutil.which("postgres"):
        return Path(path).resolve().parent
    reason = "postgres is not installed; as root: apt-get install postgresql"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database; gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="stepwell-postgres-"))
    owner = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    if owner:
        shutil.chown(folder, owner)
    bin, data, log = programs(), folder / "data", folder / "log"
    try:
        initdb = [f"{bin}/initdb", "-D", f"{data}", "-U", "postgres", "-A", "trust", "--no-sync"]
        made = subprocess.run(initdb, user=owner, cwd=folder, capture_output=True, check=False)
        assert made.returncode == 0, made.stderr.decode()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        options = [f"-cport={port}", "-clisten_addresses=127.0.0.1", "-cfsync=off",
                   f"-cunix_socket_directories={folder}"]  # fmt: skip
        with log.open("wb") as output:
            server = subprocess.Popen(
                [bin / "postgres", "-D", data, *options],
                user=owner, cwd=folder, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            _wait(url, server, log)
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # at once, whoever is connected
            server.wait(30)
    finally:
        shutil.rmtree(folder)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2_000:]
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
            return
        time.sleep(0.1)
    pytest.fail(f"PostgreSQL does not answer: {log.read_text()[-2_000:]}")
