"""Records -> requests: merged as far as it is safe, split as far as it is needed."""

import struct
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from stepwell import wire
from stepwell.ids import new_run_id
from stepwell.records import (
    AnyRecord,
    Create,
    End,
    File,
    FileLink,
    Head,
    Params,
    Points,
    Resume,
    Tags,
)
from stepwell.requests import Part, Series, Texts, columns, pieces, plan, request, split
from stepwell.wire import ColumnarBatch, ColumnarSeries, CreateRun

ROWS = st.tuples(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
)


def row(keys: list[str], step: int, stamp: int, value: float) -> Points:
    return Points(tuple(keys), struct.pack(f"<qq{len(keys)}d", step, stamp, *[value] * len(keys)))


def flat(series: list[ColumnarSeries]) -> list[tuple[str, int, int, bytes]]:
    return [
        (one.key, step, stamp, one.values[at * 8 : at * 8 + 8])
        for one in series
        for at, (step, stamp) in enumerate(
            zip(memoryview(one.steps).cast("q"), memoryview(one.timestamps).cast("q"), strict=True)
        )
    ]


@given(st.lists(ROWS, max_size=30))
def test_columns_are_the_rows_turned(rows: list[Any]):
    found = columns([row(*one) for one in rows])
    assert len({series.key for series in found}) == len(found)
    expected = [
        (key, step, stamp, struct.pack("<d", value))
        for keys, step, stamp, value in rows
        for key in keys
    ]
    assert sorted(flat(found)) == sorted(expected)


@given(st.lists(ROWS, min_size=1, max_size=30))
def test_halves_are_the_whole_and_end_at_single_points(rows: list[Any]):
    whole = Series(columns([row(*one) for one in rows]))
    waiting, single = [whole], []
    while waiting:
        part = waiting.pop()
        halves = split(part)
        if halves:
            assert all(isinstance(half, Series) for half in halves)
            waiting += halves  # type: ignore[arg-type]
        else:
            single += flat(part.series)
            assert len(flat(part.series)) == 1
    assert sorted(single) == sorted(flat(whole.series))


def test_the_order_is_one_that_a_server_can_take():
    records: list[AnyRecord] = [
        End("finished", 1),
        row(["a"], 1, 1, 1.0),
        File("f", b""),
        Tags({"t": "1"}),
        Create(CreateRun()),
        Resume(),
        FileLink("g", "/g", 1, 1),
        row(["a"], 2, 2, 2.0),
    ]
    kinds = [type(part) for part in plan(records)]
    assert kinds.index(Create) == 0
    assert kinds[-1] is End
    assert kinds.count(Series) == 1
    assert all(kinds.index(Texts) > kinds.index(kind) for kind in (Create, Resume))


def test_the_last_value_of_a_tag_stands():
    [part] = plan([Tags({"a": "1", "b": "1"}), Tags({"a": "2"}), Params({"p": "1"})])
    assert isinstance(part, Texts)
    assert set(part.items) == {(True, "a", "2"), (True, "b", "1"), (False, "p", "1")}


def test_a_parameters_second_value_goes_alone():
    parts = plan([Params({"lr": "1", "x": "1"}), Params({"lr": "2"}), Params({"lr": "1"})])
    assert parts == [Texts([(False, "lr", "1"), (False, "x", "1")]), Texts([(False, "lr", "2")])]


def test_a_refused_creation_is_tried_without_its_trimmings():
    full = CreateRun(
        experiment_name="exp", name="n", description="d", user_id="u", run_id="0" * 32,
        start_time=5, parent_run_id="1" * 32,
    )  # fmt: skip
    [bare] = split(Create(full))
    assert isinstance(bare, Create)
    assert bare.body == CreateRun(experiment_name="exp", run_id="0" * 32, start_time=5)
    assert split(bare) == []


HEAD = Head("http://h", "acme-corp", new_run_id("acme-corp"), 2)


def test_a_batch_is_what_the_contract_says():
    sent = request(Series(columns([row(["loss"], 3, 4, 0.5)])), HEAD)
    assert sent.headers == {"Content-Type": wire.COLUMNS}
    assert isinstance(sent.body, bytes)
    batch = msgspec.msgpack.decode(sent.body, type=ColumnarBatch)
    packed = (struct.pack("<q", 3), struct.pack("<q", 4), struct.pack("<d", 0.5))
    assert batch == ColumnarBatch(wire.COLUMNS_FORMAT, [ColumnarSeries("loss", *packed)], rank=2)


@pytest.mark.parametrize(
    ("path", "sent"),
    [("a b/ü.txt", "a%20b/%C3%BC.txt"), ("100%.txt", "100%25.txt"), ("a?b#c", "a%3Fb%23c")],
)
def test_paths_are_encoded_once(path: str, sent: str):
    target = request(File(path, b""), HEAD).path
    assert target.endswith(f"/{HEAD.run_id}/artifacts/{sent}")


def test_requests_of_one_run_differ_in_nothing_but_what_they_say():
    parts: list[Part] = [Resume(), End("killed", 7), File("a", b""), Texts([])]
    paths = [request(part, HEAD).path for part in parts]
    assert all(HEAD.run_id in path for path in paths)
    assert all(first != second for first, second in pairwise(paths))
    assert paths[1].endswith("/end?status=killed&end_time=7")


@given(st.lists(ROWS, max_size=30), st.integers(0, 200))
def test_pieces_are_the_whole_and_none_is_larger_than_it_must_be(rows: list[Any], most: int):
    whole = columns([row(*one) for one in rows])
    found = pieces(Series(whole), most) if whole else []
    series = [one for piece in found if isinstance(piece, Series) for one in piece.series]
    assert flat(series) == flat(whole)
    for piece in found:
        assert isinstance(piece, Series)
        size = sum(len(one.key) + 3 * len(one.steps) for one in piece.series)
        assert size <= most or split(piece) == []


def test_large_texts_go_in_pieces_and_what_cannot_be_repeated_in_halves_does_not():
    texts = Texts([(number % 2 == 0, f"k{number}", "x" * 100) for number in range(50)])
    found = pieces(texts, 1_000)
    assert [item for piece in found if isinstance(piece, Texts) for item in piece.items] == (
        texts.items
    )
    assert 5 <= len(found) <= 16
    assert pieces(End("finished", 1), 0) == [End("finished", 1)]
