"""What a caller may pass."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from stepwell import checks
from stepwell.errors import WrongUse


@pytest.mark.parametrize("key", ["a", "train/loss", "k" * 250, "ü λ 😀", "a b", "\u00a0"])
def test_keys_that_are_good(key: str):
    assert checks.key(key) == key


@pytest.mark.parametrize(
    "key", ["", "k" * 251, "a\nb", "a\0", "\x7f", "\x85", "\ud800", 5, None, b"a", ("a",)]
)
def test_keys_that_are_not(key: object):
    with pytest.raises(WrongUse):
        checks.key(key)


@pytest.mark.parametrize("step", [0, -(2**63), 2**63 - 1, np.int64(5), np.uint8(5), True])
def test_steps_that_are_integers(step: Any):
    assert checks.step(step) == int(step)


@pytest.mark.parametrize("step", [1.0, "1", None, 2**63, -(2**63) - 1, np.float64(1), []])
def test_steps_that_are_not(step: Any):
    with pytest.raises(WrongUse):
        checks.step(step)


def test_a_datetime_needs_its_zone():
    moment = datetime(2024, 2, 12, 8, 40, tzinfo=timezone(timedelta(hours=1)))
    assert checks.millis(moment) == 1_707_723_600_000
    assert checks.millis(datetime(2024, 2, 12, 7, 40, 0, 5_600, tzinfo=UTC)) % 1000 == 6
    with pytest.raises(WrongUse, match="zone"):
        checks.millis(datetime(2024, 2, 12, 8, 40))  # noqa: DTZ001 - the mistake itself


@pytest.mark.parametrize("stamp", [1.5, "now", None, 2**63])
def test_times_that_are_none(stamp: Any):
    with pytest.raises(WrongUse):
        checks.millis(stamp)


def test_texts_are_what_str_says():
    assert checks.text("x", 0.1) == "0.1"
    assert checks.text("x", None) == "None"
    assert checks.text("x", "x" * 8_000) == "x" * 8_000


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", ["x" * 8_001, "a\0b", "\udcff", Hostile()])
def test_texts_that_no_server_takes(value: object):
    with pytest.raises(WrongUse):
        checks.text("x", value)
