"""Bodies and queries: what does not fit names its field."""

import contextlib
from typing import Annotated

import msgspec
import pytest
from hypothesis import given, strategies as st

from stepwell import wire
from stepwell_storage.errors import Invalid
from stepwell_tracker import schema
from stepwell_tracker.decoding import Decoder, Query, column_path
from stepwell_tracker.errors import BadRequest

log_batch = Decoder(wire.JSON, schema.LogBatch)
log_params = Decoder(wire.JSON, schema.LogParams)
columnar = Decoder(wire.COLUMNS, wire.ColumnarBatch)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"[]", ""),
        (b'{"metrics":{}}', "metrics"),
        (b'{"metrics":[{"value":1}]}', "metrics[0].key"),
        (b'{"metrics":[{"key":"a"}]}', "metrics[0].value"),
        (b'{"metrics":[{"key":"a","value":true}]}', "metrics[0].value"),
        (b'{"metrics":[{"key":"a","value":null}]}', "metrics[0].value"),
        (b'{"metrics":[{"key":"a","value":1e999}]}', "metrics[0].value"),
        (b'{"metrics":[{"key":"a","value":1},{"key":1,"value":1}]}', "metrics[1].key"),
        (b'{"metrics":[{"key":"a","value":1,"step":3.0}]}', "metrics[0].step"),
        (b'{"metrics":[{"key":"a","value":1,"step":"3"}]}', "metrics[0].step"),
        (b'{"metrics":[{"key":"a","value":1,"step":null}]}', "metrics[0].step"),
        (b'{"metrics":[{"key":"a","value":1,"step":1' + b"0" * 5000 + b"}]}", "metrics[0].step"),
        (b'{"metrics":[{"key":"a","value":1,"timestamp":1.5}]}', "metrics[0].timestamp"),
        (b'{"params":[{"key":"a","value":[1]}]}', "params[0].value"),
    ],
)
def test_a_wrong_field_is_named(body, path):
    with pytest.raises(Invalid) as refusal:
        log_batch(body)
    assert refusal.value.path == path


@pytest.mark.parametrize("value", [b"null", b"[]", b"{}", b"1e999"])
def test_the_entry_of_a_mapping_is_named_by_its_key(value):
    with pytest.raises(Invalid) as refusal:
        log_params(b'{"params":{"fine":1,"lr":' + value + b"}}")
    assert refusal.value.path == "params.lr"


@pytest.mark.parametrize("tail", [b"", b"]", b',"x":' + b"[" * 100_000, b',"\xff":1}'])
def test_a_wrong_field_in_front_of_a_malformed_rest_is_still_named(tail):
    with pytest.raises((Invalid, BadRequest)):
        log_params(b'{"params":{"lr":null}' + tail)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"metrics":[{"key":"a","value":NaN}]}',
        b'{"metrics":[{"key":"a","value":Infinity}]}',
        b'{"x":1} trailing',
        b'{"metrics":[{"key":"\xff","value":1}]}',
        b'{"metrics":[{"key":"\\ud800","value":NaN}]}',
        b'{"metrics":[{"key":"\\ud800","value":1}]',
        b'{"x":' + b"[" * 100_000,
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_malformed_body_is_a_bad_request(body):
    with pytest.raises(BadRequest):
        log_batch(body)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"params":{"fine":"\\ud83d\\ude00","lr":"\\ud800"}}', "params.lr"),
        (b'{"params":{"lr":"a\\udc00bcdefghijk"}}', "params.lr"),
        (b'{"params":{"lr":"\\uDBFF\\u0041"}}', "params.lr"),
        (b'{"params":{"\\ud800":"1"}}', "params"),
    ],
)
def test_half_a_surrogate_pair_is_a_wrong_field(body, path):
    with pytest.raises(Invalid, match="no lone surrogates") as refusal:
        log_params(body)
    assert refusal.value.path == path
    with pytest.raises(BadRequest):  # where it would take long to tell which
        log_params(body[:-1] + b"," + b'"x":"' + b"x" * 1024 * 1024 + b'"}')


def test_unknown_fields_are_ignored():
    assert log_batch(b'{"later":{"deep":[1]},"metrics":[]}') == schema.LogBatch()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"format": 1}, ""),
        (["1"], "format"),
        ([1, {}], "series"),
        ([1, [["k", b"", b""]]], "series[0]"),
        ([1, [["k", b"", b"", b""], [1, b"", b"", b""]]], "series[1].key"),
        ([1, [["k", b"", b"", "text"]]], "series[0].values"),
        ([1, [["k", b"", 7, b""]]], "series[0].timestamps"),
        ([1, [], {"a": 1}], "params...."),
        ([1, [], {}, {}, "first"], "rank"),
        ([2, {"new": "layout"}], "format"),
    ],
)
def test_a_wrong_position_of_a_columnar_body_is_named(value, path):
    with pytest.raises(Invalid) as refusal:
        columnar(msgspec.msgpack.encode(value))
    assert refusal.value.path == path


def test_paths_of_columns():
    assert column_path("[1][12][3]") == "series[12].values"
    assert column_path("") == ""


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body):
    for decoder in (log_batch, log_params, columnar):
        with contextlib.suppress(Invalid, BadRequest):
            decoder(body)


class Parameters(msgspec.Struct):
    word: str = ""
    number: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    flag: bool = True
    maybe: int | None = None
    words: list[str] = []


parse = Query(Parameters)


def test_a_query_is_read_by_its_declaration():
    found = parse(b"word=a%20b+c&number=7&flag=false&maybe=3&words=x&words=%C3%A4&unknown=1")
    assert found == Parameters("a b c", 7, False, 3, ["x", "ä"])
    assert parse(b"") == Parameters()


@pytest.mark.parametrize(
    ("query", "path"),
    [
        (b"number=0", "number"),
        (b"number=11", "number"),
        (b"number=x", "number"),
        (b"number=1.5", "number"),
        (b"number=3.0", "number"),
        (b"number=1e0", "number"),
        (b"number=%D9%A3", "number"),
        (b"number=%2B3", "number"),
        (b"maybe=null", "maybe"),
        (b"maybe=9007199254740993.0", "maybe"),
        (b"number=", "number"),
        (b"number=99999999999999999999999", "number"),
        (b"flag=maybe", "flag"),
        (b"word=a&word=b", "word"),
        (b"number=1&number=1", "number"),
    ],
)
def test_a_wrong_parameter_is_named(query, path):
    with pytest.raises(Invalid) as refusal:
        parse(query)
    assert refusal.value.path == path


def test_a_query_of_a_million_parameters_is_refused():
    with pytest.raises(BadRequest):
        parse(b"words=x&" * 1_000_000)


@given(st.binary(max_size=100))
def test_any_query_is_read_or_refused(query):
    with contextlib.suppress(Invalid, BadRequest):
        parse(query)
