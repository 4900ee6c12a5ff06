"""What the dictionary of test_model.py knows of runs, and what is drawn for them."""

import math
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from stepwell_storage.points import ordered
from stepwell_storage.records import Batch

RUNS = [f"{n:032x}" for n in range(1, 5)]
KEYS = ["loss", "val/acc", "ünï code"]
steps = st.one_of(st.integers(0, 12), st.sampled_from([-(2**63), 2**63 - 1, -1]))
times = st.one_of(st.integers(0, 3), st.just(1_707_723_600_000))
values = st.one_of(
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1.5, -2.5, 5e-324]),
    st.floats(),
)
points = st.lists(st.tuples(st.sampled_from(KEYS), steps, times, values), max_size=25)


EXPERIMENTS = ["Default", "vision", "nlp"]
PARAMS = st.dictionaries(st.sampled_from("ab"), st.sampled_from(["1", "x", "1.0"]))
TAGS = st.dictionaries(st.sampled_from("st"), st.sampled_from(["1", "", "\n☃"]))
lifecycles = st.sampled_from(["active", "deleted"])


def batch_of(
    logged: list[tuple[str, int, int, float]], params: dict[str, str], tags: dict[str, str]
) -> Batch:
    batch = Batch(params=params, tags=tags)
    for key in KEYS:
        mine = [point for point in logged if point[0] == key]
        if mine:
            batch.keys.append(key)
            batch.counts.append(len(mine))
            batch.steps += array("q", [p[1] for p in mine]).tobytes()
            batch.timestamps += array("q", [p[2] for p in mine]).tobytes()
            batch.values += struct.pack(f"<{len(mine)}d", *[p[3] for p in mine])
    return batch


@dataclass
class ModelRun:
    """What the engine must say of a run."""

    experiment: str
    series: dict[str, set[tuple[int, int, int]]] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    status: str = "running"
    end_time: int | None = None
    deleted: bool = False

    def refuses(self, params: dict[str, str]) -> bool:
        """Whether one of them has another value already."""
        return any(self.params.get(key, value) != value for key, value in params.items())

    def add(
        self,
        logged: list[tuple[str, int, int, float]],
        params: dict[str, str],
        tags: dict[str, str],
    ) -> None:
        self.params.update(params)
        self.tags.update(tags)
        for key, step, timestamp, value in logged:
            self.series.setdefault(key, set()).add((step, timestamp, ordered(value)))

    def last(self, key: str) -> int | None:
        """The last value, ordered; None without one."""
        return max(self.series[key])[2] if key in self.series else None

    def numbers(self, key: str) -> list[int]:
        nan = ordered(math.nan)
        return [value for _, _, value in self.series.get(key, ()) if value != nan]


def _greatest_is_at_least(run: ModelRun, bound: float) -> bool:
    numbers = run.numbers("loss")
    return bool(numbers) and max(numbers) >= ordered(bound)


def _last_is_below(run: ModelRun, bound: float) -> bool:
    last = run.last("loss")
    return last is not None and last < ordered(bound)


SEARCHES: dict[str, Callable[[ModelRun], bool]] = {
    "params.a = 'x'": lambda run: run.params.get("a") == "x",
    "params.a = 1": lambda run: run.params.get("a") in ("1", "1.0"),
    "not params.b = 'x'": lambda run: run.params.get("b") != "x",
    "params.a != 'x'": lambda run: run.params.get("a", "x") != "x",
    "tags.t IS NOT NULL and tags.t != ''": lambda run: run.tags.get("t", "") != "",
    "metrics.loss < 1.5": lambda run: _last_is_below(run, 1.5),
    "max(metrics.loss) >= 0.5": lambda run: _greatest_is_at_least(run, 0.5),
    "metrics.\"val/acc\" IS NULL or attributes.status = 'failed'": (
        lambda run: "val/acc" not in run.series or run.status == "failed"
    ),
}
