"""The real application over a real store, in the test's own event loop."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from stepwell_tracker.app import create_app
from stepwell_tracker.config import Settings
from tests.tracker.checked import CheckedClient
from tests.tracker.mlflow_client import Mlflow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def app(data: Path) -> AsyncIterator[Starlette]:
    app = create_app(Settings(data=data))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[CheckedClient]:
    async with CheckedClient(app) as client:
        yield client


@pytest.fixture
async def mlflow(app: Starlette) -> AsyncIterator[Mlflow]:
    async with Mlflow(app) as client:
        yield client
