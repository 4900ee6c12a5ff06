"""Settings: arguments, then the environment, then defaults; nonsense never stops a training."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwell import ExperimentTracker, WrongUse
from stepwell.config import SETTINGS, Config, default_spool_dir, load

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
        ("HTTPS://h", "HTTPS://h"),
        ("[::1]:7837", "http://[::1]:7837"),
    ],
)
def test_addresses_are_taken_as_people_write_them(text: str, url: str):
    assert load({"url": text}, {})[0].url == url


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("url", "ftp://h"),
        ("url", "http://"),
        ("url", "http://h:99999"),
        ("url", "h:port"),
        ("url", "http://[::1"),
        ("mode", "onlin"),
        ("rank", "-1"),
        ("rank", "first"),
        ("exit_timeout_s", "soon"),
        ("exit_timeout_s", "nan"),
        ("exit_timeout_s", "-1"),
        ("strict", "perhaps"),
        ("buffer_points", "1.5"),
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


def test_a_password_in_an_address_is_refused_and_never_shown(
    settings: Callable[..., None], warned: Callable[[], list[str]]
):
    settings(url="http://alice:s3cret@h:1")
    assert ExperimentTracker().config.url == "http://127.0.0.1:7837"
    assert "s3cret" not in warned()[0]


def test_the_rank_is_found_where_launchers_put_it():
    assert load({}, {"SLURM_PROCID": "3"})[0].rank == 3
    assert load({}, {"RANK": "2", "SLURM_PROCID": "3"})[0].rank == 2
    assert load({}, {"STEPWELL_RANK": "1", "RANK": "2"})[0].rank == 1
    assert load({}, {})[0].rank is None


def test_the_spool_lies_in_the_users_state_and_never_in_tmp(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/alice")
    assert default_spool_dir({}) == Path("/home/alice/.local/state/stepwell/spool")
    assert default_spool_dir({"XDG_STATE_HOME": "/state"}) == Path("/state/stepwell/spool")


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
