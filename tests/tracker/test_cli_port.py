"""Who holds a port, on a machine that has neither lsof nor ps."""

import os
import socket
import sys
from pathlib import Path

import pytest

from stepwell_tracker.cli_port import COMMAND_CHARS, command, holder, listening

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_the_holder_is_named_by_pid_and_command(family: socket.AddressFamily, address: str):
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        listener.listen()
        found = holder(listener.getsockname()[1])
    assert found.startswith(f"pid {os.getpid()} (")
    assert "python" in found


def test_a_port_bound_but_not_listened_on_has_no_holder():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert holder(bound.getsockname()[1]) == "another process"


def fake_proc(tmp_path: Path, command_line: bytes) -> Path:
    net = tmp_path / "net"
    net.mkdir()
    row = "0: 0100007F:1E9D 00000000:0000 {} 0:0 0:0 0 0 0 {} 1"
    net.joinpath("tcp").write_text(f"header\n{row.format('0A', 77)}\n{row.format('01', 78)}\n")
    process = tmp_path / "42"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("socket:[77]")
    (process / "fd" / "4").symlink_to("/dev/null")
    process.joinpath("cmdline").write_bytes(command_line)
    return tmp_path


def test_only_the_listener_counts_not_its_connections(tmp_path: Path):
    assert listening(7837, fake_proc(tmp_path, b"")) == {"77"}


def test_a_command_line_cannot_command_the_terminal(tmp_path: Path):
    proc = fake_proc(tmp_path, b"python3\0-m\0\x1b[2Jserver\0")
    assert holder(7837, proc) == "pid 42 (python3 -m ?[2Jserver)"


def test_an_endless_command_line_is_cut(tmp_path: Path):
    proc = fake_proc(tmp_path, b"x" * 10_000)
    assert len(command(proc / "42")) == COMMAND_CHARS + 3


def test_a_holder_that_we_may_not_look_at_is_still_reported(tmp_path: Path):
    proc = fake_proc(tmp_path, b"")
    (proc / "42" / "fd" / "3").unlink()
    assert holder(7837, proc) == "a process of another user"


def test_a_machine_without_proc_is_no_error(tmp_path: Path):
    assert holder(7837, tmp_path / "none") == "another process"
