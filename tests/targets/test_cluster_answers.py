"""What is made of a cluster's rarer answers; a real API server, where there is one, is in test_cluster."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import silent
from ferryman.targets.kube.cluster import MANAGER, Cluster
from ferryman.targets.kube.deploying import bring, keep_copies
from ferryman.targets.kube.objects import objects
from ferryman.targets.kube.waiting import wait
from ferryman.targets.kube.workload import Manifest
from tests.targets.making import landing, target
from tests.targets.real_api import Api

PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
NONE = {"kind": "List", "items": []}
KINDS = {
    "v1": {"pods": "Pod", "services": "Service", "serviceaccounts": "ServiceAccount"},
    "apps/v1": {"deployments": "Deployment", "replicasets": "ReplicaSet"},
}


def discovery() -> dict[str, Any]:  # JSON by path
    def listed(version: str) -> dict[str, Any]:  # JSON
        found = [
            {"name": name, "singularName": "", "kind": kind, "namespaced": True, "verbs": ["get", "list"]}
            for name, kind in KINDS[version].items()
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}

    apps = {"groupVersion": "apps/v1", "version": "v1"}
    return {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": [{"name": "apps", "versions": [apps], "preferredVersion": apps}]},
        "/api/v1": listed("v1"),
        "/apis/apps/v1": listed("apps/v1"),
    }


@contextmanager
def answering(answers: dict[str, Any], folder: Path) -> Iterator[Path]:  # JSON, or a status, by path
    """Give the kubeconfig of a server that answers so; 404 for all else."""
    known = discovery() | answers

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = known.get(urlsplit(self.path).path, 404)
            status = found if isinstance(found, int) else 200
            body = json.dumps({"message": "forbidden" if status == 403 else "none"} if status != 200 else found)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    (folder / "apiserver.crt").touch()
    try:
        yield Api(f"http://127.0.0.1:{server.server_address[1]}", folder).kubeconfig()
    finally:
        server.shutdown()
        server.server_close()


def deployment() -> Manifest:
    (found,) = [one for one in objects(landing(), target("kubernetes")) if one["kind"] == "Deployment"]
    return found


def pod(**status: Any) -> Manifest:  # JSON
    named = {"name": "street-1", "labels": deployment()["spec"]["template"]["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": {}, "status": status}


def test_who_may_not_read_logs_is_told_and_one_that_has_not_begun_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, lines in ((403, None), (400, [])):
        answers = {PODS: {"kind": "PodList", "items": [pod()]}, f"{PODS}/street-1/log": status}
        with answering(answers, tmp_path) as file:
            monkeypatch.setenv("KUBECONFIG", str(file))
            if lines is not None:
                assert list(target("kubernetes").logs("street", lines=5)) == lines
                continue
            with pytest.raises(DeployError, match="the log of Pod street-1: forbidden") as caught:
                list(target("kubernetes").logs("street", lines=5))
            assert "kubectl auth can-i" in caught.value.hint


def test_who_may_not_read_logs_still_hears_why_a_copy_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = {"exitCode": 3, "reason": "Error", "message": "no bundle"}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    state = {"name": "server", "state": waiting, "lastState": {"terminated": ended}}
    answers = {
        PODS: {"kind": "PodList", "items": [pod(containerStatuses=[state])]}, f"{PODS}/street-1/log": 403,
        DEPLOYMENTS: NONE, DEPLOYMENTS.replace("deployments", "replicasets"): NONE,
    }  # fmt: skip
    with answering(answers, tmp_path) as file:
        monkeypatch.setenv("KUBECONFIG", str(file))
        notes = target("kubernetes").status("street").notes
    assert notes[-2:] == ("  it ended with 3 (Error)", "  no bundle")


@pytest.mark.parametrize("text", ["{:bad", "[]", "just words", "\0"])
def test_a_kubeconfig_that_is_none_is_named(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(ConfigError, match=f"the kubeconfig {file} can't be read"):
        target("kubernetes").status("street")


def test_an_object_that_is_on_its_way_out_is_not_applied_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = deployment()
    there["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with answering({f"{DEPLOYMENTS}/street": there}, tmp_path) as file:
        monkeypatch.setenv("KUBECONFIG", str(file))
        with (
            Cluster("", "default") as cluster,
            pytest.raises(DeployError, match="Deployment street is being removed") as caught,
        ):
            bring(cluster, [deployment()], (("apps/v1", "Deployment"),), name="street", dry_run=False, force=False)
    assert "once it is gone" in caught.value.hint


def test_a_deployment_that_is_gone_is_not_called_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({DEPLOYMENTS: NONE}, tmp_path) as file:
        monkeypatch.setenv("KUBECONFIG", str(file))
        with Cluster("", "default") as cluster, pytest.raises(DeployError, match="Deployment street is gone"):
            wait(cluster, "street", ["street"], limit_s=5, progress=silent)


@pytest.mark.parametrize(
    ("manager", "fields", "replicas"),
    [
        (MANAGER, {"f:replicas": {}}, 7),
        (MANAGER, {"f:template": {}}, None),
        ("kube-controller-manager", {"f:replicas": {}}, None),
    ],
    ids=["ours alone", "not ours", "another's"],
)
def test_what_begins_to_scale_finds_the_copies_that_there_are(
    manager: str, fields: dict[str, Any], replicas: int | None
) -> None:
    """An API server takes a number that its only owner leaves out for 1."""
    there = deployment()
    there["spec"]["replicas"] = 7
    there["metadata"]["managedFields"] = [{"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": fields}}]
    section = target("kubernetes", autoscale={"least": 2})
    (wanted,) = [one for one in objects(landing(), section) if one["kind"] == "Deployment"]
    assert keep_copies(wanted, there)["spec"].get("replicas") == replicas
    assert keep_copies(deployment(), there)["spec"]["replicas"] == 2
    assert "replicas" not in wanted["spec"], "what was given is left as it is"
