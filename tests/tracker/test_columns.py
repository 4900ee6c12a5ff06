"""A request's points as columns: nothing lost, nothing reordered within a series, no silent fix."""

import math
import struct

import msgspec
import pytest
from hypothesis import given, strategies as st

from stepwell import wire
from stepwell_storage.errors import Invalid, LimitExceeded
from stepwell_storage.records import Batch
from stepwell_tracker import columns, schema

NOW = 1_707_723_600_000
decode = msgspec.json.Decoder(schema.LogBatch).decode


def rows(batch: Batch) -> list[tuple[str, int, int, float]]:
    """(key, step, timestamp, value) in the order of the columns."""
    n = sum(batch.counts)
    assert len(batch.steps) == len(batch.timestamps) == len(batch.values) == 8 * n
    keys = [key for key, count in zip(batch.keys, batch.counts, strict=True) for _ in range(count)]
    return list(
        zip(
            keys,
            struct.unpack(f"<{n}q", batch.steps),
            struct.unpack(f"<{n}q", batch.timestamps),
            struct.unpack(f"<{n}d", batch.values),
            strict=True,
        )
    )


def batch_of(metrics: list[dict[str, object]]) -> Batch:
    return columns.from_json(decode(msgspec.json.encode({"metrics": metrics})), NOW)


keys = st.sampled_from(["loss", "acc", "lr", "a/b", "ключ"])
int64 = st.integers(-(2**63), 2**63 - 1)
points = st.fixed_dictionaries(
    {"key": keys, "value": st.floats(allow_nan=False, allow_infinity=False), "step": int64},
    optional={"timestamp": int64},
)


@given(st.lists(points, max_size=40))
def test_every_point_arrives_in_the_order_of_its_series(metrics):
    batch = batch_of(metrics)
    assert len(set(batch.keys)) == len(batch.keys)
    expected = [(m["key"], m["step"], m.get("timestamp", NOW), m["value"]) for m in metrics]
    for key in dict.fromkeys(m["key"] for m in metrics):
        assert [r for r in rows(batch) if r[0] == key] == [r for r in expected if r[0] == key]
    assert len(rows(batch)) == len(expected)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4))
def test_keys_that_repeat_step_after_step_are_series(width, steps, extra):
    """With ``extra`` the last step is incomplete, and the pattern breaks."""
    names = [f"k{i % width}" for i in range(width * steps + extra % width)]
    batch = batch_of([{"key": key, "value": i, "step": i} for i, key in enumerate(names)])
    assert batch.keys == list(dict.fromkeys(names))
    expected = sorted(enumerate(names), key=lambda one: (int(one[1][1:]), one[0]))
    assert [(row[1], row[0]) for row in rows(batch)] == expected


def test_one_series_is_one_entry():
    batch = batch_of([{"key": "loss", "value": i, "step": i} for i in range(1_000)])
    assert (batch.keys, batch.counts) == (["loss"], [1_000])


def test_a_thousand_keys_are_a_thousand_entries():
    batch = batch_of([{"key": f"k{i}", "value": i} for i in range(1_000)])
    assert batch.counts == [1] * 1_000
    assert rows(batch)[7] == ("k7", 0, NOW, 7.0)


def test_first_and_last_key_equal_does_not_make_one_series():
    batch = batch_of([{"key": k, "value": i} for i, k in enumerate(["a", "b", "a"])])
    assert dict(zip(batch.keys, batch.counts, strict=True)) == {"a": 2, "b": 1}
    assert rows(batch) == [("a", 0, NOW, 0.0), ("a", 0, NOW, 2.0), ("b", 0, NOW, 1.0)]


@pytest.mark.parametrize(
    ("spelling", "value"), [("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf)]
)
def test_non_finite_values_travel_as_texts(spelling, value):
    batch = batch_of([{"key": "a", "value": 1.0}, {"key": "a", "value": spelling}])
    found = rows(batch)[1][3]
    assert struct.pack("<d", found) == struct.pack("<d", value)


@pytest.mark.parametrize("spelling", ["nan", "inf", "+Infinity", "1.0", "", " NaN"])
def test_any_other_text_is_refused_by_its_place(spelling):
    with pytest.raises(Invalid) as refusal:
        batch_of([{"key": "a", "value": 1.0}, {"key": "a", "value": spelling}])
    assert refusal.value.path == "metrics[1].value"


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**40])
@pytest.mark.parametrize("name", ["step", "timestamp"])
def test_integers_beyond_64_bits_are_refused_by_their_place(name, number):
    with pytest.raises(Invalid) as refusal:
        batch_of([{"key": "a", "value": 1}, {"key": "b", "value": 1, name: number}])
    assert refusal.value.path == f"metrics[1].{name}"


def test_the_ends_of_int64_are_steps_like_others():
    batch = batch_of([{"key": "a", "value": 1, "step": s} for s in (2**63 - 1, -(2**63))])
    assert [row[1] for row in rows(batch)] == [2**63 - 1, -(2**63)]


def test_a_missing_timestamp_beside_given_ones_is_the_receive_time():
    batch = batch_of([{"key": "a", "value": 1, "timestamp": 5}, {"key": "a", "value": 2}])
    assert [row[2] for row in rows(batch)] == [5, NOW]


