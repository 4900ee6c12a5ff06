"""Settings: arguments, then the environment, then defaults; nonsense never stops a training."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell import ExperimentTracker, StepwellError, WrongUse
from stepwell.config import SETTINGS, Config, default_spool_dir, load
from stepwell.folders import folders
from stepwell.sync import main as sync
from tests.sdk.fault_server import FaultServer

DOCS = Path(__file__).parents[2] / "docs" / "sdk.md"


def test_arguments_come_before_the_environment_and_that_before_defaults():
    config, wrong = load({"url": "http://a:1"}, {"STEPWELL_URL": "http://b:2"})
    assert (config.url, wrong) == ("http://a:1", [])
    config, _ = load({"url": None}, {"STEPWELL_URL": "http://b:2"})
    assert config.url == "http://b:2"
    config, _ = load({}, {})
    assert config.url == "http://127.0.0.1:7837"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h:1/", "http://h:1"),
        ("h:1", "http://h:1"),
        ("localhost", "http://localhost"),
        ("https://h/prefix/", "https://h/prefix"),
        ("HTTPS://H:1/Prefix//", "https://h:1/Prefix"),
        ("[::1]:7837", "http://[::1]:7837"),
    ],
)
def test_addresses_are_taken_as_people_write_them(text: str, url: str):
    assert load({"url": text}, {})[0].url == url


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mode", "onlin"),
        ("rank", "-1"),
        ("rank", "first"),
        ("exit_timeout_s", "soon"),
        ("exit_timeout_s", "nan"),
        ("exit_timeout_s", "-1"),
        ("strict", "perhaps"),
        ("buffer_points", "1.5"),
        # More than the wire, a socket, a lock or time.sleep takes: each of them broke a thread.
        ("rank", "99999999999999999999"),
        ("connect_timeout_s", "0"),
        ("read_timeout_s", "0"),
        ("read_timeout_s", "1e20"),
        ("heartbeat_s", "1e20"),
        ("buffer_age_ms", "99999999999999999999"),
        ("buffer_age_ms", "9999999999999999"),
    ],
)
def test_nonsense_is_told_and_the_default_stands(
    name: str, text: str, settings: Callable[..., None], warned: Callable[[], list[str]]
):
    settings(**{name: text})
    tracker = ExperimentTracker()
    assert getattr(tracker.config, name) == getattr(Config(), name)
    assert len(warned()) == 1
    assert text in warned()[0]
    settings(strict=1)
    if name != "strict":
        with pytest.raises(WrongUse):
            ExperimentTracker()


def test_a_token_is_never_shown(settings: Callable[..., None]):
    settings(token="s3cret")
    tracker = ExperimentTracker()
    assert tracker.config.token == "s3cret"
    assert "s3cret" not in repr(tracker.config) + repr(tracker.start_run)


@pytest.mark.parametrize("token", ["s3cret\n", " s3cret\r\n"])
def test_a_token_may_come_with_the_end_of_its_line(token: str):
    assert load({}, {"STEPWELL_TOKEN": token})[0].token == "s3cret"


@pytest.mark.parametrize("token", ["s3\ncret", "s3cr\u00e9t"])
def test_what_cannot_be_a_token_is_refused_and_never_shown(
    token: str, settings: Callable[..., None], warned: Callable[[], list[str]]
):
    settings(token=token)
    assert ExperimentTracker().config.token is None
    assert len(warned()) == 1
    assert "s3" not in warned()[0]


NO_ADDRESSES = [
    "ftp://h", "http://", "http://h:99999", "h:port", "http://[::1", "http://h?x=1", "http://a b",
    "http://h/#x", "ftp://alice:s3cret@h",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_without_an_address_nothing_is_sent_to_a_server_that_nobody_named(
    text: str,
    spool_dir: Path,
    settings: Callable[..., None],
    warned: Callable[[], list[str]],
    capsys: pytest.CaptureFixture[str],
):
    settings(url=text)
    tracker = ExperimentTracker()
    with tracker.start_run("exp") as run:
        run.log_metric("loss", 1.0)
    assert (tracker.config.url, tracker.config.mode, run.url) == ("", "offline", "")
    assert len(folders(spool_dir)) == 1
    assert "STEPWELL_URL" in warned()[0]
    assert "s3cret" not in "".join(warned())
    with pytest.raises(StepwellError, match="without an address"):
        tracker.get_run(run.run_id)
    settings(url="")
    assert sync([]) == 1
    assert "--url" in capsys.readouterr().err
    settings(url=text, strict=1)
    with pytest.raises(WrongUse):
        ExperimentTracker()


def test_what_was_logged_without_an_address_goes_to_the_one_that_is_named_later(
    server: FaultServer, settings: Callable[..., None]
):
    settings(url="htp://typo")
    with ExperimentTracker().start_run("exp") as run:
        run.log_metric("loss", 1.0)
    settings(url="")
    assert sync(["--url", server.url]) == 0
    assert server.only_run().values("loss") == [(0, 1.0)]
    assert run.run_id in server.runs


def test_a_password_in_an_address_is_left_out_of_it_and_never_shown(
    server: FaultServer,
    spool_dir: Path,
    settings: Callable[..., None],
    warned: Callable[[], list[str]],
):
    settings(url=server.url.replace("//", "//alice:s3:cr@t@"))
    with ExperimentTracker().start_run("exp") as run:
        run.log_metric("loss", 1.0)
    assert run.url.startswith(f"{server.url}/")
    assert server.only_run().values("loss") == [(0, 1.0)]
    assert "STEPWELL_TOKEN" in warned()[0]
    assert "s3" not in "".join(warned())
    assert all("Authorization" not in seen.headers for seen in server.seen)
    settings(strict=1)
    with pytest.raises(WrongUse):
        ExperimentTracker()


def test_the_rank_is_found_where_launchers_put_it():
    assert load({}, {"SLURM_PROCID": "3"})[0].rank == 3
    assert load({}, {"RANK": "2", "SLURM_PROCID": "3"})[0].rank == 2
    assert load({}, {"STEPWELL_RANK": "1", "RANK": "2"})[0].rank == 1
    assert load({}, {})[0].rank is None


def test_the_spool_lies_in_the_users_state_and_never_in_tmp(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/alice")
    assert default_spool_dir({}) == Path("/home/alice/.local/state/stepwell/spool")
    assert default_spool_dir({"XDG_STATE_HOME": "/state"}) == Path("/state/stepwell/spool")


def test_a_folder_that_cannot_be_named_is_told_and_the_default_stands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Callable[..., None],
    warned: Callable[[], list[str]],
):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for text in ("~no-such-user/spool", "relative"):
        settings(spool_dir=text)
        tracker = ExperimentTracker()
        assert tracker.config.spool_dir == default_spool_dir(os.environ)
        assert text in warned()[-1]
    monkeypatch.chdir(tmp_path)


def test_every_setting_has_a_field_and_every_field_a_setting():
    assert {setting.name for setting in SETTINGS} == set(Config.__struct_fields__)


def test_the_table_in_the_documentation_is_the_table_in_the_code():
    rows = re.findall(r"^\| `(STEPWELL_\w+)` \| (.*?) \| (.*?) \|$", DOCS.read_text(), re.MULTILINE)
    defaults = Config()
    expected = []
    for setting in SETTINGS:
        default = getattr(defaults, setting.name)
        if setting.name == "spool_dir":
            shown = "`~/.local/state/stepwell/spool`"
        else:
            shown = "" if default is None else f"`{int(default) if default is False else default}`"
        expected.append((setting.variable, shown, setting.meaning))
    assert rows == expected
