"""One real server for the tests that only log and read, and a client of bare HTTP for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.serving import Served, serving


class Http:
    """JSON over HTTP with nothing of ours in between."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool = urllib3.PoolManager(retries=False, timeout=30)

    def __call__(
        self, method: str, path: str, body: Any = None, *, tenant: str | None = None
    ) -> tuple[int, Any]:
        """The status, and the answer: decoded where it is JSON, else its bytes."""
        headers = {"X-Tenant-ID": tenant} if tenant else {}
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        reply = self._pool.request(method, self.url + path, body=data, headers=headers)
        if "json" in reply.headers.get("Content-Type", ""):
            return reply.status, json.loads(reply.data)
        return reply.status, reply.data

    def ok(self, method: str, path: str, body: Any = None, *, tenant: str | None = None) -> Any:
        status, answer = self(method, path, body, tenant=tenant)
        assert status in (200, 201), answer
        return answer

    def close(self) -> None:
        self._pool.clear()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("server") / "data") as served:
        yield served


@pytest.fixture
def http(server: Served) -> Iterator[Http]:
    client = Http(server.url)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the client's lands in anyone's home."""
    monkeypatch.setenv("STEPWELL_SPOOL_DIR", str(tmp_path / "spool"))
