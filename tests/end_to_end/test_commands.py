"""The command line against a real server: every example of every help text, and what they print."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3

from stepwell.__main__ import OWN, main
from stepwell.wire import TENANT_HEADER
from stepwell_storage.backups import back_up
from stepwell_storage.parquet_export import export
from stepwell_storage.restoring import restore
from stepwell_tracker.cli import commands
from stepwell_tracker.cli_client import BASE, TENANTS
from stepwell_tracker.cli_kinds import EXPORTS, IMPORTS
from tests.end_to_end.conftest import Http
from tests.serving import Served, serving
from tests.tracker.mlflow_stores import database

FIRST, SECOND = "018d9c4230808f13be8df00000000000", "018d9c4230808f13be8df00000000001"
GROUPS = {"export": EXPORTS, "import": IMPORTS}
PLAIN = sorted({*commands(), *OWN} - {*GROUPS})
ALL = [*PLAIN, *(f"{group} {kind}" for group, kinds in GROUPS.items() for kind in kinds)]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def runs(server: Served) -> tuple[str, str]:
    """Two runs that have ended, under the ids that the help texts use."""
    http = Http(server.url)
    for index, run in enumerate((FIRST, SECOND)):
        body = {
            "experiment_name": "fraud-detection-v3",
            "name": f"run {index}",
            "run_id": run,
            "params": {"max_depth": 6, "learning_rate": f"0.{index + 1}"},
            "start_time": 1707723600000 + index,
        }
        http("POST", f"{BASE}/runs", body, tenant="acme-corp")
        metrics = [
            {"key": "val_loss", "value": 1 / (step + 1 + index), "step": step, "timestamp": step}
            for step in range(50)
        ]
        metrics.append({"key": "odd", "value": "NaN", "step": 0, "timestamp": 0})
        http.ok("POST", f"{BASE}/runs/{run}/log-batch", {"metrics": metrics})
        http.ok("PUT", f"{BASE}/runs/{run}/artifacts/model/card.md", b"# card")
        http.ok("POST", f"{BASE}/runs/{run}/end?end_time={1707723600000 + 90_000}")
    http.close()
    return FIRST, SECOND


@pytest.fixture(scope="session")
def stored(server: Served, runs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples on the server's machine find: a data directory and a backup."""
    folder = tmp_path_factory.mktemp("stored")
    back_up(server.data, ["acme-corp"], folder / "acme-corp.backup")
    asyncio.run(restore(folder / "acme-corp.backup", [], folder / "stepwell-data"))
    export(folder / "stepwell-data", "acme-corp", folder / "acme-corp.parquet", lambda *_: None)
    return folder


