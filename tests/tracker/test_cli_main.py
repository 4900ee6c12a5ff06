"""The console script where half of it is missing, and how fast it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stepwell.__main__ import OWN, main, registered, resolve


def without(module: str, *arguments: str) -> tuple[int, str, str]:
    """``stepwell ...`` where that module cannot be imported."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"from stepwell.__main__ import main; sys.exit(main({list(arguments)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("uvicorn", ["serve", "--port", "0"]),
        ("numpy", ["verify", "."]),
        ("stepwell_tracker", ["serve"]),
        ("stepwell_tracker.cli", ["runs"]),
    ],
)
def test_a_server_command_without_the_server_says_what_to_install(
    module: str, arguments: list[str]
):
    code, out, err = without(module, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"stepwell {arguments[0]}: pip install 'stepwell[server]'")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["export", "parquet", "to"], ["import", "parquet", "of"]])
def test_parquet_without_its_library_says_what_to_install(arguments: list[str]):
    code, out, err = without("arro3", *arguments)
    assert (code, out) == (2, "")
    assert "pip install 'stepwell[server,parquet]'" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("module", ["stepwell_tracker", "stepwell_storage"])
def test_the_clients_own_commands_need_no_server(module: str):
    assert without(module, "version")[0] == 0
    assert without(module, "sync", "--help")[0] == 0


def test_the_help_without_the_server_lists_what_there_is():
    code, out, _ = without("stepwell_tracker", "--help")
    assert code == 0
    assert "sync" in out
    assert "serve" not in out


def test_reading_commands_need_the_client_alone():
    for name in ("runs", "show", "tail", "compare"):
        assert without("stepwell_storage", name, "--help")[0] == 0
        assert without("uvicorn", name, "--help")[0] == 0
        assert without("numpy", name, "--help")[0] == 0


def test_every_command_resolves_to_a_function_and_no_name_is_taken_twice():
    server = registered()
    assert not set(server) & set(OWN)
    for _, target in (server | OWN).values():
        assert callable(resolve(target))


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from stepwell.__main__ import main; main(['--help']); main(['version'])\n"
        "heavy = {'numpy', 'uvicorn', 'starlette', 'urllib3', 'msgspec', 'asyncio', 'sqlite3'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_argument_that_a_command_does_not_know_is_wrong_use(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["version", "--loud"]) == 2
    assert "--loud" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch):
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("stepwell.__main__.version", interrupted)
    assert main(["version"]) == 130
