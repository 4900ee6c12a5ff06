"""The groups `stepwell export` and `stepwell import`."""

from __future__ import annotations

import sys

import pytest

from stepwell.__main__ import resolve
from stepwell_tracker.cli import commands
from stepwell_tracker.cli_kinds import EXPORTS, IMPORTS, Kinds, dispatch

KINDS: Kinds = {"echo": ("say it again", "tests.tracker.test_cli_kinds:echo")}


def echo(arguments: list[str]) -> int:
    sys.stdout.write(" ".join(arguments) + "\n")
    return len(arguments)


def run(*arguments: str) -> int:
    return dispatch("export", KINDS, "Write it out.", list(arguments))


def test_a_kind_gets_what_stands_after_it_and_gives_the_exit_code(
    capsys: pytest.CaptureFixture[str],
):
    assert run("echo", "a", "--b") == 2
    assert capsys.readouterr().out == "a --b\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_help_of_a_group_lists_its_kinds(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    assert run(*arguments) == 0
    assert "  echo  say it again\n" in capsys.readouterr().out


def test_an_unknown_kind_is_wrong_use_and_says_which_there_are(
    capsys: pytest.CaptureFixture[str],
):
    assert run("carrier-pigeon") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "unknown kind 'carrier-pigeon'" in err
    assert "say it again" in err


def test_every_kind_resolves_to_a_function_and_its_group_is_a_command():
    for group, kinds in (("export", EXPORTS), ("import", IMPORTS)):
        assert (group in commands()) == bool(kinds)
        for _, target in kinds.values():
            assert callable(resolve(target))