@pytest.fixture
def command(
    server: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs ``stepwell ...`` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("STEPWELL_URL", server.url)
    monkeypatch.setenv("STEPWELL_TENANT", "acme-corp")

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(list(arguments))
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def example_of(help_text: str) -> list[str]:
    """The words of the line after ``example:``."""
    found = re.search(r"^examples?:\n +(stepwell .*(?:\\\n.*)*)", help_text, re.MULTILINE)
    assert found is not None, "this command's help has no example"
    return shlex.split(found[1])


@pytest.mark.parametrize("name", [name for name in ALL if name != "serve"])
@pytest.mark.usefixtures("runs")
def test_the_example_of_each_help_text_works(
    name: str,
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Served,
    stored: Path,
):
    code, help_text, _ = command(*name.split(), "--help")
    assert code == 0
    words = example_of(help_text)
    assert " ".join(words).startswith(f"stepwell {name}")
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    if name.endswith("mlflow"):
        database(tmp_path / "mlflow.db")
    if name == "export mlflow":
        assert command("import", "mlflow", "--source", "mlflow.db")[0] == 0
    arguments = [server.url if word == "http://127.0.0.1:7837" else word for word in words[1:]]
    code, out, err = command(*arguments)
    assert code == 0, err
    assert out or err


def test_the_example_of_serve_works(command: Command, tmp_path: Path):
    words = example_of(command("serve", "--help")[1])
    assert words == ["stepwell", "serve", "--data", "stepwell-data", "--port", "7837"]
    # The port alone is another one: somebody may use 7837 on this machine.
    with serving(tmp_path / words[3]) as served:
        assert served.stop() == 0


def test_every_command_is_listed_and_documented(command: Command):
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    listed = command("--help")[1]
    for name in ALL:
        assert re.search(rf"^  {name.split()[0]} ", listed, re.MULTILINE)
        assert f"| `stepwell {name}" in page
        for option in re.findall(
            r"^  (?:-h, )?(--[\w-]+)", command(*name.split(), "--help")[1], re.MULTILINE
        ):
            known = option == "--help" or name == "sync" or f"`{option}" in page
            assert known, f"docs/cli.md does not tell about {name} {option}"


@pytest.mark.usefixtures("runs")
def test_runs_lists_filters_and_orders(command: Command):
    code, out, _ = command("runs", "--order-by", "metrics.val_loss ASC", "--metric", "val_loss",
                           "--experiment", "fraud-detection-v3", "--filter",
                           "params.max_depth = 6 and attributes.run_name LIKE 'run %'")  # fmt: skip
    assert code == 0
    header, *rows = out.splitlines()
    assert header.split() == ["RUN", "NAME", "STATUS", "STARTED", "TOOK", "val_loss"]
    assert [row.split()[0] for row in rows] == [SECOND, FIRST]
    assert rows[0].split()[-2:] == ["1m30s", "0.0196078"]


@pytest.mark.usefixtures("runs")
def test_runs_shows_the_metrics_that_it_was_asked_by(command: Command):
    header = command("runs", "--order-by", "metrics.val_loss DESC")[1].splitlines()[0]
    assert header.split()[-2:] == ["val_loss", "odd"]
    asked = ["--order-by", 'metrics."no such/key" DESC', "--filter", "metrics.odd IS NOT NULL"]
    header = command("runs", *asked)[1].splitlines()[0]
    assert re.search(r"TOOK +no such/key +odd +val_loss$", header)


@pytest.mark.usefixtures("runs")
def test_json_is_for_scripts(command: Command):
    code, out, _ = command("runs", "--json", "--limit", "1", "--filter", "metrics.odd IS NOT NULL")
    assert code == 0
    assert json.loads(out)[0]["metrics"]["odd"] == "NaN"
    shown = json.loads(command("show", FIRST, "--json")[1])
    assert shown["run"]["run_id"] == FIRST
    assert {one["key"]: one["count"] for one in shown["series"]} == {"odd": 1, "val_loss": 50}
    assert [one["path"] for one in shown["artifacts"]] == ["model/card.md"]
    compared = json.loads(command("compare", FIRST, SECOND, "--json")[1])
    assert compared["params"] == {"learning_rate": ["0.1", "0.2"]}


@pytest.mark.usefixtures("runs")
def test_show_tells_everything_on_one_page(command: Command):
    out = command("show", FIRST)[1]
    assert re.search(r"^experiment +fraud-detection-v3$", out, re.MULTILINE)
    assert re.search(r"^max_depth +6$", out, re.MULTILINE)
    assert re.search(r"^val_loss +50 +0\.02 +0\.02 +1 +█.*▁$", out, re.MULTILINE)
    assert re.search(r"^odd +1 +nan +- +-$", out, re.MULTILINE)
    assert re.search(r"^model/card.md +6 B$", out, re.MULTILINE)


@pytest.mark.usefixtures("runs")
def test_commands_of_a_run_need_no_tenant(command: Command, monkeypatch: pytest.MonkeyPatch):
    """The id names it, also for the experiment, whose own id does not."""
    monkeypatch.delenv("STEPWELL_TENANT")
    code, out, _ = command("show", FIRST)
    assert code == 0
    assert re.search(r"^experiment +fraud-detection-v3$", out, re.MULTILINE)
    assert command("show", FIRST, "--tenant", "another")[0] == 1
    assert command("compare", FIRST, SECOND)[0] == 0
    assert command("tail", FIRST)[0] == 0


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("bound_to", ["acme-corp", None])
def test_show_does_without_the_list_of_tenants(
    command: Command, runs: tuple[str, str], server: Served, bound_to: str | None
):
    """In front of the server is what hides the list, and may say whose requests these are."""
    with in_front_of(server.url, bound_to) as url:
        code, out, err = command("show", FIRST, "--url", url)
    assert code == 0
    assert ("fraud-detection-v3" in out) == (bound_to is not None)
    assert ("--tenant NAME" in err) == (bound_to is None)
    assert "val_loss" in out


@contextlib.contextmanager
def in_front_of(url: str, tenant: str | None) -> Iterator[str]:
    """A proxy that refuses the list of tenants, and asks as a tenant where one is given."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {"Content-Type": "application/json"}
            if tenant:
                headers[TENANT_HEADER] = tenant
            status, data = 403, b"not for you"
            if self.path != TENANTS:
                answer = urllib3.request(self.command, url + self.path, body=body, headers=headers)
                status, data = answer.status, answer.data
            self.send_response(status)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()


def test_compare_shows_what_differs_and_only_that(command: Command):
    out = command("compare", FIRST, SECOND)[1]
    assert re.search(r"^learning_rate +0\.1 +0\.2$", out, re.MULTILINE)
    assert re.search(r"^val_loss last +0\.02 +0\.0196078$", out, re.MULTILINE)
    assert "max_depth" not in out
    assert "odd" not in out
    assert "max_depth" in command("compare", "--all", FIRST, SECOND)[1]
    assert "no parameter and no metric differs" in command("compare", FIRST, FIRST)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["show", "0" * 32], 1, "there is no run"),
        (["show", "nonsense"], 2, "no run id"),
        (["compare", FIRST], 2, "two runs"),
        (["runs", "--filter", "metrics."], 1, "filter"),
        (["runs", "--experiment", "absent"], 1, "no experiment 'absent'"),
        (["runs", "--limit", "0"], 2, "--limit: '0' is no whole number from 1 on"),
        (["runs", "--limit", "x"], 2, "--limit: 'x' is no whole number from 1 on"),
        (["tail", FIRST, "--steps", "-1"], 2, "--steps"),
        (["runs", "--url", "http://127.0.0.1:1"], 3, "no server answers"),
        (["runs", "--url", "127.0.0.1:1"], 3, "no server answers"),
        (["runs", "--url", ""], 2, "no address of a server"),
        (["tail", "0" * 32], 1, "there is no run"),
        (["fly"], 2, "unknown command"),
        (["verify", "/no/such/folder"], 2, "no folder"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_what_goes_wrong_is_one_line_and_a_code(
    command: Command, arguments: list[str], code: int, word: str
):
    found, out, err = command(*arguments)
    assert (found, out) == (code, "")
    assert word in err
    assert "Traceback" not in err
    assert "Warning" not in err


def test_a_field_that_is_wrong_is_told_once(command: Command):
    code, _, said = command("runs", "--filter", "x =")
    assert (code, said.count("at character 4"), said.count("filter: ")) == (1, 1, 1)


def test_something_else_on_the_port_is_no_traceback(command: Command, server: Served):
    code, _, err = command("runs", "--url", f"{server.url}/elsewhere")
    assert code == 1
    assert "Traceback" not in err


def test_the_reader_of_the_output_left(server: Served, runs: tuple[str, str]):
    process = subprocess.Popen(
        [sys.executable, "-m", "stepwell", "runs", "--json", "--url", server.url,
         "--tenant", "acme-corp"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 141


@pytest.fixture
def tail(server: Served) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``stepwell tail`` as a process."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, url: str = server.url) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "stepwell", "tail", *arguments, "--url", url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def log(http: Http, run: str, step: int) -> None:
    body = {"metrics": {"loss": step / 10, "lr": 0.5}, "step": step}
    http.ok("POST", f"{BASE}/runs/{run}/log-metrics", body)


def lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    assert process.stdout is not None
    found: list[str] = []
    while not found or last not in found[-1]:
        line = process.stdout.readline()
        assert line, f"the output ended without {last!r}: {found}"
        found.append(line.rstrip("\n"))
    return found


def test_tail_follows_a_run_to_its_end(http: Http, tail: Callable[..., subprocess.Popen[str]]):
    run = http.ok("POST", f"{BASE}/runs", {})["run_id"]
    for step in range(5):
        log(http, run, step)
    process = tail(run, "--steps", "2")
    assert lines_until(process, "step 4") == [
        "step 3  loss=0.3  lr=0.5",
        "step 4  loss=0.4  lr=0.5",
    ]
    for step in range(5, 10):
        log(http, run, step)
    http.ok("POST", f"{BASE}/runs/{run}/log-params", {"params": {"depth": 6}})
    found = lines_until(process, "param depth = 6")
    for step in range(5, 10):
        assert f"step {step}  loss={step / 10:g}  lr=0.5" in found
    http.ok("POST", f"{BASE}/runs/{run}/stop")
    lines_until(process, "asked to stop")
    log(http, run, 10)
    http.ok("POST", f"{BASE}/runs/{run}/end")
    assert lines_until(process, "finished after")[0] == "step 10  loss=1  lr=0.5"
    assert process.wait(10) == 0


def test_tail_shows_nothing_twice_and_survives_a_restart_of_the_server(
    tmp_path: Path, tail: Callable[..., subprocess.Popen[str]]
):
    data = tmp_path / "data"
    with serving(data) as served:
        http = Http(served.url)
        run = http.ok("POST", f"{BASE}/runs", {})["run_id"]
        log(http, run, 0)
        process = tail(run, "--json", "--metric", "loss", url=served.url)
        assert json.loads(lines_until(process, "loss")[0])["step"] == 0
        served.stop()
    with serving(data, port=served.port) as again:
        http = Http(again.url)
        log(http, run, 1)
        assert json.loads(lines_until(process, "loss")[0])["step"] == 1
        http.ok("POST", f"{BASE}/runs/{run}/end?status=killed")
        assert json.loads(lines_until(process, "status")[0])["status"] == "killed"
        assert process.wait(10) == 0


def test_verify_and_tenants_work_beside_a_running_server(tmp_path: Path, command: Command):
    data = tmp_path / "data"
    with serving(data) as served:
        http = Http(served.url)
        run = http.ok("POST", f"{BASE}/runs", {}, tenant="acme-corp")["run_id"]
        for step in range(3):
            log(http, run, step)
        http.ok("PUT", f"{BASE}/runs/{run}/artifacts/a.bin", bytes(1000))
        code, out, err = command("verify", str(data))
        assert (code, out) == (0, "")
        assert "1 tenants, 1 runs" in err
        deadline = time.monotonic() + 10
        while True:  # the counts of a moment ago
            found = json.loads(command("tenants", "--data", str(data), "--json")[1])
            if found[0]["points"] == 6 or time.monotonic() > deadline:
                break
        assert [(one["tenant"], one["runs"], one["points"]) for one in found] == [
            ("acme-corp", 1, 6)
        ]
        assert found[0]["artifact_bytes"] == 1000
        assert served.stop() == 0
    assert command("tenants", "--data", str(data))[1].splitlines()[1].split()[:4] == [
        "acme-corp", "1", "1", "6",
    ]  # fmt: skip
    assert command("verify", str(data))[0] == 0


def test_verify_reports_a_damaged_tenant_and_looks_at_the_others(tmp_path: Path, command: Command):
    data = tmp_path / "data"
    with serving(data) as served:
        http = Http(served.url)
        for tenant in ("whole", "broken"):
            log(http, http.ok("POST", f"{BASE}/runs", {}, tenant=tenant)["run_id"], 0)
        served.stop()
    (data / "tenants" / "broken" / "tenant.db").write_bytes(b"no database" * 1000)
    code, out, err = command("verify", str(data))
    assert code == 1
    assert out.startswith("tenant broken")
    assert "2 tenants, 1 runs" in err
    code, out, _ = command("tenants", "--data", str(data))
    assert code == 1
    assert re.search(r"^whole +\d+ +1 +2 ", out, re.MULTILINE)
    assert re.search(r"^broken +\? +\? +\? ", out, re.MULTILINE)
