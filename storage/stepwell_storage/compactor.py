"""The compactor: a process of its own, one for all tenants of a server.

pcodec holds the GIL, so on a thread compaction would take turns with the requests.  The process
reads a tenant's file read-only, builds chunks and hands them back; the committer stays the only
writer.  Requests and replies are msgpack behind a four-byte length, over the process's standard
input and output; at the end of its input the process ends, so it dies with the server.
"""

import asyncio
import ctypes
import logging
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import BinaryIO

import msgspec

from stepwell_storage.compaction import build
from stepwell_storage.errors import StorageError
from stepwell_storage.sealed import Sealed
from stepwell_storage.sqlite import read_only

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1


class _Unit(msgspec.Struct, array_like=True):
    path: str
    runs: list[int]


class _Reply(msgspec.Struct, array_like=True):
    sealed: Sealed | None = None
    error: str = ""


class CompactionFailed(StorageError):
    """The compactor could not build this unit; nothing was changed."""


class Compactor:
    """The server's side.  One unit at a time; the process is started with the first."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def build(self, path: Path, runs: list[int]) -> Sealed:
        """One unit of some runs.  Raises CompactionFailed; a dead process is replaced next time."""
        async with self._turn:
            process = self._process or await self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                body = msgspec.msgpack.encode(_Unit(str(path), runs))
                process.stdin.write(_LENGTH.pack(len(body)) + body)
                await process.stdin.drain()
                size = _LENGTH.unpack(await process.stdout.readexactly(4))[0]
                answer = await process.stdout.readexactly(size)
            except (OSError, asyncio.IncompleteReadError) as error:
                await self._stop()
                raise CompactionFailed("the compactor process ended unexpectedly") from error
            except BaseException:  # cancelled in the middle: its answer would be taken for the next
                await self._stop()
                raise
        reply = msgspec.msgpack.decode(answer, type=_Reply)
        if reply.sealed is None:
            raise CompactionFailed(reply.error)
        return reply.sealed

    async def _start(self) -> Process:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "stepwell_storage.compactor",
            stdin=PIPE, stdout=PIPE, limit=1 << 26,
        )  # fmt: skip
        return self._process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def close(self) -> None:
        """Stop at once: a unit that is not handed back never happened."""
        await self._stop()


# --- the process ---------------------------------------------------------------------------------


def _die_with_parent() -> None:
    """Linux tells us when the server is killed, even in the middle of a unit."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def _answer(unit: _Unit) -> _Reply:
    try:
        async with read_only(Path(unit.path)) as reader:
            return _Reply(await build(reader, unit.runs))
    except Exception as error:  # noqa: BLE001 - the server decides what to make of it
        return _Reply(error=f"{type(error).__name__}: {error}")


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(head)[0]
    body = stream.read(size)
    return body if len(body) == size else None


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which closes us
    _die_with_parent()
    with asyncio.Runner() as runner:
        while (body := _read(sys.stdin.buffer)) is not None:
            unit = msgspec.msgpack.decode(body, type=_Unit)
            answer = msgspec.msgpack.encode(runner.run(_answer(unit)))
            sys.stdout.buffer.write(_LENGTH.pack(len(answer)) + answer)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
