"""What a scenario asks of the engine: groups of actions, made of a seed."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stepwell_storage.points import Floats, Ints
from stepwell_storage.records import Batch

KEYS = ("loss", "acc", "lr")
FILES = ("a.bin", "folder/b.bin", "folder/deeper/c.bin")
SIZES = (0, 100, 5_000, 300_000)
FIRST_SPARE = 10
"""The runs from here on are there to be purged."""


@dataclass(frozen=True, slots=True)
class Action:
    """A request, or what the store does by itself.  ``count`` points of each key from ``first``;
    ``path`` is a file, or a folder that is removed."""

    number: int
    kind: Literal[
        "create", "log", "delete", "restore", "put", "remove", "purge",
        "compact", "settle", "reopen", "dispose",
    ]  # fmt: skip
    run: int = 0
    first: int = 0
    count: int = 0
    keys: tuple[str, ...] = ()
    path: str = ""

    @property
    def contents(self) -> bytes:
        """Of the file that is put."""
        return random.Random(self.number).randbytes(SIZES[self.number % len(SIZES)])

    @property
    def run_id(self) -> str:
        return f"{self.run + 1:032x}"


def values_of(key: str, steps: Ints) -> Floats:
    """Every bit of a value follows from its key and step."""
    bits = (steps + KEYS.index(key)) * np.int64(0x1E37_79B9_7F4A_7C15)
    return (bits & np.int64(0x3FEF_FFFF_FFFF_FFFF)).view("<f8")


def plan(seed: int, logs: int, *, runs: int = 3, points: int = 300) -> list[list[Action]]:
    """Groups of actions; those of one group are asked for at the same moment."""
    rng = random.Random(seed)
    numbers = iter(range(10_000_000))
    groups = [[Action(next(numbers), "create", run) for run in range(runs)]]
    next_step = [0] * runs
    deleted: set[int] = set()
    while logs > 0:
        group = []
        for _ in range(min(logs, rng.randint(1, 4))):
            run = rng.choice([run for run in range(runs) if run not in deleted])
            count = rng.randint(1, points)
            keys = tuple(rng.sample(KEYS, rng.randint(1, len(KEYS))))
            group.append(Action(next(numbers), "log", run, next_step[run], count, keys))
            next_step[run] += count
        logs -= len(group)
        groups.append(group)
        chance = rng.random()
        if chance < 0.12:
            groups.append([Action(next(numbers), "compact")])
        elif chance < 0.2 and len(deleted) < runs - 1:
            deleted.add(run)
            groups.append([Action(next(numbers), "delete", run)])
        elif chance < 0.28 and deleted:
            groups.append([Action(next(numbers), "restore", run := deleted.pop())])
        elif chance < 0.33:
            groups.append([Action(next(numbers), "reopen")])
        elif chance < 0.4:
            groups.append([Action(next(numbers), "settle")])
        elif chance < 0.6 and (alive := [run for run in range(runs) if run not in deleted]):
            kind: Literal["put", "remove"] = "put" if rng.random() < 0.7 else "remove"
            path = rng.choice(FILES if kind == "put" else (*FILES, "folder"))
            groups.append([Action(next(numbers), kind, rng.choice(alive), path=path)])
    groups.append([Action(next(numbers), "compact")])
    return groups


def with_purges(groups: Sequence[list[Action]], seed: int, count: int) -> list[list[Action]]:
    """A plan in which so many more runs live, and are deleted for good."""
    rng = random.Random(f"{seed} purges")
    numbers = iter(range(5_000_000, 10_000_000))
    whole = list(groups)
    for run in range(FIRST_SPARE, FIRST_SPARE + count):
        sizes = rng.choices(range(1, 300), k=3)
        life = [[Action(next(numbers), "create", run)]]
        logs = [
            Action(next(numbers), "log", run, sum(sizes[:nth]), size, KEYS)
            for nth, size in enumerate(sizes)
        ]
        life += [logs[:2], [Action(next(numbers), "put", run, path=rng.choice(FILES))], [logs[2]]]
        if rng.random() < 0.5:
            life.append([Action(next(numbers), "delete", run)])
        life += [[Action(next(numbers), "purge", run)], [Action(next(numbers), "dispose")]]
        places = sorted(rng.randint(1, len(whole)) for _ in life)
        for place, group in reversed(list(zip(places, life, strict=True))):
            whole.insert(place, group)
    return whole


def batch_of(action: Action) -> Batch:
    steps = np.arange(action.first, action.first + action.count, dtype="<i8")
    return Batch(
        keys=list(action.keys),
        counts=[action.count] * len(action.keys),
        steps=steps.tobytes() * len(action.keys),
        timestamps=array("q", steps.tolist()).tobytes() * len(action.keys),
        values=b"".join(values_of(key, steps).tobytes() for key in action.keys),
        params={f"param {action.number}": "set"},
        tags={f"tag {action.number}": "set"},
    )
