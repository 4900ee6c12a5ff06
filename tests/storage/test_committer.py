"""The queue under trouble: failing jobs, poison, full disks, bounds."""

import asyncio
from collections.abc import Sequence

import pytest

from stepwell_storage.committer import Committer, Gauge, Job
from stepwell_storage.errors import Busy, Closed, Full


def committer(apply, *, max_bytes: int = 10_000, gauge: Gauge | None = None) -> Committer:
    return Committer("test", apply, max_bytes=max_bytes, gauge=gauge or Gauge(100_000))


async def test_what_is_queued_together_is_applied_together_and_in_order():
    groups: list[list[Job]] = []

    async def apply(jobs: Sequence[Job]) -> None:
        groups.append(list(jobs))
        await asyncio.sleep(0.01)

    tested = committer(apply)
    jobs = [Job() for _ in range(30)]
    await asyncio.gather(*(tested.submit(job) for job in jobs))
    await tested.close()
    assert [job for group in groups for job in group] == jobs
    assert len(groups) == 1


async def test_one_poisoned_job_fails_alone(caplog):
    async def apply(jobs: Sequence[Job]) -> None:
        if poison in jobs:
            raise ZeroDivisionError
        for job in jobs:
            job.result = "done"

    tested = committer(apply)
    poison = Job()
    jobs = [Job(), poison, Job()]
    results = await asyncio.gather(*map(tested.submit, jobs), return_exceptions=True)
    await tested.close()
    assert results[0] == results[2] == "done"
    assert isinstance(results[1], ZeroDivisionError)
    assert "a write to tenant test failed" in caplog.text


async def test_a_full_disk_fails_the_group_once_and_recovers():
    attempts = 0
    full = True

    async def apply(jobs: Sequence[Job]) -> None:
        nonlocal attempts
        attempts += 1
        if full:
            raise Full("no room")

    tested = committer(apply)
    results = await asyncio.gather(
        *(tested.submit(Job()) for _ in range(20)), return_exceptions=True
    )
    assert all(isinstance(result, Full) for result in results)
    assert attempts == 1
    full = False
    await tested.submit(Job())
    await tested.close()


async def test_beyond_its_bound_the_queue_refuses_at_once_and_then_drains():
    gate = asyncio.Event()

    async def apply(jobs: Sequence[Job]) -> None:
        await gate.wait()

    gauge = Gauge(100_000)
    tested = committer(apply, gauge=gauge)
    accepted: list[asyncio.Future[object]] = []
    with pytest.raises(Busy):
        accepted.extend(tested.submit(Job(1_000)) for _ in range(1_000))
    assert len(accepted) == 10
    assert tested.queued_bytes == gauge.bytes == 10_000
    gate.set()
    await asyncio.gather(*accepted)
    assert tested.queued_bytes == gauge.bytes == 0
    await tested.submit(Job(1_000_000))  # alone, a job of any size goes through
    await tested.close()


async def test_the_server_has_a_bound_across_tenants():
    gate = asyncio.Event()

    async def apply(jobs: Sequence[Job]) -> None:
        await gate.wait()

    gauge = Gauge(3_000)
    tenants = [committer(apply, gauge=gauge) for _ in range(5)]
    accepted = [tenant.submit(Job(1_000)) for tenant in tenants[:3]]
    with pytest.raises(Busy):
        tenants[4].submit(Job(1_000))
    gate.set()
    await asyncio.gather(*accepted)
    for tenant in tenants:
        await tenant.close()


async def test_a_request_that_went_away_disturbs_nobody():
    gate = asyncio.Event()
    applied: list[Job] = []

    async def apply(jobs: Sequence[Job]) -> None:
        await gate.wait()
        applied.extend(jobs)

    tested = committer(apply)
    jobs = [Job() for _ in range(4)]
    futures = [tested.submit(job) for job in jobs]
    await asyncio.sleep(0.01)
    futures[1].cancel()
    gate.set()
    await asyncio.gather(*futures, return_exceptions=True)
    await tested.close()
    assert applied == jobs


async def test_close_commits_what_is_queued_and_refuses_what_comes_later():
    applied: list[Job] = []

    async def apply(jobs: Sequence[Job]) -> None:
        await asyncio.sleep(0)
        applied.extend(jobs)

    tested = committer(apply)
    futures = [tested.submit(Job(1)) for _ in range(600)]
    await tested.close()
    assert len(applied) == 600
    await asyncio.gather(*futures)
    with pytest.raises(Closed):
        tested.submit(Job())


async def test_a_commit_that_was_cancelled_is_acknowledged_to_nobody():
    async def apply(jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.result = "done"
        await asyncio.sleep(60)

    tested = committer(apply)
    future = tested.submit(Job())
    await asyncio.sleep(0.01)
    tested._task.cancel()
    with pytest.raises(Closed):
        await future
    with pytest.raises(asyncio.CancelledError):
        await tested._task
