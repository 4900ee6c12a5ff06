"""The one method that everything goes through, and the one place where errors become ours."""

import contextlib
import inspect
import io
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import urllib3.exceptions

from stepwell import errors
from stepwell.config import Config
from stepwell.errors import (
    BadReply,
    ServerError,
    StepwellError,
    Unreachable,
    WrongUse,
    from_problem,
)
from stepwell.transport import (
    HttpTransport,
    Request,
    Response,
    _translated,
    decoded,
    error_of,
    problem_of,
)
from stepwell.wire import FieldError, Problem
from tests.sdk.fault_server import Fault, FaultServer


def every(kind: type[Exception], module: object) -> list[type[Exception]]:
    found = [value for _, value in inspect.getmembers(module, inspect.isclass)]
    return [value for value in found if issubclass(value, kind)]


FOREIGN = every(Exception, urllib3.exceptions)


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_every_error_of_urllib3_becomes_ours(kind: type[Exception]):
    quiet = {"__init__": lambda self: None, "__str__": lambda self: "told"}
    with pytest.raises(Unreachable, match="told"), _translated("http://h"):
        raise type(kind.__name__, (kind,), quiet)()


@pytest.mark.parametrize("kind", [OSError, ConnectionResetError, TimeoutError, socket.gaierror])
def test_so_do_the_systems(kind: type[OSError]):
    with pytest.raises(Unreachable, match="http://h"), _translated("http://h"):
        raise kind("x")


def test_a_bug_stays_a_bug():
    with pytest.raises(ZeroDivisionError), _translated("http://h"):
        _ = 1 / 0


def test_the_innermost_reason_is_told(free_port: int):
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        HttpTransport(Config(url=f"http://127.0.0.1:{free_port}")).send(Request("GET", "/"))
    assert "Max retries" not in str(caught.value)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_the_tree_is_drawn_as_it_is():
    kinds = every(StepwellError, errors)
    assert {kind.__name__ for kind in kinds} == {
        word for line in (errors.__doc__ or "").splitlines() for word in line.split()
        if word in vars(errors) and isinstance(vars(errors)[word], type)
    } & {kind.__name__ for kind in kinds}  # fmt: skip
    for status in range(400, 600):
        assert from_problem(Problem("", "t", status, "d")).status == status


def test_a_problem_says_which_fields():
    error = from_problem(Problem("", "Wrong", 422, "no", [FieldError("params[3]", "too long")]))
    assert str(error) == "422 Wrong: no (params[3]: too long)"


