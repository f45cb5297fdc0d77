"""A real Kubernetes API server (etcd, kube-apiserver, kube-controller-manager) without a node, but for a stand-in."""

import contextlib
import json
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.ports import free_ports

ADMIN, WEAK = "admin-for-tests", "weak-for-tests"
BROKEN = "/broken"  # images with this in their name never start on this node
_START_S = 90.0
_CONTEXT = ssl._create_unverified_context()  # the server's certificate is its own


class Api:
    """Ask the server for what the tests look at; say that pods run, as the kubelet would that isn't here."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self._ended = threading.Event()
        self._node = threading.Thread(target=self._play_node, daemon=True)

    def kubeconfig(self, token: str = ADMIN) -> Path:
        file, certificate = self.folder / f"{token}.kubeconfig", str(self.folder / "apiserver.crt")
        told = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": certificate}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }  # fmt: skip
        file.write_text(json.dumps(told), encoding="utf-8")
        return file

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:  # JSON
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=20, context=_CONTEXT) as answer:
            return json.load(answer)

    def items(self, path: str, *, name: str) -> list[Any]:  # JSON
        chosen = f"labelSelector=app.kubernetes.io/instance={name}"
        found: list[Any] = self.ask(f"{path}?{chosen}")["items"]
        return found

    def play_node(self) -> None:
        self._node.start()

    def close(self) -> None:
        self._ended.set()
        if self._node.is_alive():
            self._node.join(10)

    def _play_node(self) -> None:
        while not self._ended.wait(0.2):
            with contextlib.suppress(urllib.error.URLError, OSError):
                for pod in self.ask("/api/v1/pods")["items"]:
                    self._play(pod)

    def _play(self, pod: dict[str, Any]) -> None:  # JSON
        meta, image = pod["metadata"], pod["spec"]["containers"][0]["image"]
        where = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if meta.get("deletionTimestamp"):
            self.ask(where, "DELETE", {"gracePeriodSeconds": 0})
        elif not pod["spec"].get("nodeName"):
            node = {"kind": "Node", "name": "none"}
            self.ask(f"{where}/binding", "POST", {"metadata": {"name": meta["name"]}, "target": node})
        elif not pod["status"].get("containerStatuses"):
            self.ask(f"{where}/status", "PATCH", {"status": _state(image)})


def _state(image: str) -> dict[str, Any]:  # JSON
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    one = {"name": "server", "image": image, "imageID": "", "restartCount": 0}
    if BROKEN in image:
        waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
        return {"containerStatuses": [one | {"ready": False, "state": {"waiting": waiting}}]}
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    running = one | {"ready": True, "state": {"running": {"startedAt": now}}}
    return {"phase": "Running", "conditions": conditions, "containerStatuses": [running]}


@contextlib.contextmanager
def running_api(folder: Path) -> Iterator[Api]:
    """Run all three; etcd keeps its data in `folder`."""
    ports = free_ports(3)
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n{WEAK},weak,2,\n')
    api = Api(f"https://127.0.0.1:{ports[2]}", folder)
    with contextlib.ExitStack() as stack:
        stack.callback(api.close)
        for command in _store_and_server(folder, *ports):
            _start(stack, folder, command)
        _until(lambda: api.ask("/api/v1/namespaces/default"), "kube-apiserver")
        wanted = "deployment,replicaset,serviceaccount,serviceaccount-token,garbagecollector,namespace"
        _start(stack, folder, [
            "kube-controller-manager", f"--kubeconfig={api.kubeconfig()}", "--leader-elect=false", "--port=0",
            "--secure-port=0", f"--service-account-private-key-file={key}", f"--controllers={wanted}",
            f"--cert-dir={folder / 'manager'}",
        ])  # fmt: skip
        _until(lambda: api.ask("/api/v1/namespaces/default/serviceaccounts/default"), "kube-controller-manager")
        api.play_node()
        yield api


def _store_and_server(folder: Path, client: int, peer: int, server: int) -> list[list[str]]:
    store, other = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return [
        [
            "etcd", f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={store}", f"--advertise-client-urls={store}",
            f"--listen-peer-urls={other}", f"--initial-advertise-peer-urls={other}",
            f"--initial-cluster=default={other}", "--unsafe-no-fsync",
        ],
        [
            "kube-apiserver", f"--etcd-servers={store}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={server}", "--insecure-port=0", f"--cert-dir={folder}", "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}", "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
        ],
    ]  # fmt: skip


def _start(stack: contextlib.ExitStack, folder: Path, command: list[str]) -> None:
    log = stack.enter_context((folder / f"{command[0]}.log").open("wb"))
    process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder))
    stack.callback(process.kill)  # called before the Popen's own exit waits for it


def _until(look: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError, urllib.error.URLError):
            look()
            return
        time.sleep(0.1)
    raise AssertionError(f"{what} doesn't start")
