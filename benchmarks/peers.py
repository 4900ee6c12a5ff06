"""MLflow, FastTrackML and Stepwell on the same work in the same run: ``make bench-peers``.

Prints a table in Markdown on stdout; what goes on is said on stderr.  The others are installed into
environments of their own, in BENCH_CACHE or ``~/.cache/stepwell-bench``.  All servers run at once
and are measured in turn, the others stopped by SIGSTOP meanwhile, so that drift hits all alike.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import bodies
from benchmarks.api import Caller
from benchmarks.bodies import Shape
from benchmarks.load import Broken, Source, Tally, drive
from benchmarks.meters import compacted
from benchmarks.processes import Server, end_cleanly, free_port, running, scratch, stepwell
from benchmarks.protocols import Mlflow, Native, Talk
from benchmarks.table import Table
from benchmarks.timing import expect


@dataclass(frozen=True)
class Sizes:
    seconds: float = 6.0
    rounds: int = 3
    history: int = 100_000
    runs: int = 5_000
    disk: int = 100_000
    reads: int = 5


LOADS: dict[str, tuple[str, Shape | None, int]] = {
    "batch_1": ("log-batch of 1,000, 1 client: points/s", Shape(10, 100), 1),
    "batch_8": ("log-batch of 1,000, 8 clients: points/s", Shape(10, 100), 8),
    "step_1": ("one step (3 metrics), 1 client: requests/s", Shape(3, 1), 1),
    "step_16": ("one step (3 metrics), 16 clients: requests/s", Shape(3, 1), 16),
    "create": ("runs created, 8 clients: runs/s", None, 8),
}
GROUPS = ("reads", *LOADS)
QUICK = Sizes(seconds=1.0, rounds=1, history=10_000, runs=200, disk=10_000, reads=2)


@dataclass
class Peer:
    """A server and how it is spoken to.  ``stall`` leaves TCP's delayed acknowledgement on, as a
    plain client does; the others acknowledge at once."""

    title: str
    talk: Talk
    server: Server
    folder: Path
    stall: bool = False
    searched: bool = True
    """Filling MLflow with 5,000 runs takes minutes: once is enough."""


def install(name: str, package: str, *, again: bool = False) -> tuple[Path, str]:
    """The folder of commands of an environment with the newest release, and its version; ``again``
    makes it anew."""
    cache = Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache" / "stepwell-bench")
    folder = cache / name
    if again or not (folder / "ready").exists():
        print(f"installing {package} into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet"]
        subprocess.run([*pip, package], check=True, stdout=sys.stderr)
        (folder / "ready").touch()
    show = subprocess.run(
        [str(folder / "bin" / "pip"), "show", name], check=True, capture_output=True, text=True
    )
    return folder / "bin", show.stdout.partition("Version: ")[2].split("\n")[0]


@contextmanager
def mlflow(folder: Path, workers: int | None) -> Iterator[Server]:
    """MLflow on SQLite, with its default number of workers or this one."""
    binaries, _ = install("mlflow", "mlflow")
    port = free_port()
    folder.mkdir()
    command = [
        *(str(binaries / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
        *(() if workers is None else ("--workers", str(workers))),
    ]
    with running("mlflow", command, port, folder.with_suffix(".log")) as server:
        yield server


@contextmanager
def fasttrackml(folder: Path) -> Iterator[Server]:
    binaries, _ = install("fasttrackml", "fasttrackml==0.6.*")
    port = free_port()
    folder.mkdir()
    command = [
        *(str(binaries / "fml"), "server", "--listen-address", f"127.0.0.1:{port}"),
        *("--database-uri", f"sqlite://{folder / 'fasttrackml.db'}", "--log-level", "warning"),
        *("--default-artifact-root", str(folder / "artifacts")),
    ]
    with running("fasttrackml", command, port, folder.with_suffix(".log")) as server:
        yield server


@contextmanager
def servers() -> Iterator[list[Peer]]:
    """Each started alone and then left idle, so that ``ready_s`` and idle memory are its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        started: list[Server] = []
        starts: list[tuple[str, Callable[[Path], AbstractContextManager[Server]]]] = [
            ("one", partial(mlflow, workers=1)),
            ("many", partial(mlflow, workers=None)),
            ("fasttrackml", fasttrackml),
            ("stepwell", stepwell),
        ]
        for name, start in starts:
            server = stack.enter_context(start(folder / name))
            server.settle(30)
            server.pause()
            started.append(server)
        for server in started:
            server.go_on()
        one, many, fast, ours = started
        yield [
            Peer("MLflow, 1 worker", Mlflow(), one, folder / "one"),
            Peer("MLflow, 1 worker, stalled client", Mlflow(), one, folder / "one", stall=True),
            Peer("MLflow, default workers", Mlflow(), many, folder / "many", searched=False),
            Peer("FastTrackML", Mlflow(), fast, folder / "fasttrackml"),
            Peer("Stepwell, JSON", Native(), ours, folder / "stepwell"),
            Peer("Stepwell, columnar", Native(columnar=True), ours, folder / "stepwell"),
        ]


@contextmanager
def only(peer: Peer, peers: list[Peer]) -> Iterator[None]:
    others = {id(other.server): other.server for other in peers if other.server is not peer.server}
    for server in others.values():
        server.pause()
    try:
        yield
    finally:
        for server in others.values():
            server.go_on()


