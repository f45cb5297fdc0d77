"""Ask a Ray cluster's dashboard: what Serve runs, what it is told to run, and what its copies have written."""

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ferryman.core.errors import ConfigError, DeployError

Details = dict[str, Any]  # JSON: Ray's ServeInstanceDetails, an application's part of it, a configuration

_APPLICATIONS = "/api/serve/applications/"
_TIMEOUT_S = 60.0  # the first question starts Serve
_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - the name of a variable
_KEPT = ("proxy_location", "http_options", "grpc_options", "target_capacity")


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow none: the token would go along, to whoever is named there."""


class Dashboard:
    """Talk to one cluster; raises DeployError with what it said where it refuses, or can't be reached."""

    def __init__(self, address: str, token_file: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"'{address}' is no dashboard's address", hint='address = "http://HOST:8265"')
        self._address = address.rstrip("/")
        self._token = _token(token_file)
        self._opener = build_opener(_NoRedirect())

    def details(self) -> Details:
        """Give all that Serve runs there; an empty list of applications where it does not run."""
        try:
            found: Details = json.loads(self._ask("GET", _APPLICATIONS))
        except ValueError:
            raise DeployError(f"{self._address} gave no JSON", hint="is this a Ray dashboard's address?") from None
        return found

    def application(self, name: str) -> Details | None:
        """Give one application; None where there is none of that name."""
        found: Details | None = self.details().get("applications", {}).get(name)
        return found

    def put(self, wanted: Details | None, name: str, doors: Details) -> None:
        """Set or (None) remove one application; the others stay as they are told to be.

        `doors` is for a Serve that doesn't run yet. The cluster takes all applications at once: what somebody else
        sets between our question and our answer is lost.
        """
        there = self.details()
        others = [
            one["deployed_app_config"]
            for other, one in there.get("applications", {}).items()
            if other != name and one.get("source", "declarative") == "declarative" and one.get("deployed_app_config")
        ]
        runs = bool(there.get("controller_info", {}).get("actor_id"))
        told = {key: there[key] for key in _KEPT if there.get(key) is not None} if runs else doors
        config = {**told, "applications": [*others, *([wanted] if wanted is not None else [])]}
        self._ask("PUT", _APPLICATIONS, json.dumps(config).encode())

    def log(self, node: str, file: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of a file in a node's folder of logs."""
        query = urlencode({"node_id": node, "filename": file.lstrip("/"), "lines": lines})
        yield from self._ask("GET", f"/api/v0/logs/file?{query}").decode("utf-8", "replace").splitlines()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = Request(f"{self._address}{path}", body, headers, method=method)  # noqa: S310 - http or https
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                payload: bytes = answer.read()
                return payload
        except HTTPError as error:
            raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise DeployError(
                f"{self._address} can't be asked: {reason}",
                hint="is this the address of the cluster's dashboard (address in the target's section)?",
            ) from None

    def _refused(self, error: HTTPError) -> DeployError:
        said = error.read().decode("utf-8", "replace").strip()
        if error.code in (401, 403):
            return DeployError(
                f"{self._address} asks for a token: {said[:200]}",
                hint=f"set token_file, or {_TOKEN} in the environment",
            )
        if "Location" in error.headers:
            return DeployError(
                f"{self._address} sends on to {error.headers['Location']}, which isn't followed: the token is for the "
                "address that is named",
                hint="is that the dashboard? set address to it; a login page wants its own way in",
            )
        lines = [line for line in said.splitlines() if line.strip()][-8:]
        hint = "Serve is not installed there: ray[serve]" if error.code == http.client.NOT_IMPLEMENTED else ""
        return DeployError(f"{self._address} says {error.code}: " + "\n".join(lines), hint=hint)


def _token(file: str) -> str:
    if not file:
        return os.environ.get(_TOKEN, "")
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"{file} can't be read: {error.strerror}", hint="token_file in the target's section"
        ) from None
