"""A real store on real files, and shorthands for logging into it."""

from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from stepwell_storage.records import Batch, NewRun
from stepwell_storage.store import Options, Store
from stepwell_storage.tenant import Tenant

RUN = f"{1:032x}"
Opening = Callable[..., Awaitable[Store]]

# An example that takes long on a busy machine proves nothing.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")


def batch(key: str, steps: Sequence[int], *, value: float = 0.5, at: int = 1_000) -> Batch:
    """Points of one series: ``value + step`` at ``at + step`` ms."""
    count = len(steps)
    return Batch(
        keys=[key],
        counts=[count],
        steps=array("q", steps).tobytes(),
        timestamps=array("q", [at + step for step in steps]).tobytes(),
        values=np.array([value + step for step in steps], "<f8").tobytes(),
    )


def new_run(run_id: str = RUN, **fields: object) -> NewRun:
    return NewRun(run_id=run_id, name="a run", start_time=1_000, **fields)  # type: ignore[arg-type]  # the test says which


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def opening() -> AsyncIterator[Opening]:
    """``Store.open``, but what it opened is closed at the end, however the test ends: the threads
    of an open database would keep the process from its end."""
    opened: list[Store] = []

    async def open_store(data: Path, options: Options | None = None) -> Store:
        opened.append(await Store.open(data, options))
        return opened[-1]

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
async def store(data: Path) -> AsyncIterator[Store]:
    """A store whose compaction happens only when a test says so."""
    store = await Store.open(data, Options(compact=False))
    yield store
    await store.close()


@pytest.fixture
async def tenant(store: Store) -> AsyncIterator[Tenant]:
    async with store.lease("default", create=True) as tenant:
        yield tenant