def test_parameters_and_tags_become_texts():
    body = schema.LogBatch(
        params=[schema.KeyValue("flag", True), schema.KeyValue("lr", 0.1), schema.KeyValue("n", 3)],
        tags=[schema.KeyValue("t", "first"), schema.KeyValue("t", "second")],
    )
    batch = columns.from_json(body, NOW)
    assert batch.params == {"flag": "true", "lr": "0.1", "n": "3"}
    assert batch.tags == {"t": "second"}, "of a tag given twice the last one stands"


def test_a_parameter_given_twice_differently_is_refused():
    body = schema.LogBatch(params=[schema.KeyValue("lr", 1), schema.KeyValue("lr", 2)])
    with pytest.raises(Invalid) as refusal:
        columns.from_json(body, NOW)
    assert refusal.value.path == "params[1].key"


def test_a_parameter_given_twice_alike_is_one():
    body = schema.LogBatch(params=[schema.KeyValue("lr", "1"), schema.KeyValue("lr", 1)])
    assert columns.from_json(body, NOW).params == {"lr": "1"}


@pytest.mark.parametrize("rank", [-1, 2**63])
def test_a_rank_that_no_process_has_is_refused(rank):
    with pytest.raises(Invalid) as refusal:
        columns.from_json(schema.LogBatch(rank=rank), NOW)
    assert refusal.value.path == "rank"


def test_an_empty_batch_is_a_heartbeat():
    assert columns.from_json(schema.LogBatch(), NOW) == Batch()


def test_log_metrics_is_one_point_of_each_key():
    body = schema.LogMetrics({"a": 1.0, "b": "NaN"}, step=3, timestamp=7)
    found = rows(columns.from_mapping(body, NOW))
    assert found[0] == ("a", 3, 7, 1.0)
    assert found[1][:3] == ("b", 3, 7)
    assert math.isnan(found[1][3])


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (schema.LogMetrics({"a": "x"}), "metrics.a"),
        (schema.LogMetrics({"a": 1.0}, step=2**63), "step"),
        (schema.LogMetrics({"a": 1.0}, timestamp=-(2**64)), "timestamp"),
        (schema.LogMetrics({"": 1.0}), "metrics."),
    ],
    ids=["text", "step", "timestamp", "key"],
)
def test_log_metrics_names_the_field_that_is_wrong(body, path):
    with pytest.raises(Invalid) as refusal:
        columns.from_mapping(body, NOW)
    assert refusal.value.path == path


def column(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def one(key: str, n: int) -> wire.ColumnarSeries:
    return wire.ColumnarSeries(key, column(*range(n)), column(*range(n)), b"\0" * 8 * n)


def test_columns_are_joined_series_by_series():
    body = wire.ColumnarBatch(1, [one("a", 2), one("b", 0), one("c", 1)], {"p": "1"}, {"t": "2"}, 4)
    batch = columns.from_columns(body)
    assert (batch.keys, batch.counts) == (["a", "c"], [2, 1])
    assert batch.steps == column(0, 1, 0)
    assert (batch.params, batch.tags, batch.rank) == ({"p": "1"}, {"t": "2"}, 4)


def test_columns_may_be_empty():
    assert columns.from_columns(wire.ColumnarBatch(1)) == Batch()
    assert columns.from_columns(wire.ColumnarBatch(1, [one("a", 0)])) == Batch()


@pytest.mark.parametrize("number", [0, 2, -1])
def test_an_unknown_format_is_named(number):
    with pytest.raises(Invalid, match=f"not {number}") as refusal:
        columns.from_columns(wire.ColumnarBatch(number))
    assert refusal.value.path == "format"


@pytest.mark.parametrize(
    ("series", "path"),
    [
        (wire.ColumnarSeries("a", b"1234567", b"", b""), "series[1].steps"),
        (wire.ColumnarSeries("a", b"", b"x", b""), "series[1].timestamps"),
        (wire.ColumnarSeries("a", b"", b"", b"123456789"), "series[1].values"),
        (wire.ColumnarSeries("a", b"12345678", b"", b""), "series[1]"),
        (wire.ColumnarSeries("a", b"", b"12345678", b""), "series[1]"),
        (wire.ColumnarSeries("a\n", b"", b"", b""), "series[1].key"),
        (wire.ColumnarSeries("", b"", b"", b""), "series[1].key"),
    ],
)
def test_a_crooked_column_is_refused_by_its_place(series, path):
    with pytest.raises(Invalid) as refusal:
        columns.from_columns(wire.ColumnarBatch(1, [one("good", 1), series]))
    assert refusal.value.path == path


@given(
    st.lists(
        st.tuples(keys, st.binary(max_size=24), st.binary(max_size=24), st.binary(max_size=24))
    )
)
def test_any_bytes_are_taken_whole_or_refused(series):
    body = wire.ColumnarBatch(1, [wire.ColumnarSeries(*one) for one in series])
    try:
        batch = columns.from_columns(body)
    except Invalid:
        assert any(len({len(s), len(t), len(v)}) > 1 or len(s) % 8 for _, s, t, v in series)
    else:
        assert len(rows(batch)) == sum(len(s) // 8 for _, s, _, _ in series)


def test_a_key_that_is_too_long_says_the_limit():
    with pytest.raises(LimitExceeded, match="250") as refusal:
        batch_of([{"key": "a", "value": 1}, {"key": "x" * 251, "value": 1}])
    assert refusal.value.path == "metrics[1].key"
