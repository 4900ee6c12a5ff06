"""What may be a key, a parameter's value, a tag, a name."""

import pytest
from hypothesis import given, strategies as st

from stepwell import wire
from stepwell_storage.errors import Invalid, LimitExceeded
from stepwell_tracker import labels


def check(key: str) -> None:
    labels.check_keys([key], lambda key: "here")


@pytest.mark.parametrize(
    "key", ["a", "a/b", "äöü", "train loss", "x" * 250, "🙂" * 250, "'\"`%_\\"]
)
def test_any_printable_text_of_250_characters_is_a_key(key):
    check(key)
    check(key)  # a known one


@pytest.mark.parametrize(
    "key",
    ["", "\0", "a\nb", "tab\t", "\x7f", "\x80", "\x9f", "\x1b[2J", "\ud800", "a\udfffb"],
    ids=ascii,
)
def test_control_characters_and_half_characters_are_no_keys(key):
    with pytest.raises(Invalid) as refusal:
        check(key)
    assert refusal.value.path == "here"


def test_the_known_keys_stay_bounded():
    for i in range(labels.MAX_KNOWN_KEYS + 10):
        check(f"bounded-{i}")
    assert len(labels._known) <= labels.MAX_KNOWN_KEYS


def test_a_bad_key_beside_known_ones_is_found():
    check("known")
    with pytest.raises(Invalid):
        labels.check_keys(["known", "bad\0"], lambda key: "here")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (0.1, "0.1"),
        (1e22, "1e+22"),
        (-0.0, "-0.0"),
        ("True", "True"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_scalars_are_stored_in_one_spelling(value, text):
    assert labels.texts("params", {"k": value}) == {"k": text}


def test_a_value_over_the_limit_names_the_field_and_the_limit():
    with pytest.raises(LimitExceeded, match="8000") as refusal:
        labels.texts("params", {"k": "x" * (wire.MAX_VALUE_CHARS + 1)})
    assert refusal.value.path == "params.k"
    assert labels.texts("params", {"k": "x" * wire.MAX_VALUE_CHARS})


@pytest.mark.parametrize("value", ["\0", "a\0b", "\ud800"], ids=ascii)
def test_what_no_database_can_hold_is_refused(value):
    with pytest.raises(Invalid) as refusal:
        labels.texts("tags", {"k": value})
    assert refusal.value.path == "tags.k"
    with pytest.raises(Invalid):
        labels.storable("name", value)


def test_null_removes_a_tag():
    assert labels.changes({"a": None, "b": "1"}) == {"a": None, "b": "1"}


@given(st.text())
def test_every_text_is_taken_or_refused_by_name(text):
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        with pytest.raises(Invalid):
            labels.texts("tags", {"k": text})
    else:
        assert labels.texts("tags", {"k": text}) == {"k": text}
