"""Many runs as columns say what the same runs say one by one."""

import math

import numpy as np
import pytest

from stepwell_storage import sweeps
from stepwell_storage.errors import LimitExceeded
from stepwell_storage.records import RunQuery
from tests.storage.run_sets import METRICS, PARAMS, RunSet, finished, random_runs

KEYS = (*METRICS, *PARAMS, "unknown")
SEARCHES = {
    "all": RunQuery(lifecycle="all"),
    "ordered": RunQuery(order_by=('min(metrics."loss") DESC',)),
    "a few": RunQuery(filter="params.model = 'ab' or attributes.name = '日本語'", lifecycle="all"),
    "none": RunQuery(filter="params.model = 'there is none'"),
}


@pytest.fixture(scope="module")
def run_set(tmp_path_factory: pytest.TempPathFactory) -> RunSet:
    return RunSet(tmp_path_factory.mktemp("runs"), random_runs(11, 120))


@pytest.mark.parametrize("sparse", [0, 4], ids=["row by row", "in one stretch"])
@pytest.mark.parametrize("name", SEARCHES)
def test_columns_say_what_the_runs_say(
    run_set: RunSet, monkeypatch: pytest.MonkeyPatch, name: str, sparse: int
) -> None:
    _, reader = run_set
    monkeypatch.setattr(sweeps, "_SPARSE", sparse)
    query = SEARCHES[name]
    page = reader.find(
        filter=query.filter, order_by=query.order_by, lifecycle=query.lifecycle,
        keys=KEYS, limit=1_000,
    )  # fmt: skip
    limited = RunQuery(
        filter=query.filter, order_by=query.order_by, lifecycle=query.lifecycle,
        keys=(*KEYS, *KEYS), limit=1_000,
    )  # fmt: skip
    sweep = finished(sweeps.find(reader, limited))
    assert sweep.total == page.total == len(page.runs)
    assert (name == "none") == (page.total == 0)
    assert sweep.run_ids == [run.run_id for run in page.runs]
    assert sweep.names == [run.name for run in page.runs]
    assert set(sweep.params) == {key for run in page.runs for key in run.params}
    assert set(sweep.metrics) == {key for run in page.runs for key in run.metrics}
    for key, texts in sweep.params.items():
        assert len(set(texts.words)) == len(texts.words)
        assert [texts.words[at] if at >= 0 else None for at in texts.places.tolist()] == [
            run.params.get(key) for run in page.runs
        ]
    for key, numbers in sweep.metrics.items():
        assert numbers.present.tolist() == [key in run.metrics for run in page.runs]
        told = [run.metrics.get(key, math.nan) for run in page.runs]
        assert np.array_equal(numbers.values.view(np.int64), np.array(told).view(np.int64))


def test_only_as_many_as_asked_for_come_and_all_are_counted(run_set: RunSet) -> None:
    _, reader = run_set
    sweep = finished(sweeps.find(reader, RunQuery(lifecycle="all", limit=7, keys=("lr",))))
    assert (len(sweep.run_ids), sweep.total) == (7, 120)
    assert len(sweep.params["lr"].places) == 7
    assert sweep.metrics == {}


def test_long_texts_are_cut_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path):
    runs = random_runs(5, 3)
    for number, run in enumerate(runs):
        run.params = {"prompt": f"{number}{'é' * 300}"}
    _, reader = RunSet(tmp_path, runs)
    query = RunQuery(lifecycle="all", keys=("prompt",))
    words = finished(sweeps.find(reader, query)).params["prompt"].words
    assert sorted(words) == [f"{number}{'é' * 249}" for number in range(3)]
    monkeypatch.setattr(sweeps, "MAX_TEXT_CHARS", 700)
    with pytest.raises(LimitExceeded):
        finished(sweeps.find(reader, query))
