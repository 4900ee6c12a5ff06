"""What is asked for at the same moment lands in one group; each sees what those in front did."""

import asyncio
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from stepwell_storage import runs, writer
from stepwell_storage.backlog import Backlog
from stepwell_storage.check import verify
from stepwell_storage.errors import Conflict, Full, NotFound
from stepwell_storage.records import ExperimentChange, NewRun, RunChange, RunQuery
from stepwell_storage.store import Options
from stepwell_storage.tenant import Tenant
from tests.storage.conftest import RUN, Opening, batch, new_run

DELETED = ExperimentChange(lifecycle="deleted")


def numbered(number: int, **fields: object) -> NewRun:
    return new_run(f"{number:032x}", **fields)


async def together(*calls: Awaitable[Any]) -> list[Any]:
    """The answers or errors of calls that are queued in this order."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_run_that_is_made_behind_its_experiments_deletion_is_refused(tenant: Tenant):
    lab = await tenant.create_experiment("lab")
    for number, place in enumerate(({"experiment_name": "lab"},
                                    {"experiment_id": lab.experiment_id})):  # fmt: skip
        await tenant.create_run(numbered(10 + number, **place))  # it is remembered now
        deleted, made, later = await together(
            tenant.change_experiment(lab.experiment_id, DELETED),
            tenant.create_run(numbered(20 + number, **place)),
            tenant.create_run(numbered(30 + number, **place)),
        )
        assert deleted.lifecycle == "deleted"
        assert [type(made), type(later)] == [Conflict, Conflict]
        with pytest.raises(Conflict):
            await tenant.create_run(numbered(40 + number, **place))
        await tenant.change_experiment(lab.experiment_id, ExperimentChange(lifecycle="active"))
        await tenant.create_run(numbered(50 + number, **place))


async def test_a_run_that_is_made_in_front_of_the_deletion_goes_with_it(tenant: Tenant):
    lab = await tenant.create_experiment("lab")
    await together(
        tenant.create_run(new_run(experiment_name="lab")),
        tenant.change_experiment(lab.experiment_id, DELETED),
    )
    assert (await tenant.run(RUN)).lifecycle == "deleted"
    with pytest.raises(Conflict):
        await tenant.create_run(numbered(9, experiment_name="lab"))


async def test_a_run_that_is_made_behind_a_renaming_goes_to_who_has_the_name(tenant: Tenant):
    old = await tenant.create_experiment("old")
    await tenant.create_run(numbered(2, experiment_name="old"))
    await together(
        tenant.change_experiment(old.experiment_id, ExperimentChange(name="new")),
        tenant.create_run(numbered(3, experiment_name="old")),
    )
    await tenant.create_run(numbered(4, experiment_name="old"))
    await tenant.create_run(numbered(5, experiment_name="new"))
    places = {n: (await tenant.run(f"{n:032x}")).experiment_number for n in (2, 3, 4, 5)}
    assert places[2] == places[5] == old.number
    assert places[3] == places[4] != old.number


async def test_nothing_is_remembered_of_a_group_that_was_rolled_back(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
):
    """What a transaction has read of its own writes is gone with it."""
    await tenant.create_run(new_run())
    tenant.writer.runs.drop(RUN)

    async def full(_: object) -> None:
        raise Full("the disk is full")

    deleted, again, broken = await together(
        tenant.change_run(RUN, RunChange(lifecycle="deleted")),
        tenant.create_run(new_run()),
        tenant._change(full),
    )
    assert [type(one) for one in (deleted, again, broken)] == [Full] * 3
    await tenant.log(RUN, batch("loss", [1]))
    assert (await tenant.run(RUN)).lifecycle == "active"


async def test_the_states_of_runs_are_bounded(tenant: Tenant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs, "MAX_CACHED_RUNS", 10)
    monkeypatch.setattr(writer, "TRIM_INTERVAL_S", 0.0)
    for number in range(1, 31):
        await tenant.create_run(numbered(number))
        await tenant.log(f"{number:032x}", batch("loss", [number]))
        assert len(tenant.writer.runs._states) <= 10
    for number in range(1, 31):  # those that were forgotten are written like the others
        await tenant.log(f"{number:032x}", batch("loss", [number, 99]))
        assert len(await tenant.points(f"{number:032x}", "loss")) == 2
    monkeypatch.setattr(runs, "MAX_CACHED_KEYS", 3)
    await tenant.log(RUN, batch("acc", [1]))
    assert len(tenant.writer.runs._states) <= 3


def test_what_the_journal_held_at_opening_is_wholly_gone_once_it_is_compacted():
    """Its rows are measured then and estimated later: the difference would slow writes for ever."""
    backlog = Backlog(1_000)
    backlog.load([(1, 2, 10, 900), (2, 1, 1, 10)])
    assert backlog.pause_s() > 0
    backlog.remove(1, rows=2, points=10, size=12 * 10 + 64 * 2)
    backlog.remove(2, rows=1, points=1, size=12 + 64)
    assert (backlog.bytes, backlog.points) == (0, 0)


async def mix(tenant: Tenant, rng: random.Random, numbers: range) -> list[Any]:
    """Some calls at the same moment; the errors that none of them may end with."""
    calls: list[Awaitable[Any]] = []
    known = [e.experiment_id for e in (await tenant.experiments(lifecycle="all")).experiments[1:]]
    for number in numbers:
        name = rng.choice("abc")
        some = f"{rng.randint(max(1, number - 12), number):032x}"
        experiment = rng.choice([*known, "unknown"])
        lifecycle = rng.choice(["active", "deleted"])
        other = ExperimentChange(name=rng.choice("abc"))
        kinds: list[Awaitable[Any]] = [
            tenant.create_run(numbered(number, experiment_name=name, params={"p": "1"})),
            tenant.log(some, batch("loss", range(number, number + 3))),
            tenant.change_run(some, RunChange(lifecycle=lifecycle)),
            tenant.change_experiment(experiment, ExperimentChange(lifecycle=lifecycle)),
            tenant.change_experiment(experiment, other),
            tenant.purges.run(some),
            tenant.purges.experiment(experiment),
            tenant.purges.dispose(),
            tenant.settle(),
        ]
        chosen = rng.choices(range(len(kinds)), weights=[8, 8, 2, 2, 1, 1, 1, 2, 1])[0]
        calls.append(kinds.pop(chosen))
        for one in kinds:
            one.close()  # type: ignore[attr-defined]  # coroutines, of which none has begun
    answers = await together(*calls)
    return [one for one in answers if isinstance(one, Exception)
            and not isinstance(one, NotFound | Conflict)]  # fmt: skip


async def check_places(tenant: Tenant) -> None:
    """Every run is in an experiment that is there."""
    found = (await tenant.search(RunQuery(lifecycle="all", limit=1_000))).runs
    everything = (await tenant.experiments(lifecycle="all")).experiments
    assert {run.experiment_id for run in found} <= {one.experiment_id for one in everything}


@pytest.mark.parametrize("seed", range(4))
async def test_calls_at_the_same_moment_leave_nothing_that_contradicts_itself(
    data: Path, opening: Opening, seed: int
):
    rng = random.Random(seed)
    store = await opening(data, Options(compact=False))
    number = 1
    for _ in range(25):
        async with store.lease("acme", create=True) as tenant:
            size = rng.randint(2, 12)
            assert await mix(tenant, rng, range(number, number + size)) == []
            number += size
            await check_places(tenant)
        if rng.random() < 0.2:
            await store.compact("acme")
        if rng.random() < 0.1:
            await store.close()
            store = await opening(data, Options(compact=False))
    await store.dispose("acme")
    await store.close()
    assert (await verify(data)).problems == []
