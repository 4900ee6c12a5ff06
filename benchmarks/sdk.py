"""Our client beside the others', each in an environment of its own: ``make bench-sdk``.

    python -m benchmarks.sdk [--install | --quick] [--results FOLDER] [NAME ...]

A tight loop logs three metrics a step, every call timed.  MLflow and Stepwell log to a server of
their own; the others write to a folder, as they do by default.  Whatever does not install or run is
left out, with the reason.  Prints Markdown on stdout; what goes on is said on stderr.
``--install`` only makes the environments.  With ``--results`` it may be done in parts, each named
(``loop`` is the last one), and what is there already is not measured again: without names it then
prints the whole.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import sdk_loop
from benchmarks.peers import install, mlflow
from benchmarks.processes import Server, scratch, stepwell
from benchmarks.table import Table

ROOT = Path(__file__).resolve().parents[1]
Serve = Callable[[Path], AbstractContextManager[Server | None]]


@dataclass(frozen=True)
class Peer:
    """A tracker: how it is installed, imported and served, and how many calls are enough."""

    title: str
    script: str
    package: str
    imports: str
    steps: int
    serve: Serve = lambda _: nullcontext(None)


LOOP = "loop"
MLFLOW = partial(mlflow, workers=None)
TENSORBOARD = "from tensorboard.summary import Writer"
TENSORBOARD_X = "from tensorboardX import SummaryWriter"
PEERS = (
    Peer("Stepwell", "stepwell", "stepwell", "from stepwell import ExperimentTracker", 100_000,
         stepwell),
    Peer("MLflow", "mlflow", "mlflow", "import mlflow", 300, MLFLOW),
    Peer("MLflow, asynchronous", "mlflow-async", "mlflow", "import mlflow", 2_000, MLFLOW),
    Peer("trackio", "trackio", "trackio", "import trackio", 20_000),
    Peer("wandb, offline", "wandb", "wandb", "import wandb", 20_000),
    Peer("TensorBoard's writer", "tensorboard", "tensorboard", TENSORBOARD, 20_000),
    Peer("tensorboardX", "tensorboardx", "tensorboardX", TENSORBOARD_X, 50_000),
    Peer("aim", "aim", "aim", "import aim", 10_000),
    Peer("a JSON line", "json-lines", "", "import json", 100_000),
    Peer("control: nothing", "nothing", "", "", 100_000),
)  # fmt: skip


def environment(peer: Peer, *, fresh: bool = False) -> tuple[Path, str]:
    """The Python of an environment that holds nothing but this tracker, and its version.

    ``fresh`` installs our own client again, as it is now.
    """
    if not peer.package:
        return Path(sys.executable), ""
    ours = peer.package == "stepwell"
    source = str(ROOT) if ours else peer.package
    binaries, version = install(peer.package, source, again=ours and fresh)
    return binaries / "python", version


def installed(python: Path) -> tuple[float, int, float]:
    """Megabytes and packages beyond an empty environment's own; megabytes without our server."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True
    )
    names = {entry["name"].lower() for entry in json.loads(listed.stdout)} - {"pip", "setuptools"}
    [packages] = (python.parents[1] / "lib").glob("python*/site-packages")
    skipped = {"pip", "setuptools", "pkg_resources", "_distutils_hack", "__pycache__"}
    sizes = {
        folder.name: sum(
            path.stat().st_size
            for path in ([folder] if folder.is_file() else folder.rglob("*"))
            if path.is_file()
        )
        for folder in packages.iterdir()
        if folder.name.split("-")[0] not in skipped
    }
    server = sum(sizes.get(name, 0) for name in ("stepwell_storage", "stepwell_tracker"))
    whole = sum(sizes.values())
    return whole / 1e6, len(names), (whole - server) / 1e6


def import_ms(python: Path, statement: str) -> float:
    """The quickest of ten, or of ten seconds, after one that writes the byte code."""
    code = f"import time; t = time.perf_counter()\n{statement}\n"
    code += "print((time.perf_counter() - t) * 1e3)"
    found: list[float] = []
    while len(found) < 11 and (len(found) < 3 or sum(found[1:]) < 10_000):
        done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
        found.append(float(done.stdout.split()[-1]))
    return min(found[1:])


