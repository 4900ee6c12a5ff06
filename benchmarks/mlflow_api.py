"""MLflow's protocol beside ours, on one server: what its clients pay for speaking theirs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.plan import Plan
from benchmarks.protocols import Mlflow, Native, Talk
from benchmarks.report import Result, at_least
from benchmarks.rounds import Round, alone, measure, summary

_SHAPE = Shape(10, 100)
_CLIENTS = 16


def log_batch(plan: Plan) -> Iterator[Result]:
    """1,000 points a request by MLflow's API, against the same points by the native JSON form.

    Rounds of both alternate, so that the machine's drift cancels in the ratio.
    """
    talks: tuple[Talk, ...] = (Native(), Mlflow())
    with alone() as (server, _):
        sources = []
        for talk in talks:
            with Caller(server.port) as caller:
                runs = [talk.create(caller) for _ in range(_CLIENTS)]
            sources.append([talk.batches(run, _SHAPE, seed) for seed, run in enumerate(runs)])
        found: tuple[list[Round], list[Round]] = ([], [])
        for number in range(1 + plan.rounds):
            for clients, rounds in zip(sources, found, strict=True):
                done = measure(server, clients, plan.seconds if number else plan.warm_seconds)
                if number:
                    rounds.append(done)
    native, theirs = (summary(rounds, _SHAPE.points) for rounds in found)
    theirs["cpu_ratio"] = round(native["server_cpu_us"] / max(theirs["server_cpu_us"], 1), 3)
    yield Result(
        "mlflow_log_batch",
        theirs,
        {
            "clients": _CLIENTS,
            "points": _SHAPE.points,
            "keys": _SHAPE.keys,
            "seconds": plan.seconds,
            "rounds": plan.rounds,
            "baseline": "the native JSON form",
        },
        baseline=native,
        ratio=theirs["points_per_s"] / native["points_per_s"],
        goals=(at_least("ratio", 0.70),),
    )
