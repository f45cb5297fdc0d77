"""What Ray is told, as files, and what is understood of what it answers; the cluster itself is in test_ray_cluster."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import silent
from ferryman.supply.verbs import push
from ferryman.targets.rayserve.fetch import bundle_at
from tests.bundle.making import bundle_affine
from tests.oci.registries import docker_registry
from tests.targets.making import landing, render, target
from tests.targets.ray_cluster import PYTHON
from tests.targets.test_kubernetes import check_custom

EVERYTHING: dict[str, Any] = {  # TOML
    "bundle": "oci://registry.example.com/street@sha256:" + "d" * 64,
    "models": {"belt": "/models/belt.ferry"},
    "autoscale": {"least": 0, "most": 6, "ongoing": 2.5},
    "per_node": 3,
    "gpus": 0.5,
    "route": "/street",
    "python": "/opt/ferryman/bin/python",
    "options": ["--max-batch", "8"],
    "env": {"OTEL_SERVICE_NAME": "street"},
    "nodes": {"namespace": "serving", "least": 2, "most": 2},
}
SECTIONS = {"plain": {}, "everything": EVERYTHING, "all nodes": {"nodes": {"least": 3, "most": 3}}}


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_the_rendered_ray_service_is_valid_by_its_own_schema(section: dict[str, Any]) -> None:
    files = render("ray", section)
    service = yaml.safe_load(files["rayservice.yaml"])
    check_custom(service)
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == yaml.safe_load(files["serve.yaml"])
    assert render("ray", section) == files


@pytest.mark.tool(PYTHON)
def test_ray_itself_reads_the_rendered_configuration(tmp_path: Path) -> None:
    program = (
        "import json, sys; from ray.serve.schema import ServeDeploySchema as S\n"
        "for one in json.load(sys.stdin): print(sorted(S.model_validate(one).applications[0].deployments[0]"
        ".model_dump(exclude_unset=True)) == sorted(one['applications'][0]['deployments'][0]))"
    )
    configs = [yaml.safe_load(render("ray", section)["serve.yaml"]) for section in SECTIONS.values()]
    done = subprocess.run(
        [shutil.which(PYTHON) or "", "-c", program], input=json.dumps(configs), capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True"] * len(configs), "Ray passes over keys that it doesn't know"


def test_a_copy_that_fits_no_pod_is_refused() -> None:
    with pytest.raises(ConfigError, match="a worker pod has 0"):
        render("ray", {"nodes": {"cpus": 0.5}})
    section = {"models": {"belt": "/models/belt.ferry"}, "nodes": {"memory_mb": 1000}}
    with pytest.raises(ConfigError, match="1024 MiB; a worker pod has 4 and 1000"):
        render("ray", section)
    render("ray", {**section, "loaded": 1})


def test_without_an_image_the_nodes_take_the_bundle_where_it_lies(tmp_path: Path) -> None:
    files = render("ray", image="", folder=tmp_path)
    assert set(files) == {"serve.yaml"}
    models = yaml.safe_load(files["serve.yaml"])["applications"][0]["args"]["models"]
    assert models == {"street": {"bundle": str(tmp_path), "digest": "b" * 64}}
    with pytest.raises(ConfigError, match="where the nodes find the bundle"):
        target("ray").apply(landing(image=""), dry_run=True, progress=silent)


@contextmanager
def dashboard(status: int, answer: object) -> Iterator[str]:
    """Answer every question with one thing: what no cluster can be made to say."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as address:
        yield address


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_an_application_of_somebody_else_is_left_alone() -> None:
    theirs = {"status": "RUNNING", "deployed_app_config": {"name": "street", "import_path": "fruit:app"}}
    with dashboard(200, {"applications": {"street": theirs}}) as address:
        one = target("ray", address=address)
        for move in (one.apply, one.remove):
            with pytest.raises(DeployError, match="not one of ferryman's") as refused:
                move(landing() if move == one.apply else "street", dry_run=False, progress=silent)
            assert "service" in refused.value.hint


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (401, b"Unauthorized", "asks for a token"),
        (501, b"Serve dependencies are not installed.", "501: Serve dependencies"),
        (200, b"<html>", "gave no JSON"),
    ],
)
def test_what_a_dashboard_refuses_is_told_in_its_words(status: int, answer: bytes, said: str) -> None:
    with dashboard(status, answer) as address, pytest.raises(DeployError, match=said):
        target("ray", address=address).status("street")


def test_an_address_that_is_none_and_one_where_nobody_is_are_told_apart() -> None:
    with pytest.raises(ConfigError, match="no dashboard's address"):
        target("ray", address="localhost:8265").status("street")
    with pytest.raises(DeployError, match="can't be asked"):
        target("ray", address="http://127.0.0.1:9").status("street")


def test_a_token_goes_to_no_address_that_the_dashboard_sends_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hidden")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/login")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as address, pytest.raises(DeployError, match="sends on to /login") as refused:
        target("ray", address=address).status("street")
    assert refused.value.hint
    assert asked == ["/api/serve/applications/"]


def test_what_does_not_go_in_time_is_not_told_to_come_up() -> None:
    ours = {
        "status": "DELETING",
        "deployed_app_config": {"import_path": "ferryman.targets.rayserve.application:application"},
    }
    with dashboard(200, {"applications": {"street": ours}}) as address:
        one = target("ray", address=address, wait_s=0.1)
        with pytest.raises(DeployError, match=r"street is still there after 0\.1 s"):
            one.remove("street", dry_run=False, progress=silent)


def test_a_trace_of_ray_is_left_out_but_for_its_reason() -> None:
    message = (
        "The deployment failed to start 3 times in a row. Error:\n"
        "\x1b[36mray::ServeReplica:street:ferryman.initialize()\x1b[39m (pid=1)\n"
        '  File "replica.py", line 1, in initialize\n'
        "ferryman.core.errors.DeployError: model 'street' answers 1 of 4 golden samples wrong\n"
    )
    found = {
        "status": "DEPLOY_FAILED", "message": "", "deployed_app_config": {
            "import_path": "ferryman.targets.rayserve.application:application"},
        "deployments": {"ferryman": {"target_num_replicas": 2, "message": message, "replicas": [{"state": "RUNNING"}]}},
    }  # fmt: skip
    with dashboard(200, {"applications": {"street": found}}) as address:
        standing = target("ray", address=address).status("street")
    assert not standing.is_ready
    assert standing.notes[-1].splitlines()[-1] == "model 'street' answers 1 of 4 golden samples wrong"
    assert "File" not in standing.notes[-1]


@pytest.mark.tool("docker-registry")
def test_a_bundle_of_a_registry_is_pulled_once_for_all_copies_of_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = bundle_affine(tmp_path / "affine")
    with docker_registry(tmp_path) as host:
        name = push(bundle.path, f"{host}/models/affine:1").reference
        with pytest.raises(ConfigError, match="names no digest"):
            bundle_at(f"oci://{host}/models/affine:1")
        with ThreadPoolExecutor(3) as copies:
            found = set(copies.map(bundle_at, [f"oci://{name}"] * 3))
        with pytest.raises(DeployError, match="can't be fetched"):
            bundle_at(f"oci://{host}/models/other@sha256:{'0' * 64}")
    (folder,) = found
    assert json.loads((Path(folder) / "bundle.json").read_text())["digest"] == bundle.manifest.digest
    assert bundle_at(f"oci://{name}") == folder, "the registry is gone: what is here is enough"
