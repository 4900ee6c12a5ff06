"""MLflow's REST API as an import calls it: JSON in and out, credentials from the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from stepwell_tracker.porting.source import SourceError

API: Final = "/api/2.0/mlflow/"
_FILES: Final = "/api/2.0/mlflow-artifacts/artifacts"
_TIMEOUT: Final = urllib3.Timeout(connect=20, read=120)
_AGAIN: Final = urllib3.Retry(
    5, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504), allowed_methods=None, redirect=2
)
_READ_BYTES: Final = 1 << 20


class MlflowHttp:
    """Raises SourceError where no server answers, or it refuses."""

    def __init__(self, url: str, workspace: str | None) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self.url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        headers = {"User-Agent": "stepwell-import", **_credentials(parts.username, parts.password)}
        if workspace:
            headers["X-MLFLOW-WORKSPACE"] = workspace
        self._pool = urllib3.PoolManager(headers=headers, timeout=_TIMEOUT, retries=_AGAIN)

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Below the API's base; a number or text for each name."""
        return self._json(self._request("GET", f"{API}{path}?{urlencode(query)}"), path)

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """Without the fields that are None."""
        told = {name: value for name, value in body.items() if value is not None}
        return self._json(self._request("POST", API + path, json.dumps(told).encode()), path)

    def offers(self, path: str, **body: object) -> bool:
        """Whether the server knows a call."""
        return self._request("POST", API + path, json.dumps(body).encode()).status != 404

    def pages(self, path: str, name: str, **body: object) -> Iterator[dict[str, Any]]:
        """What all pages of a search list under ``name``."""
        token: str | None = None
        while True:
            page = self.post(path, page_token=token, **body)
            yield from page.get(name, [])
            token = page.get("next_page_token")
            if not token:
                return

    def got(self, path: str, name: str, **query: object) -> Iterator[dict[str, Any]]:
        """The same of a call that is a GET."""
        token: str | None = None
        while True:
            page = self.get(path, **query, **({"page_token": token} if token else {}))
            yield from page.get(name, [])
            token = page.get("next_page_token")
            if not token:
                return

    def listed(self, folder: str) -> list[dict[str, Any]]:
        """A folder of the server's proxy of files."""
        answer = self._request("GET", f"{_FILES}?{urlencode({'path': folder})}")
        found: list[dict[str, Any]] = self._json(answer, "artifacts").get("files", [])
        return found

    def download(self, path: str) -> Iterator[bytes]:
        answer = self._request("GET", f"{_FILES}/{quote(path)}", stream=True)
        try:
            if answer.status != 200:
                raise OSError(f"the server answers {answer.status}")
            yield from answer.stream(_READ_BYTES)
        except urllib3.exceptions.HTTPError as error:
            raise OSError(str(error)) from error
        finally:
            answer.release_conn()

    def close(self) -> None:
        self._pool.clear()

    def _request(
        self, method: str, path: str, body: bytes | None = None, *, stream: bool = False
    ) -> urllib3.BaseHTTPResponse:
        headers = dict(self._pool.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            return self._pool.request(
                method, self.url + path, body=body, headers=headers, preload_content=not stream
            )
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            raise SourceError(f"no server answers at {self.url}: {cause}", answers=False) from error

    def _json(self, answer: urllib3.BaseHTTPResponse, path: str) -> dict[str, Any]:
        found: dict[str, Any] | None = None
        with suppress(ValueError, TypeError):
            found = dict(json.loads(answer.data))
        if found is None or (answer.status != 200 and "error_code" not in found):
            raise SourceError(
                f"{self.url} does not answer as MLflow does ({path}: {answer.status})"
            )
        if answer.status == 401:
            raise SourceError(
                f"{self.url} wants credentials: set MLFLOW_TRACKING_USERNAME and"
                " MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        if answer.status != 200:
            raise SourceError(f"{self.url} refuses {path}: {found.get('message', answer.status)}")
        return found


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    """Basic before Bearer, as MLflow's client has it; the environment before the address."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or user
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or password
    if user and password:
        made: dict[str, str] = urllib3.make_headers(basic_auth=f"{user}:{password}")
        return {"Authorization": made["authorization"]}
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return {}