def test_errors_come_back_from_a_worker_process_as_they_were():
    problem = Problem("", "Wrong", 422, "no", [FieldError("params[3]", "too long")])
    for error in (from_problem(problem), WrongUse("a text", "metric"), Unreachable("refused")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway", b"[]", b"\xff"])
def test_an_error_that_is_no_problem_document_is_still_an_error(body: bytes):
    response = Response(502, {}, body)
    assert problem_of(response).status == 502
    assert isinstance(error_of(response), ServerError)
    assert str(error_of(response)).startswith("502 Bad Gateway: ")
    assert str(error_of(Response(599, {}, body))).startswith("599 ")


def test_a_page_is_no_answer():
    with pytest.raises(BadReply):
        decoded(Response(200, {}, b"<html>log in"), Problem)


def test_connections_are_kept_and_the_path_of_a_proxy_is_too(server: FaultServer):
    transport = HttpTransport(Config(url=f"{server.url}/prefix", token="t0k3n"))
    for _ in range(3):
        transport.send(Request("POST", "/api/v1/experiments/runs", b"{}"))
    transport.close()
    assert len(server.runs) == 3
    assert server.seen[0].headers["Authorization"] == "Bearer t0k3n"
    assert server.seen[0].path == "/prefix/api/v1/experiments/runs"


def test_a_redirect_is_not_followed(server: FaultServer):
    headers = {"Location": f"{server.url}/elsewhere"}
    server.faults = [Fault("status", status=307, headers=headers)]
    assert HttpTransport(Config(url=server.url)).send(Request("GET", "/")).status == 307
    assert len(server.seen) == 1


@pytest.fixture
def raw() -> Iterator[Callable[[bytes], str]]:
    """A server that answers every connection with the given bytes, and closes it."""
    listeners = []

    def serve(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\1\2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=[
        "nothing",
        "noise",
        "cut body",
        "bad chunk",
        "huge header",
        "another protocol",
    ],
)
def test_answers_that_are_none_are_unreachable(raw: Callable[[bytes], str], answer: bytes):
    with pytest.raises(Unreachable):
        HttpTransport(Config(url=raw(answer))).send(Request("GET", "/"))


def test_a_body_goes_into_its_sink_unless_it_is_an_error(server: FaultServer):
    transport = HttpTransport(Config(url=server.url))
    sink = io.BytesIO()
    response = transport.send(Request("GET", "/api/v1/experiments/runs/none", sink=sink))
    assert response.status == 404
    assert sink.getvalue() == b""
    ok = transport.send(Request("POST", "/api/v1/experiments/runs", b"{}", sink=sink))
    assert ok.body == b""
    assert b"run_id" in sink.getvalue()


def test_nagle_is_off(server: FaultServer, monkeypatch: pytest.MonkeyPatch):
    seen = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        seen.append(self.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    HttpTransport(Config(url=server.url)).send(Request("GET", "/"))
    assert seen == [1]


def accept_twice(listener: socket.socket, answer: bytes, served: list[int]) -> None:
    """One answer on each of two connections; the first is closed after it."""
    for number in range(2):
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
            served.append(number)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used():
    """Servers close what is idle for a few seconds, and a training may well log more seldom."""
    served: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        work = threading.Thread(target=accept_twice, args=(listener, answer, served))
        work.start()
        transport = HttpTransport(Config(url=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert transport.send(Request("GET", "/")).body == b"ok"
        deadline = time.monotonic() + 10
        while served != [0] and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)  # until its end has arrived
        assert transport.send(Request("POST", "/", b"{}")).body == b"ok"
        work.join(10)
        transport.close()
    assert served == [0, 1]


def test_a_connection_of_which_an_answer_was_cut_is_not_used_again(server: FaultServer):
    transport = HttpTransport(Config(url=server.url, read_timeout_s=0.2))
    server.faults = [Fault("hang", times=1, seconds=1.0)]
    with pytest.raises(Unreachable, match="timed out"):
        transport.send(Request("POST", "/api/v1/experiments/runs", b"{}"))
    assert transport.send(Request("POST", "/api/v1/experiments/runs", b"{}")).ok
    transport.close()


def test_an_answer_that_comes_before_the_whole_body_was_taken_is_heard():
    """A proxy's 413: it answers and hangs up in the middle of what it does not want."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        work = threading.Thread(target=refuse)
        work.start()
        transport = HttpTransport(Config(url=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert transport.send(Request("PUT", "/", bytes(8 * 1024**2))).status == 413
        transport.close()
        work.join(10)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_an_answer_that_trickles_in_is_none(start: bytes):
    """Each byte comes in time, and the whole would take hours."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(start)
                while not over.wait(0.05):
                    connection.sendall(b"H")

        work = threading.Thread(target=trickle)
        work.start()
        config = Config(url=f"http://127.0.0.1:{listener.getsockname()[1]}", read_timeout_s=0.4)
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="trickles"):
            HttpTransport(config).send(Request("GET", "/"))
        assert time.monotonic() - begun < 3
        over.set()
        work.join(10)


def test_a_body_may_take_longer_than_a_connection_and_an_answer():
    length = 8 * 1024**2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

        def take() -> None:
            connection, _ = listener.accept()
            with connection:
                taken = 0
                while taken < length:
                    taken += len(connection.recv(65_536))
                    time.sleep(0.005)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        work = threading.Thread(target=take)
        work.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        transport = HttpTransport(Config(url=url, connect_timeout_s=0.3, read_timeout_s=1.0))
        begun = time.monotonic()
        assert transport.send(Request("PUT", "/", bytes(length))).status == 200
        assert time.monotonic() - begun > 0.5
        transport.close()
        work.join(10)


def test_threads_may_share_a_transport(server: FaultServer):
    transport = HttpTransport(Config(url=server.url))
    found: list[int] = []

    def ask() -> None:
        for _ in range(20):
            answer = transport.send(Request("POST", "/api/v1/experiments/runs", b"{}"))
            found.append(answer.status)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    transport.close()
    assert len(found) == 160
    assert set(found) <= {200, 201}
