"""MLflow's protocol spoken to the real application in process, without MLflow's client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from starlette.applications import Starlette

from tests.tracker.checked import HOST

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


class Mlflow(httpx.AsyncClient):
    """``call`` and ``refused`` take the path behind the prefix."""

    def __init__(self, app: Starlette, prefix: str = API) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        super().__init__(transport=transport, base_url=HOST)
        self.prefix = prefix

    async def get_json(self, path: str, /, **query: Any) -> Any:
        response = await self.get(self.prefix + path, params=query)
        return answered(response)

    async def call(self, path: str, /, *, method: str = "POST", **body: Any) -> Any:
        return answered(await self.request(method, self.prefix + path, json=body))

    async def refused(
        self,
        path: str,
        code: str,
        text: str,
        *,
        http: int = 400,
        method: str = "POST",
        **body: Any,
    ) -> None:
        """Asserts the error code, the status and that the message holds the text."""
        if method == "GET":
            response = await self.get(self.prefix + path, params=body)
        else:
            response = await self.request(method, self.prefix + path, json=body)
        assert_refused(response, code, text, http)

    async def experiment(self, name: str) -> str:
        made = await self.call("experiments/create", name=name)
        return str(made["experiment_id"])

    async def run(self, experiment_id: str = "0", **body: Any) -> str:
        made = await self.call("runs/create", experiment_id=experiment_id, **body)
        return str(made["run"]["info"]["run_id"])

    async def read(self, run_id: str) -> Any:
        return (await self.get_json("runs/get", run_id=run_id))["run"]

    async def found(self, filter: str = "", *order: str, **body: Any) -> list[str]:
        """The names of the runs of experiment 0 that a search finds."""
        body = {"experiment_ids": ["0"], "filter": filter, "order_by": list(order), **body}
        page = await self.call("runs/search", **body)
        return [run["info"]["run_name"] for run in page.get("runs", [])]


def assert_refused(response: httpx.Response, code: str, text: str, http: int) -> None:
    assert response.status_code == http, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert (body["error_code"], text in body["message"]) == (code, True), body


def answered(response: httpx.Response) -> Any:
    assert response.status_code == 200, (response.request.url, response.text)
    body = response.json()
    assert isinstance(body, dict)
    assert "null" not in response.text, "what is unset is left out"
    return body


def pairs(found: Any) -> dict[str, str]:
    """Tags or parameters as a dict."""
    return {one["key"]: one["value"] for one in found}


def metrics(run: Mapping[str, Any]) -> dict[str, tuple[Any, int, int]]:
    """Key -> (value, step, timestamp)."""
    return {
        one["key"]: (one["value"], one["step"], one["timestamp"])
        for one in run["data"].get("metrics", [])
    }
