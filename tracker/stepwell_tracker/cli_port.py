"""Who listens on a TCP port, by reading /proc: a small machine has neither lsof nor ss nor ps."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"
COMMAND_CHARS = 200


def holder(port: int, proc: Path = PROC) -> str:
    """``pid 123 (python3 -m http.server 7837)``, or what can be said without knowing it."""
    inodes = listening(port, proc)
    if not inodes:
        return "another process"
    for entry in sorted(proc.iterdir()):
        if entry.name.isdigit() and inodes & _sockets(entry):
            return f"pid {entry.name} ({command(entry)})"
    return "a process of another user"


def listening(port: int, proc: Path) -> set[str]:
    """The inodes of the sockets that listen on the port, of IPv4 and IPv6."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, state, inode = fields[1], fields[3], fields[9]
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                found.add(inode)
    return found


def command(process: Path) -> str:
    """Its command line, printable and of bounded length."""
    try:
        raw = (process / "cmdline").read_bytes()
    except OSError:
        return "its command is unknown"
    words = raw.decode(errors="replace").split("\0")
    text = "".join(char if char.isprintable() else "?" for char in " ".join(words).strip())
    return text if len(text) <= COMMAND_CHARS else text[:COMMAND_CHARS] + "..."


def _sockets(process: Path) -> set[str]:
    """The inodes of a process's open sockets; empty where we may not look or it has gone."""
    found = set()
    try:
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):  # it was closed meanwhile
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    found.add(target[len("socket:[") : -1])
    except OSError:
        return set()
    return found