def calls(peer: Peer, python: Path, seconds: float, rounds: int) -> dict[str, float]:
    """Medians over rounds of the figures of sdk_peer.py; the longest call is the longest of all.

    One more round looks whose the long calls are.
    """
    found: list[dict[str, Any]] = []
    with scratch() as folder, peer.serve(folder / "server") as server:
        url = f"http://127.0.0.1:{server.port}" if server else ""
        for number, mode in enumerate([*[[]] * rounds, ["watch"]]):
            place = folder / f"client-{number}"
            place.mkdir()
            arguments = [peer.script, peer.steps, seconds, place, url, *mode]
            done = subprocess.run(
                [python, ROOT / "benchmarks" / "sdk_peer.py", *map(str, arguments)],
                cwd=place, check=True, capture_output=True, text=True, timeout=900,
            )  # fmt: skip
            found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    watched = found.pop()
    figures = {name: median(one[name] for one in found) for name in found[0]}
    figures["longest"] = max(one["longest"] for one in found)
    return watched | figures


@contextmanager
def told(what: str, table: Table) -> Iterator[None]:
    """A tracker that fails is left out of the table, and the table says so."""
    print(what, file=sys.stderr)
    try:
        yield
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr or error).strip().splitlines()
        table.note(f"{what} is left out: {lines[-1][:160]}")
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        table.note(f"{what} is left out: {error}")


ROWS = {
    "steps": "calls timed",
    "median": "a call, median: us",
    "p99": "p99: us",
    "longest": "longest: us",
    "above_1_ms": "calls above 1 ms",
    "own_above_1_ms": "of these not interrupted by the system",
    "most_cpu": "most CPU in a call: us",
    "mean": "mean with everything until finish: us",
    "import": "import: ms",
    "megabytes": "installed: MB",
    "packages": "packages",
    "client": "of it without our server: MB",
}


def figures_of(peer: Peer, seconds: float, rounds: int) -> str:
    """A tracker's column, as JSON."""
    python, version = environment(peer, fresh=True)
    figures: dict[str, Any] = calls(peer, python, seconds, rounds)
    figures["version"] = version
    if peer.imports:
        figures["import"] = import_ms(python, peer.imports)
    if peer.package:
        size, packages, client = installed(python)
        figures |= {"megabytes": size, "packages": packages}
        figures |= {"client": client} if client < size else {}
    return json.dumps(figures)


def kept(results: Path | None, name: str, measure: Callable[[], str]) -> str:
    """What an interrupted run before this one left in ``results``; else it is measured now."""
    if results is None:
        return measure()
    path = results / name
    if not path.exists():
        text = measure()
        results.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path.read_text()


def compare(peers: Sequence[Peer], results: Path | None, *, quick: bool) -> None:
    """Prints the table, a column for each tracker."""
    seconds, rounds = (2.0, 1) if quick else (10.0, 3)
    table = Table("Stepwell")
    columns: dict[str, dict[str, Any]] = {}
    for peer in peers:
        with told(peer.title, table):
            column = partial(figures_of, peer, seconds, rounds)
            text = kept(results, f"{peer.script}.json", column)
            columns[peer.title] = figures = json.loads(text)
            table.note(f"{peer.title} {figures['version']}".strip())
    for row, title in ROWS.items():
        for name, figures in columns.items():
            if row in figures:
                table.add(title, name, figures[row])
    print(table.markdown(), flush=True)


def loop(*, quick: bool) -> str:
    print("a training loop", file=sys.stderr)
    return "\n".join(sdk_loop.table(rounds=3, steps=100) if quick else sdk_loop.table())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdk", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--install", action="store_true", help="only make the environments")
    parser.add_argument("--results", type=Path, help="a folder to go on from where it was stopped")
    known = [*(peer.script for peer in PEERS), LOOP]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    names = options.names or known
    peers = [peer for peer in PEERS if peer.script in names]
    if options.install:
        for peer in peers:
            with told(peer.title, Table("")):
                environment(peer, fresh=True)
        return 0
    if peers:
        compare(peers, options.results, quick=options.quick)
    if LOOP in names:
        print("\nA training loop with our client, against one without:\n")
        print(kept(options.results, f"{LOOP}.md", partial(loop, quick=options.quick)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
