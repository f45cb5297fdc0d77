"""Retrain in a Job of Kubernetes: made through the API, once, and followed to its end."""

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ferryman.core.acting import JobSection
from ferryman.monitor.actions.action import Action
from ferryman.monitor.notify.receiver import Undelivered
from ferryman.monitor.notify.secret import read_address, read_secret

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOOK_S = 5.0
_CREATED, _CONFLICT = (200, 201, 202), 409


@dataclass(frozen=True, slots=True)
class _Api:
    server: str
    token: str
    ca: str

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:  # JSON
        parts = urlsplit(self.server)
        host, port = parts.hostname or "", parts.port
        connection = (
            HTTPSConnection(host, port, timeout=30, context=ssl.create_default_context(cafile=self.ca or None))
            if parts.scheme == "https"
            else HTTPConnection(host, port, timeout=30)
        )
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, f"{parts.path}{path}", json.dumps(body).encode() if body else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except (OSError, HTTPException, ValueError) as error:
            raise Undelivered(f"the Kubernetes API at {host} can't be asked: {error}") from None
        finally:
            connection.close()


def run_job(
    section: JobSection, action: Action, variables: Mapping[str, str], *, timeout_s: float,
    environment: Mapping[str, str], look_s: float = _LOOK_S,
) -> str:  # fmt: skip
    """Make the Job of a manifest and wait for its end; gives what to say of it, raises Undelivered.

    Its name holds the action's id: made again after a crash, it is the same Job. Over the limit it is removed.
    """
    api, namespace = _api(section, environment)
    name = f"ferryman-retrain-{action.id}"
    job = fill_manifest(_read_manifest(Path(section.manifest)), name, variables)
    where = f"/apis/batch/v1/namespaces/{quote(namespace, safe='')}/jobs"
    status, told = api.ask("POST", where, job)
    if status not in (*_CREATED, _CONFLICT):
        raise Undelivered(f"the Job {name} can't be made in {namespace}: {status} {_message(told)}")
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        try:
            status, told = api.ask("GET", f"{where}/{name}")
        except Undelivered:  # the API may be away for a while; the Job goes on
            status, told = 0, {}
        if status == 404:
            raise Undelivered(f"the Job {name} is gone from {namespace}")
        for condition in told.get("status", {}).get("conditions", ()) if status == 200 else ():
            if condition.get("status") == "True" and condition.get("type") in ("Complete", "SuccessCriteriaMet"):
                return f"the Job {name} in {namespace} is complete"
            if condition.get("status") == "True" and condition.get("type") in ("Failed", "FailureTarget"):
                why = condition.get("message", "it says no more")
                raise Undelivered(f"the Job {name} in {namespace} failed: {why}")
        time.sleep(look_s)
    api.ask("DELETE", f"{where}/{name}?propagationPolicy=Background")
    raise Undelivered(f"the Job {name} in {namespace} took longer than {timeout_s:g} s, and was removed")


def fill_manifest(job: Mapping[str, Any], name: str, variables: Mapping[str, str]) -> dict[str, Any]:  # JSON
    """Name a Job, and give each of its containers what a command would find in its environment."""
    try:
        filled: dict[str, Any] = json.loads(json.dumps(job))  # JSON
        filled["metadata"] = {**filled.get("metadata", {}), "name": name}
        filled["metadata"].pop("generateName", None)
        for container in filled["spec"]["template"]["spec"]["containers"]:
            known = [each for each in container.get("env") or [] if each.get("name") not in variables]
            container["env"] = [*known, *({"name": key, "value": text} for key, text in variables.items())]
    except (KeyError, TypeError, AttributeError):
        raise Undelivered("the manifest has no spec.template.spec.containers: it must be a Job") from None
    return filled


def _read_manifest(path: Path) -> dict[str, Any]:  # JSON
    try:
        job = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Undelivered(f"the manifest {path} can't be read: {error}") from None
    if not isinstance(job, dict) or job.get("kind") != "Job":
        raise Undelivered(f"the manifest {path} is no Job")
    return job


def _api(section: JobSection, environment: Mapping[str, str]) -> tuple[_Api, str]:
    if section.server is not None:
        server = read_address(section.server, environment)
    elif host := environment.get("KUBERNETES_SERVICE_HOST"):
        shown = f"[{host}]" if ":" in host else host
        server = f"https://{shown}:{environment.get('KUBERNETES_SERVICE_PORT', '443')}"
    else:
        raise Undelivered("this is no pod of Kubernetes: set server and token of the action's job")
    token = read_secret(section.token or f"file:{_ACCOUNT / 'token'}", environment)
    own = _ACCOUNT / "namespace"
    namespace = section.namespace or (own.read_text().strip() if own.exists() else "default")
    ca = section.ca or (str(_ACCOUNT / "ca.crt") if (_ACCOUNT / "ca.crt").exists() else "")
    return _Api(server, token, ca), namespace


def _message(told: Any) -> str:  # JSON
    return str(told.get("message", "")) if isinstance(told, dict) else ""
