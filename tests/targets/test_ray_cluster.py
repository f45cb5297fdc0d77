"""A bundle on a real Ray cluster of three nodes: the same answers, none lost when a node dies or a version changes."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ferryman.bundle.read import load_bundle
from ferryman.core.deployment import read_target
from ferryman.core.progress import silent
from ferryman.core.target import Landing
from ferryman.targets.landing import land
from ferryman.targets.ray import Ray
from ferryman.targets.ray_dashboard import Dashboard
from tests.bundle.making import bundle_affine, bundle_colour, plain_picture
from tests.server.running import running
from tests.targets.ray_cluster import PYTHON, RayCluster, ray_cluster, target_toml, under_load, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.tool(PYTHON)]

_JSON = {"Content-Type": "application/json"}
_VALUES = json.dumps({"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    bundle_affine(folder / "first")
    bundle_affine(folder / "second", factor=3.0)
    bundle_colour(folder / "colour")
    return folder


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[RayCluster]:
    with ray_cluster(folder, nodes={"left": 2, "right": 2}) as one:
        yield one


def target(cluster: RayCluster, **more: object) -> Ray:
    found: Ray = read_target("ray", target_toml(cluster, **more), origin="test")
    return found


def landing(bundle: Path, one: Ray) -> Landing:
    return land(load_bundle(bundle), one, "")


def apply(one: Ray, bundle: Path) -> list[str]:
    return [change.move for change in one.apply(landing(bundle, one), dry_run=False, progress=silent)]


def ask(
    url: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body or None, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_several_models_answer_as_ferryman_serve_does_byte_for_byte_and_make_room_for_each_other(
    cluster: RayCluster, folder: Path
) -> None:
    one = target(cluster, service="both", replicas=1, loaded=1, models={"colour": str(folder / "colour")}, route="/a/b")
    assert apply(one, folder / "first") == ["create"]
    picture = plain_picture(250, 10, 10)
    head = json.dumps({
        "inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    body = head + np.array([[1, 2, 3]], "<f4").tobytes()
    lengths = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    asked: list[tuple[str, str, str, bytes, dict[str, str]]] = [
        ("affine", "POST", "infer", _VALUES, _JSON),
        ("affine", "POST", "infer", body, lengths),
        ("affine", "POST", "infer", b"{", _JSON),
        ("affine", "DELETE", "", b"", {}),
        ("colour", "POST", "infer", picture, {"Content-Type": "image/png"}),
        ("colour", "POST", "infer", picture[:60], {"Content-Type": "image/png"}),
        ("affine", "GET", "versions/1", b"", {}),
    ]
    with running([folder / "first"]) as first, running([folder / "colour"]) as colour:
        serves = {"affine": first.url, "colour": colour.url}
        for model, method, verb, payload, headers in asked:
            path = f"/v2/models/{model}/{verb}".rstrip("/")
            there = ask(cluster.url, method, f"/a/b{path}", payload, headers)
            assert there == ask(serves[model], method, path, payload, headers), (method, path)
    status, payload = ask(cluster.url, "POST", "/a/b/v2/repository/index", b"{}", _JSON)
    states = {row["name"]: row["state"] for row in json.loads(payload)}
    assert (status, states) == (200, {"affine": "READY", "colour": "UNAVAILABLE"})
    assert ask(cluster.url, "GET", "/a/b/v2/models/nobody")[0] == 404
    assert ask(cluster.url, "GET", "/a/b/v2/health/ready") == (200, b'{"ready": true}')


def test_applying_twice_changes_nothing_and_a_new_version_comes_in_without_a_lost_request(
    cluster: RayCluster, folder: Path
) -> None:
    one = target(cluster)
    assert apply(one, folder / "first") == ["create"]
    assert apply(one, folder / "first") == ["keep"]
    with under_load(cluster.url, "affine", callers=4, right=lambda answer: answer in (3.0, 4.0)) as counts:
        wait_for(lambda: counts.answered > 50, limit_s=20)
        assert apply(one, folder / "second") == ["change"]
        before = counts.answered
        wait_for(lambda: counts.answered > before + 50, limit_s=20)
    assert (counts.lost, counts.wrong, counts.retried) == ([], 0, 0)
    assert counts.versions.keys() == {3.0, 4.0}
    assert json.loads(ask(cluster.url, "POST", "/v2/models/affine/infer", _VALUES, _JSON)[1])["outputs"][0]["data"] == [
        4.0, 7.0, 10.0,
    ]  # fmt: skip
    assert any("is loaded" in line for line in one.logs("affine", lines=100_000))


def test_a_node_is_killed_under_load_and_callers_who_ask_again_lose_nothing(cluster: RayCluster, folder: Path) -> None:
    one = target(cluster)
    apply(one, folder / "second")
    copies = Dashboard(cluster.address, "").application("affine") or {}
    node = copies["deployments"]["ferryman"]["replicas"][0]["node_id"]
    with under_load(cluster.url, "affine", callers=4, right=lambda answer: answer == 4.0) as counts:
        wait_for(lambda: counts.answered > 50, limit_s=20)
        left = cluster.order("kill", node_id=node)["left"]
        before = counts.answered
        wait_for(lambda: counts.answered > before + 100, limit_s=60)
    assert (counts.lost, counts.wrong) == ([], 0)
    assert counts.sent == counts.answered
    assert left, "its copies had servers of their own"
    wait_for(lambda: not any(map(lives, left)), limit_s=15)  # nobody killed them: they ended with who started them


def test_what_is_removed_goes_and_other_applications_stay(cluster: RayCluster, folder: Path) -> None:
    one, both = target(cluster), target(cluster, service="both")
    apply(one, folder / "second")
    assert [change.move for change in one.remove("affine", dry_run=True, progress=silent)] == ["remove"]
    assert one.status("affine").is_there
    assert [change.move for change in one.remove("affine", dry_run=False, progress=silent)] == ["remove"]
    assert not one.status("affine").is_there
    assert one.remove("affine", dry_run=False, progress=silent) == []
    assert both.status("both").is_there


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
