"""The server's process: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
import urllib3

from tests.serving import Served, serving, start, stepwell

BASE = "/api/v1/experiments"


def get(url: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", url, retries=False, timeout=10)


def refused(data: Path, *options: str) -> tuple[int, str]:
    """The exit code and the message of a server that does not start."""
    process = start(data, subprocess.PIPE, *options)
    out, err = process.communicate(timeout=30)
    assert out == ""
    return process.returncode, err


def log_a_run(url: str) -> str:
    body = b'{"name": "kept", "params": {"a": 1}}'
    reply = urllib3.request("POST", f"{url}{BASE}/runs", body=body, retries=False)
    assert reply.status == 201
    run_id: str = reply.json()["run_id"]
    return run_id


def test_sigterm_with_a_reader_of_live_events_exits_0_in_time(tmp_path: Path):
    with serving(tmp_path / "data") as served:
        run = log_a_run(served.url)
        stream = urllib3.request(
            "GET", f"{served.url}{BASE}/runs/{run}/events", preload_content=False, retries=False
        )
        assert stream.status == 200
        began = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - began < 5
        stream.close()


def test_sigterm_with_a_request_half_sent_exits_0_in_time(tmp_path: Path):
    with serving(tmp_path / "data") as served:
        run = log_a_run(served.url)
        with socket.create_connection(("127.0.0.1", served.port)) as slow:
            slow.sendall(
                f"POST {BASE}/runs/{run}/log-batch HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{".encode()
            )
            time.sleep(0.2)
            assert served.stop() == 0
        assert "1 running task" in served.errors
        assert "Traceback" not in served.errors


def test_a_signal_right_at_the_start_exits_0_or_by_that_signal(tmp_path: Path):
    process = start(tmp_path / "data", subprocess.DEVNULL, "--port", "0")
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert process.returncode in (0, -signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM or "serves" in out or out == ""


def test_ctrl_c_twice_still_commits_and_exits_0(tmp_path: Path):
    data = tmp_path / "data"
    with serving(data) as served:
        run = log_a_run(served.url)
        served.process.send_signal(signal.SIGINT)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(10) == 0
    with serving(data) as served:
        assert get(f"{served.url}{BASE}/runs/{run}").json()["params"] == {"a": "1"}


def test_a_killed_server_neither_blocks_the_next_nor_loses_what_it_acknowledged(tmp_path: Path):
    data = tmp_path / "data"
    with serving(data) as served:
        run = log_a_run(served.url)
        served.kill()
    with serving(data, port=served.port) as again:  # the same port, at once
        assert again.port == served.port
        assert get(f"{again.url}{BASE}/runs/{run}").json()["name"] == "kept"


def test_a_taken_port_says_by_whom_and_offers_another(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, message = refused(tmp_path / "data", "--port", str(port))
    assert code == 4
    assert f"port {port} of 127.0.0.1 is taken by pid {os.getpid()} (" in message
    assert f"make run PORT={port + 1}" in message
    assert not (tmp_path / "data").exists()


def test_a_second_server_on_a_folder_refuses_and_disturbs_nothing(tmp_path: Path):
    data = tmp_path / "data"
    with serving(data) as served:
        code, message = refused(data, "--port", "0")
        assert code == 5
        assert str(served.process.pid) in message
        assert get(f"{served.url}/health").status == 200


def test_a_folder_of_a_newer_version_is_refused_with_advice_and_a_tenant_of_one_alone(
    tmp_path: Path,
):
    data = tmp_path / "data"
    with serving(data) as served:
        log_a_run(served.url)
        body, headers = b'{"name": "other"}', {"X-Tenant-ID": "other"}
        urllib3.request("POST", f"{served.url}{BASE}/runs", body=body, headers=headers)
        assert served.stop() == 0
    for name, starts in (("other", True), ("default", False)):
        file = data / "tenants" / name / "tenant.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("pragma user_version = 99")
        if starts:
            with serving(data) as served:
                assert get(f"{served.url}{BASE}/runs").json()["total"] == 1
            continue
        code, message = refused(data, "--port", "0")
        assert code == 5
        assert "made by a newer Stepwell" in message
        assert "Traceback" not in message
        assert stepwell("gc", "--data", data) == 5


def test_make_run_twice_blames_the_port_first(tmp_path: Path):
    data = tmp_path / "data"
    with serving(data) as served:
        code, message = refused(data, "--port", str(served.port))
    assert code == 4
    assert f"pid {served.process.pid} (" in message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_no_address_beyond_loopback_without_tokens(tmp_path: Path, host: str):
    code, message = refused(tmp_path / "data", "--host", host, "--port", "0")
    assert code == 2
    assert "--no-auth" in message
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--port", "65536"], "--port"),
        (["--port", "http"], "--port"),
        (["--host", "no.such.host.invalid", "--no-auth", "--port", "0"], "--host"),
        (["--host", "192.0.2.1", "--no-auth", "--port", "0"], "192.0.2.1"),
    ],
)
def test_wrong_use_is_told_by_its_option(tmp_path: Path, options: list[str], word: str):
    code, message = refused(tmp_path / "data", *options)
    assert code == 2
    assert word in message
    assert "Traceback" not in message


def test_a_file_where_the_folder_should_be_is_no_traceback(tmp_path: Path):
    (tmp_path / "data").write_text("precious")
    code, message = refused(tmp_path / "data", "--port", "0")
    assert code == 5
    assert "Traceback" not in message
    assert (tmp_path / "data").read_text() == "precious"


def test_requests_are_not_logged_unless_asked_for(tmp_path: Path):
    with serving(tmp_path / "quiet") as served:
        get(f"{served.url}/health")
        served.stop()
        assert served.errors == ""
    with serving(tmp_path / "talking", "--access-log") as served:
        get(f"{served.url}/health")
        served.stop()
        assert "GET /health" in served.errors


@pytest.mark.parametrize("strips", [True, False])
def test_behind_a_proxy_with_a_prefix(tmp_path: Path, strips: bool):
    with serving(tmp_path / "data", "--root-path", "/stepwell") as served:
        origin, _, prefix = served.url.partition("/stepwell")
        assert served.url.endswith("/stepwell")
        prefix = "" if strips else "/stepwell"
        assert get(f"{origin}{prefix}/health").status == 200
        assert get(f"{origin}{prefix}{BASE}/runs").status == 200


def test_a_forged_host_is_refused_and_an_allowed_one_is_not(tmp_path: Path):
    def status(served: Served, host: str) -> int:
        return urllib3.request(
            "GET", f"{served.url}/health", headers={"Host": host}, retries=False
        ).status

    with serving(tmp_path / "data", "--allowed-hosts", "tracker.example.org") as served:
        assert status(served, "tracker.example.org") == 200
        assert status(served, f"localhost:{served.port}") == 200
        assert status(served, "evil.example") == 400
