"""Cursors travel through browsers and chats: damage must be seen, and never pass for a place."""

import re
import zlib
from base64 import urlsafe_b64encode

import msgspec
import pytest
from hypothesis import example, given, strategies as st

from stepwell_storage import cursors
from stepwell_storage.errors import BadCursor, Invalid

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def forged(kind: str, payload: bytes) -> str:
    """A cursor with a right checksum around any payload."""
    checksum = zlib.crc32(payload, zlib.crc32(kind.encode())).to_bytes(4)
    return urlsafe_b64encode(checksum + payload).rstrip(b"=").decode()


@given(st.lists(INT64 | TEXT | st.binary()))
def test_comes_back_as_it_was_and_fits_a_url(values: list[int | str | bytes]) -> None:
    text = cursors.encode("anything", *values)
    assert re.fullmatch("[A-Za-z0-9_-]+", text)
    assert cursors.decode("anything", text) == tuple(values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [("history", (1, 2, -3)), ("series", ("loss",)), ("console", (0,)), ("experiments", (7,))],
)
def test_every_kind_has_a_shape_that_fits_its_listing(
    kind: str, values: tuple[int | str, ...]
) -> None:
    assert cursors.decode(kind, cursors.encode(kind, *values)) == values


def test_another_listings_cursor_is_refused() -> None:
    text = cursors.encode("console", 5)
    with pytest.raises(BadCursor):
        cursors.decode("experiments", text)


def test_every_cut_and_every_changed_character_is_seen() -> None:
    text = cursors.encode("history", 12_345, 1_707_723_600_000, -1)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    damaged = [text[:cut] for cut in range(len(text))]
    damaged += [text[:i] + text[i + 1 :] for i in range(len(text))]
    damaged += [
        text[:i] + other + text[i + 1 :]
        for i in range(len(text))
        for other in alphabet + "=+/ \n%é"
        if other != text[i]
    ]
    damaged += [text + extra for extra in ("A", "=", " ", "\n", ".")]
    for bad in damaged:
        with pytest.raises(BadCursor):
            cursors.decode("history", bad)


@given(st.text())
def test_any_other_text_is_refused_and_the_error_names_the_field(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        cursors.decode("series", text)
    assert caught.value.path == "cursor"


@pytest.mark.parametrize(
    "values",
    [[], [1], [1, 2], [1, 2, 3, 4], [1, 2, "3"], [1, 2, 3.0], [1, 2, None], [1, 2, True],
     [1, 2, [3]], [1, 2, 2**63], 5, None, {"a": 1}],
)  # fmt: skip
def test_forged_values_of_other_types_or_counts_are_refused(values: object) -> None:
    with pytest.raises(BadCursor):
        cursors.decode("history", forged("history", msgspec.msgpack.encode(values)))


@given(st.binary())
@example(b"\xa4\x00\x00\x00\x80")
def test_forged_bytes_are_refused_or_are_values(payload: bytes) -> None:
    try:
        values = cursors.decode("anything", forged("anything", payload))
    except BadCursor:
        return
    assert all(isinstance(value, int | str | bytes) for value in values)


def test_deep_nesting_and_endless_texts_are_refused() -> None:
    with pytest.raises(BadCursor):
        cursors.decode("anything", forged("anything", b"\x91" * 20_000))
    with pytest.raises(BadCursor):
        cursors.decode("anything", "A" * 10_000_000)