def load(name: str, peers: list[Peer], sizes: Sizes, table: Table) -> None:
    """Batches, single steps or new runs, in rounds that take turns."""
    title, shape, clients = LOADS[name]
    print(title, file=sys.stderr)
    sources = {peer.title: _sources(peer, shape, clients) for peer in peers}
    tallies: dict[str, list[Tally]] = {peer.title: [] for peer in peers}
    for number in range(1 + sizes.rounds):
        for peer in peers:
            with only(peer, peers):
                seconds = sizes.seconds if number else min(1.0, sizes.seconds)
                tally = _drive(peer, sources[peer.title], seconds)
            if number:
                tallies[peer.title].append(tally)
    points = shape.points if shape and shape.points > 3 else 1
    for peer in peers:
        _enter(table, title, peer, tallies[peer.title], points)


def _sources(peer: Peer, shape: Shape | None, clients: int) -> list[Source]:
    """Batches of ``shape`` into a new run for each client, or new runs where it is None."""
    if shape is None:
        return [peer.talk.creations(seed) for seed in range(clients)]
    with Caller(peer.server.port) as caller:
        runs = [peer.talk.create(caller) for _ in range(clients)]
    return [peer.talk.batches(run, shape, seed) for seed, run in enumerate(runs)]


def _drive(peer: Peer, sources: list[Source], seconds: float) -> Tally:
    try:
        return drive(peer.server.port, sources, seconds, quick_ack=not peer.stall, to_the_end=True)
    except Broken as error:
        print(f"{peer.title}: {error}", file=sys.stderr)
        return Tally(wall_s=seconds)


def _enter(table: Table, title: str, peer: Peer, tallies: list[Tally], points: int) -> None:
    rates = [tally.per_second * points for tally in tallies]
    slow = median(tally.latency_ms()["p99_ms"] for tally in tallies)
    errors = sum(sum(tally.errors.values()) for tally in tallies)
    table.add(title, peer.title, median(rates), more=True)
    name, _, _ = title.partition(":")
    table.add(f"{name}: p99, ms", peer.title, slow)
    table.add(f"{name}: errors", peer.title, errors)


def reads(peers: list[Peer], sizes: Sizes, table: Table) -> None:
    """A long series back, whole; its size on disk; a search with a sort.  These come first, while
    the files hold nothing else.  The stalled client is left out."""
    for peer in [peer for peer in peers if not peer.stall]:
        print(f"filling {peer.title}", file=sys.stderr)
        with only(peer, peers), Caller(peer.server.port) as caller:
            run = peer.talk.create(caller)
            batch = peer.talk.batches(run, Shape(1, 1_000), 7)
            _settle(peer)
            before = _bytes(peer.folder)
            for _ in range(sizes.history // 1_000):
                caller.send(batch())
            _settle(peer)
            key = bodies.key_name(0)
            costs = [_timed(partial(_whole, peer, caller, run, key, sizes)) for _ in range(3)]
            table.add(f"history of {sizes.history:,} points: ms", peer.title, median(costs))
            if peer.talk != Native(columnar=True):  # else the server was measured by JSON
                grown = (_bytes(peer.folder) - before) / sizes.history
                table.add("disk a point, as it stands: bytes", peer.title, grown)
                if peer.searched:
                    _searches(peer, caller, sizes, table)


def _whole(peer: Peer, caller: Caller, run: str, key: str, sizes: Sizes) -> None:
    expect(peer.talk.history(caller, run, key) == sizes.history, f"{peer.title}: not every point")


def _searches(peer: Peer, caller: Caller, sizes: Sizes, table: Table) -> None:
    for index in range(sizes.runs):
        caller.send(peer.talk.labels(peer.talk.create(caller), index))
    _settle(peer)
    losses = np.linspace(0.3, 0.5, 4 * sizes.reads)
    found = [peer.talk.search(caller, round(float(loss), 4)) for loss in losses[:1]]
    expect(found[0] > 0, f"{peer.title}: the search found nothing")
    costs = [_timed(partial(peer.talk.search, caller, round(float(x), 4))) for x in losses[1:]]
    table.add(f"search over {sizes.runs:,} runs: ms", peer.title, median(costs))


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def _settle(peer: Peer) -> None:
    if isinstance(peer.talk, Native):
        compacted(peer.server, 120)
    else:
        peer.server.settle(5)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="small sizes, one short round")
    parser.add_argument("--runs", type=int, help="how many runs to search in")
    parser.add_argument(
        "--into", type=Path, help="a file that collects figures: one table in several parts"
    )
    options = parser.parse_args(arguments)
    groups = options.groups or GROUPS
    if unknown := [name for name in groups if name not in GROUPS]:
        parser.error(f"unknown: {', '.join(unknown)} (known: {', '.join(GROUPS)})")
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, runs=options.runs or sizes.runs)
    end_cleanly()
    table = Table("MLflow, 1 worker", options.into)
    table.note(f"MLflow {install('mlflow', 'mlflow')[1]}")
    table.note(f"FastTrackML {install('fasttrackml', 'fasttrackml==0.6.*')[1]}")
    with servers() as peers:
        for peer in peers:
            if not peer.stall:
                table.add("start to ready: s", peer.title, peer.server.ready_s)
                table.add("memory, idle (Pss): MB", peer.title, peer.server.memory_mb("Pss"))
        for name in [name for name in GROUPS if name in groups]:
            if name == "reads":
                reads(peers, sizes, table)
            else:
                load(name, peers, sizes, table)
        for peer in peers:
            memory = peer.server.memory_mb("Pss")
            table.add_most("memory after the work (Pss): MB", peer.title, memory)
    table.save()
    print(table.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
