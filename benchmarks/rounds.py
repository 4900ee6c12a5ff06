"""Ours and the baseline in alternating rounds, so that the machine's drift cancels in the ratio."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load import Source, Tally, drive
from benchmarks.plan import Plan
from benchmarks.processes import Server, discard, scratch, stepwell
from benchmarks.report import Figures


@dataclass
class Round:
    tally: Tally
    server_cpu_s: float


@dataclass(frozen=True)
class Pair:
    """Both servers; whichever is not under load is stopped, children included, so that what it
    still has to do (compaction, say) is charged to its own rounds."""

    ours: Server
    base: Server
    plan: Plan

    def alternate(
        self, sources: Sequence[Source], *, seconds: float | None = None, rounds: int | None = None
    ) -> tuple[list[Round], list[Round]]:
        """The same requests, one client per source, to each in turn; a first round each is for
        warming up and counts for nothing."""
        found: dict[str, list[Round]] = {self.ours.name: [], self.base.name: []}
        for number in range(1 + (rounds or self.plan.rounds)):
            length = (seconds or self.plan.seconds) if number else self.plan.warm_seconds
            for server in (self.ours, self.base):
                other = self.base if server is self.ours else self.ours
                other.pause()
                done = measure(server, sources, length)
                other.go_on()
                if number:
                    found[server.name].append(done)
        return found[self.ours.name], found[self.base.name]


@contextmanager
def pair(plan: Plan) -> Iterator[Pair]:
    """A new Stepwell on an empty data directory, and the baseline."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        ours = stack.enter_context(stepwell(folder / "data"))
        base = stack.enter_context(discard(folder))
        yield Pair(ours, base, plan)


@contextmanager
def alone() -> Iterator[tuple[Server, Path]]:
    """A new Stepwell and its data directory."""
    with scratch() as folder, stepwell(folder / "data") as server:
        yield server, folder / "data"


def measure(
    server: Server, sources: Sequence[Source], seconds: float, every_s: float = 0.0
) -> Round:
    """``every_s``: how often each client has a request due; 0: as soon as it has its reply."""
    before = server.cpu_seconds()
    tally = drive(server.port, sources, seconds, every_s=every_s)
    return Round(tally, server.cpu_seconds() - before)


def summary(rounds: Sequence[Round], points: int) -> Figures:
    """Medians over the rounds; ``errors`` and ``max_ms`` over all of them."""
    latencies = [done.tally.latency_ms() for done in rounds]
    rates = [done.tally.per_second for done in rounds]

    def middle(figure: Callable[[Round], float]) -> float:
        return median(figure(done) for done in rounds)

    return {
        "requests_per_s": round(median(rates), 1),
        "points_per_s": round(median(rates) * points),
        "p50_ms": round(median(each["p50_ms"] for each in latencies), 3),
        "p99_ms": round(median(each["p99_ms"] for each in latencies), 3),
        "max_ms": max(each["max_ms"] for each in latencies),
        "errors": sum(sum(done.tally.errors.values()) for done in rounds),
        "slowest_round_per_s": round(min(rates), 1),
        "fastest_round_per_s": round(max(rates), 1),
        "server_cpu_us": round(middle(_server_us), 1),
        "server_cores": round(middle(lambda done: done.server_cpu_s / done.tally.wall_s), 2),
        "generator_cores": round(middle(lambda done: done.tally.cpu_s / done.tally.wall_s), 2),
    }


def _server_us(done: Round) -> float:
    """CPU of the server's processes for one request, those that failed included."""
    count = len(done.tally.latencies) + sum(done.tally.errors.values())
    return done.server_cpu_s / max(count, 1) * 1e6
