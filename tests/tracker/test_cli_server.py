"""The listening socket."""

from __future__ import annotations

import socket

import pytest

from stepwell_tracker.cli_server import bind


def test_an_answer_waits_for_no_other_segment():
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()) as client:
            connection, _ = listener.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert client.getpeername() == listener.getsockname()


def test_before_recovery_connections_are_refused_and_not_left_hanging():
    (listener,) = bind("127.0.0.1", 0)
    with listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname())


def test_a_port_is_free_again_at_once_after_connections_were_open():
    (listener,) = bind("127.0.0.1", 0)
    address = listener.getsockname()
    listener.listen()
    client = socket.create_connection(address)
    connection, _ = listener.accept()
    connection.close()  # the server's side closes first: its port waits in TIME_WAIT
    client.close()
    listener.close()
    (again,) = bind("127.0.0.1", address[1])
    again.listen()
    again.close()


def test_a_taken_port_ends_the_process_with_its_code(capsys: pytest.CaptureFixture[str]):
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(SystemExit) as ended,
    ):
        bind("127.0.0.1", listener.getsockname()[1])
    assert ended.value.code == 4
    assert "is taken by pid" in capsys.readouterr().err
