from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from stepwell_storage.errors import Invalid
from stepwell_storage.paths import check_model_id, check_run_id, split
from tests.hostile_paths import ABSOLUTE, MISFORMED

HARMLESS = [
    "model.pkl",
    "checkpoints/step 100/weights+biases.pt",
    "images/dog+step+20+timestamp+100+0a1b.png",
    "100%.png",
    "100%25.png",
    "50% off/%/%%",
    "a%20b",
    "..hidden/...three",
    "a..b",
    "~home",
    "semi;colon",
    "hash#tag?query",
    "Über/模型/🎉.bin",
    "incoming/mine",
    "a" * 255,
    "1:2",
    "ratio 3:4",
    "-rf",
    "%uff0e",
]


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_name_is_turned_away(name):
    assert "/".join(split(name)) == name


@pytest.mark.parametrize("name", MISFORMED, ids=ascii)
def test_a_name_that_is_no_file_name_gets_in(name):
    with pytest.raises(Invalid) as caught:
        split(name)
    assert caught.value.path == "path"


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in ABSOLUTE if name.lower().startswith(("/", "\\", "c:", "c%", "%2"))),
        "../x", "x/../y", "x/..", "%2e%2e/x", "x/%2e%2e/y", "x%2f..%2fy", "%252e%252e%252fx",
        "%25252e%25252e/x", ".%2e/x", "..%5cx", "..%2fx", "%2fetc", "%255cx", "a%0ab", "C%3a/x",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_name_climbs_out_at_some_level_of_decoding(name):
    with pytest.raises(Invalid):
        split(name)


@given(st.text(max_size=60) | st.lists(st.sampled_from(
    [".", "..", "/", "%2e", "%2f", "%25", "25", "2e", "\\", "a", "\x00", "é", "%"]
)).map("".join))  # fmt: skip
def test_an_accepted_name_is_anything_but_plain_parts(name):
    try:
        parts = split(name)
    except Invalid:
        return
    assert "/".join(parts) == name
    for part in parts:
        assert part not in ("", ".", "..")
        assert not set(part) & {"/", "\\", "\x00"}
        assert 0 < len(part.encode()) <= 255


def test_an_id_leads_elsewhere():
    assert check_run_id("0123456789abcdef" * 2)
    assert check_model_id("m-" + "0123456789abcdef" * 2)
    for wrong in [
        "",
        "..",
        "0" * 31,
        "0" * 33,
        "A" * 32,
        "0" * 32 + "\n",
        "../" + "0" * 29,
        "٠" * 32,
    ]:
        with pytest.raises(Invalid):
            check_run_id(wrong)
        with pytest.raises(Invalid):
            check_model_id("m-" + wrong)
    with pytest.raises(Invalid):
        check_model_id("0" * 32)
