"""2,000 tenants on disk, 200 of them at work at once: start, acknowledgements, files, memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks import bodies
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.plan import Plan
from benchmarks.processes import Server, scratch, stepwell
from benchmarks.report import Result, at_most
from benchmarks.rounds import measure, summary
from benchmarks.timing import repeat
from stepwell import wire

_SHAPE = Shape(3, 1)
_CLIENTS = 16
_MOST_FILES = 4_096
"""What a bare shell often allows a process at most."""


def tenants(plan: Plan) -> Iterator[Result]:
    """A step's three metrics a request, sixteen clients, each from tenant to tenant."""
    names = [f"tenant-{number:04d}" for number in range(plan.tenants)]
    active = names[: plan.active_tenants]
    with scratch() as folder:
        data = folder / "data"
        _make(data, names)
        with stepwell(data) as server:
            idle_mb, sources = server.memory_mb(), []
            with Caller(server.port) as caller:
                for seed, name in enumerate(active):
                    run = caller.create_run(headers=f"{wire.TENANT_HEADER}: {name}\r\n")
                    sources.append(bodies.json_batches(bodies.log_path(run), _SHAPE, seed))
            clients = [bodies.in_turn(sources[at::_CLIENTS]) for at in range(_CLIENTS)]
            measure(server, clients, plan.warm_seconds)
            figures = summary(
                [measure(server, clients, plan.seconds) for _ in range(plan.rounds)], 3
            )
            figures["files_active"], figures["rss_active_mb"] = _files(server), server.memory_mb()
            cold = iter(names[plan.active_tenants :] * 2)
            with Caller(server.port) as caller:
                count = len(names) - len(active) - 1
                walked = repeat(lambda: _search(caller, next(cold)), count, server)
            figures |= {f"cold_read_{name}": value for name, value in walked.items()}
            figures["files_after_all"], figures["rss_after_all_mb"] = (
                _files(server),
                server.memory_mb(),
            )
            figures |= {"ready_s": server.ready_s, "rss_idle_mb": idle_mb}
            yield Result(
                "tenants",
                figures,
                {"tenants": len(names), "active": len(active), "clients": _CLIENTS, "metrics": 3},
                goals=(
                    at_most("ready_s", 1.5),
                    at_most("rss_idle_mb", 120.0),
                    at_most("files_active", _MOST_FILES),
                    at_most("files_after_all", _MOST_FILES),
                ),
            )


def _make(data: Path, names: list[str]) -> None:
    """One tenant with a run, made by a server, and its copies under the other names."""
    with stepwell(data) as server, Caller(server.port) as caller:
        caller.create_run(headers=f"{wire.TENANT_HEADER}: {names[0]}\r\n", name="first")
    for name in names[1:]:
        shutil.copytree(data / "tenants" / names[0], data / "tenants" / name)


def _search(caller: Caller, name: str) -> None:
    caller.get("/api/v1/experiments/runs", headers=f"{wire.TENANT_HEADER}: {name}\r\n")


def _files(server: Server) -> float:
    return sum(1 for _ in Path(f"/proc/{server.process.pid}/fd").iterdir())
