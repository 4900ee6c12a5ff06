"""SIGKILL the server while clients do everything that a run can live through, in several tenants.

The oracle: each client works alone on runs of its own and waits for every answer, so one call of it
is undecided when the server dies.  What is found afterwards is what was there before that call or
what was to be there after it, whole, and everything that was acknowledged.  Then the call is made
again, as clients do.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

from stepwell.ids import new_run_id
from stepwell_storage.check import verify
from tests.crash import changed_server
from tests.serving import PROGRAM, Served, serving

BASE = "/api/v1/experiments/runs"
KEYS = ("loss", "acc", "a/b c")
FILES = ("model.bin", "plots/loss.png", "plots/deep/x.txt")
TENANTS = ("default", "acme-corp", "zeta")
RUNS = 4
SEED = int(os.environ.get("STEPWELL_TEST_SEED", "20260712"))
State = dict[str, Any]
"""What a run is to look like: ``None`` in a client's table where it was never made or is gone."""


@dataclass(frozen=True)
class Call:
    """One request, and what it makes of a run."""

    method: str
    path: str
    body: bytes
    run_id: str
    after: State | None


@dataclass
class Client:
    """One thread's worth; ``states`` is what was acknowledged, ``undecided`` what was not."""

    tenant: str
    rng: random.Random
    states: dict[str, State | None] = field(default_factory=dict)
    undecided: Call | None = None
    acknowledged: int = 0
    clock: int = 0

    def loop(self, url: str, stop: threading.Event) -> None:
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
            while not stop.is_set():
                self.make(url, self.undecided or self._next())

    def make(self, url: str, call: Call) -> None:
        self.undecided = call
        answer = self.send(url, call.method, call.path, call.body)
        assert answer.status in (200, 201), (call, answer.status, answer.data)
        self.states[call.run_id] = call.after
        self.undecided = None
        self.acknowledged += 1

    def send(self, url: str, method: str, path: str, body: bytes = b"") -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": "application/json", "X-Tenant-ID": self.tenant}
        if "/artifacts" in path:
            headers["Content-Type"] = "application/octet-stream"
        return urllib3.request(
            method, url + path, body=body or None, headers=headers, timeout=60, retries=False
        )

    def _next(self) -> Call:
        alive = [run_id for run_id, state in self.states.items() if state is not None]
        if len(alive) < RUNS:
            return self._create()
        run_id = self.rng.choice(alive)
        state = copy.deepcopy(self.states[run_id])
        assert state is not None
        if state["lifecycle"] == "deleted":
            state["lifecycle"] = "active"
            return self._call("POST", run_id, "/restore", None, state)
        kinds: list[Callable[[str, State], Call]] = [
            self._log, self._log, self._log, self._change, self._end, self._put, self._remove,
            self._delete,
        ]  # fmt: skip
        return self.rng.choice(kinds)(run_id, state)

    def _call(self, method: str, run_id: str, path: str, body: object, after: State | None) -> Call:
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        return Call(method, f"{BASE}/{run_id}{path}", raw, run_id, after)

    def _word(self) -> str:
        self.clock += 1
        return f"{self.clock} é"

    def _create(self) -> Call:
        run_id, word = new_run_id(self.tenant), self._word()
        state: State = {
            "name": word, "description": "", "status": "running", "lifecycle": "active",
            "params": {"word": word}, "tags": {"team": word}, "points": {}, "files": {},
        }  # fmt: skip
        body = {"run_id": run_id, "experiment_name": f"{self.tenant} {self.rng.randrange(3)}"}
        body |= {name: state[name] for name in ("name", "params", "tags")}
        return Call("POST", BASE, json.dumps(body).encode(), run_id, state)

    def _log(self, run_id: str, state: State) -> Call:
        """Points of several series, a parameter and a tag: all of a batch is there, or none."""
        metrics = []
        for key in self.rng.sample(KEYS, self.rng.randint(1, len(KEYS))):
            points = state["points"].setdefault(key, {})
            first = max(points, default=-1) + 1
            for step in range(first, first + self.rng.choice((1, 3, 200))):
                points[step] = value = self.rng.choice((self.rng.random(), step, -0.0, 1e300))
                metrics.append({"key": key, "value": value, "step": step, "timestamp": step})
        word = self._word()
        state["params"][f"p{word}"] = state["tags"]["last"] = word
        body = {"metrics": metrics, "params": [{"key": f"p{word}", "value": word}]}
        body["tags"] = [{"key": "last", "value": word}]
        return self._call("POST", run_id, "/log-batch", body, state)

    def _change(self, run_id: str, state: State) -> Call:
        state["name"], state["description"] = self._word(), self._word()
        tags: dict[str, str | None] = {"team": self._word()}
        state["tags"] |= tags
        if state["tags"].pop("last", None):
            tags["last"] = None
        body = {"name": state["name"], "description": state["description"], "tags": tags}
        return self._call("PATCH", run_id, "", body, state)

    def _end(self, run_id: str, state: State) -> Call:
        state["status"] = self.rng.choice(("finished", "failed", "killed"))
        return self._call("POST", run_id, f"/end?status={state['status']}", None, state)

    def _put(self, run_id: str, state: State) -> Call:
        path, size = self.rng.choice(FILES), self.rng.choice((0, 10, 5_000, 400_000))
        state["files"][path] = body = self.rng.randbytes(size)
        return self._call("PUT", run_id, f"/artifacts/{path}", body, state)

    def _remove(self, run_id: str, state: State) -> Call:
        if not state["files"]:
            return self._put(run_id, state)
        path = self.rng.choice([*state["files"]])
        del state["files"][path]
        return self._call("DELETE", run_id, f"/artifacts/{path}", None, state)

    def _delete(self, run_id: str, state: State) -> Call:
        if self.rng.random() < 0.3:
            return self._call("DELETE", run_id, "?purge=true", None, None)
        state["lifecycle"] = "deleted"
        return self._call("DELETE", run_id, "", None, state)

    # --- afterwards ----------------------------------------------------------------------------

    def compare(self, url: str) -> None:
        """Raises AssertionError.  What was undecided is decided, and made again."""
        for run_id, state in self.states.items():
            if not (self.undecided and self.undecided.run_id == run_id):
                assert self._found(url, run_id) == state, run_id
        if self.undecided is None:
            return
        call = self.undecided
        found = self._found(url, call.run_id)
        assert found in (self.states.get(call.run_id), call.after), f"half of {call}: {found}"
        if call.after is None and found is None:  # a run that is gone is not found any more
            self.states[call.run_id], self.undecided = None, None
        else:
            self.make(url, call)
        assert self._found(url, call.run_id) == self.states[call.run_id]

    def _found(self, url: str, run_id: str) -> State | None:
        answer = self.send(url, "GET", f"{BASE}/{run_id}")
        if answer.status == 404:
            return None
        run = self._read(url, f"{BASE}/{run_id}")
        names = ("name", "description", "status", "lifecycle", "params", "tags")
        found = {name: run[name] for name in names}
        found["points"] = {
            key: points for key in KEYS if (points := self._points(url, run_id, key))
        }
        found["files"] = self._files(url, run_id, "")
        return found

    def _read(self, url: str, path: str) -> Any:
        answer = self.send(url, "GET", path)
        assert answer.status == 200, (path, answer.status, answer.data)
        return json.loads(answer.data)

    def _points(self, url: str, run_id: str, key: str) -> dict[int, float]:
        there = self._read(url, f"{BASE}/{run_id}/metrics/{key.replace(' ', '%20')}?limit=100000")
        assert there["next_cursor"] is None
        points = {point["step"]: point["value"] for point in there["points"]}
        assert len(points) == len(there["points"]), "a point is there twice"
        return points

    def _files(self, url: str, run_id: str, folder: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        listed = self._read(url, f"{BASE}/{run_id}/artifacts?path={folder}")
        assert listed["next_cursor"] is None
        for entry in listed["artifacts"]:
            if entry["is_dir"]:
                found |= self._files(url, run_id, entry["path"])
                continue
            answer = self.send(url, "GET", f"{BASE}/{run_id}/artifacts/{entry['path']}")
            assert answer.status == 200, answer.data
            found[entry["path"]] = answer.data
        return found


def storm(data: Path, seed: int, kills: int, program: tuple[str, ...] = PROGRAM) -> int:
    """Kill the server so often; returns how many calls were acknowledged."""
    rng = random.Random(seed)
    clients = [Client(name, random.Random(f"{seed} {name} {n}")) for name in TENANTS for n in "ab"]
    for _ in range(kills):
        with serving(data, program=program) as server:
            compare_all(server, clients)
            work(server, clients, rng.uniform(0.02, 0.8))
    with serving(data) as server:
        compare_all(server, clients)
        assert server.stop() == 0
    assert asyncio.run(verify(data)).problems == []
    return sum(client.acknowledged for client in clients)


def compare_all(server: Served, clients: list[Client]) -> None:
    for client in clients:
        client.compare(server.url)


def work(server: Served, clients: list[Client], seconds: float) -> None:
    """All clients at once, until the kill.  Raises what a client was answered wrongly."""
    stop, wrong = threading.Event(), list[BaseException]()

    def loop(client: Client) -> None:
        try:
            client.loop(server.url, stop)
        except BaseException as error:  # noqa: BLE001 - for the thread that waits
            wrong.append(error)

    threads = [threading.Thread(target=loop, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


@pytest.mark.timeout(600)
def test_whatever_a_run_lives_through_survives_kills(tmp_path: Path):
    program = changed_server.__file__, "small-units"
    assert storm(tmp_path / "data", SEED, kills=8, program=program) > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(1, 5))
def test_whatever_a_run_lives_through_survives_two_hundred_kills(tmp_path: Path, number: int):
    """Four times fifty."""
    program = changed_server.__file__, "small-units"
    calls = storm(tmp_path / "data", SEED + number, kills=50, program=program)
    sys.stderr.write(f"50 kills: {calls:,} calls acknowledged, none lost\n")
    assert calls > 1_000


@pytest.mark.timeout(600)
def test_a_server_that_acknowledges_before_it_commits_is_caught(tmp_path: Path):
    """An oracle that cannot fail proves nothing."""
    program = changed_server.__file__, "ack-first"
    with pytest.raises(AssertionError):
        storm(tmp_path / "data", SEED, kills=20, program=program)
