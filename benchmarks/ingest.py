"""Logging: batches of every size by both formats, single steps, and new runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import bodies
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.load import Source
from benchmarks.plan import Plan
from benchmarks.report import Goal, Result, at_least, at_most
from benchmarks.rounds import Pair, pair, summary

_FORMATS: dict[str, Callable[[str, Shape, int], Source]] = {
    "json": bodies.json_batches,
    "columnar": bodies.columnar_batches,
}
_JSON_GOALS = (at_least("ratio", 0.35),)
_STEP_GOALS = (at_least("ratio", 0.25), at_most("p99_ms", 10.0))


def thousand(plan: Plan) -> Iterator[Result]:
    """1,000 points a request by 16 clients: of ten keys, step by step, and of one key."""
    with pair(plan) as both:
        for form in _FORMATS:
            for name, shape in (
                ("1000x16", bodies.shape_of(1_000)),
                ("one_series", Shape(1, 1_000)),
            ):
                clients = sources(both, form, shape, 16)
                goals = _JSON_GOALS if form == "json" else ()
                yield compare(both, f"log_batch_{form}_{name}", clients, shape, goals=goals)


def batches(plan: Plan) -> Iterator[Result]:
    """Each size and number of clients."""
    with pair(plan) as both:
        for form in _FORMATS:
            for points in plan.sizes:
                for clients in plan.clients:
                    yield compare(
                        both,
                        f"log_batch_{form}_{points}x{clients}",
                        sources(both, form, bodies.shape_of(points), clients),
                        bodies.shape_of(points),
                        goals=_JSON_GOALS if (form, points, clients) == ("json", 1_000, 16) else (),
                    )


def one_step(plan: Plan) -> Iterator[Result]:
    """A training step's three metrics in a request of their own."""
    shape = Shape(3, 1)
    with pair(plan) as both:
        clients = sources(both, "json", shape, 16)
        yield compare(both, "one_step", clients, shape, goals=_STEP_GOALS, seconds=2 * plan.seconds)


def creation(plan: Plan) -> Iterator[Result]:
    """Runs created, each with a name, a user, a tag and five parameters."""
    with pair(plan) as both:
        clients = [bodies.creations(seed) for seed in range(8)]
        yield compare(
            both, "create_run", clients, Shape(1, 1), goals=(at_least("requests_per_s", 4_000),)
        )


def sources(both: Pair, form: str, shape: Shape, clients: int) -> list[Source]:
    """A run of its own for each client."""
    make = _FORMATS[form]
    with Caller(both.ours.port) as caller:
        runs = [caller.create_run(name=f"{form}-{seed}") for seed in range(clients)]
    return [make(bodies.log_path(run), shape, seed) for seed, run in enumerate(runs)]


def compare(
    both: Pair,
    name: str,
    clients: list[Source],
    shape: Shape,
    *,
    goals: tuple[Goal, ...] = (),
    seconds: float | None = None,
) -> Result:
    ours, base = both.alternate(clients, seconds=seconds)
    figures, baseline = summary(ours, shape.points), summary(base, shape.points)
    figures["cpu_ratio"] = round(baseline["server_cpu_us"] / max(figures["server_cpu_us"], 1), 3)
    return Result(
        name,
        figures,
        settings(both, len(clients), shape, seconds or both.plan.seconds),
        baseline=baseline,
        ratio=figures["requests_per_s"] / baseline["requests_per_s"],
        goals=goals,
    )


def settings(both: Pair, clients: int, shape: Shape, seconds: float) -> dict[str, float | str]:
    return {
        "clients": clients,
        "points": shape.points,
        "keys": shape.keys,
        "seconds": seconds,
        "rounds": both.plan.rounds,
        "baseline": "decode and discard",
    }
