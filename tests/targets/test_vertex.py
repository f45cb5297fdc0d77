"""Vertex AI: what is rendered, and how deployed versions change, held against a place with the API's own documents."""

import json
from typing import Any

import hcl2
import pytest

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import silent
from tests.targets.google_cloud import PARENT, Cloud, Refused, document
from tests.targets.google_fixtures import IMAGE, NEXT, cloud
from tests.targets.making import landing, render, target

__all__ = ["cloud"]  # a fixture

MODEL = f"{PARENT}/models/street"
ACCOUNT = "street@street-project.iam.gserviceaccount.com"
EVERYTHING: dict[str, Any] = {  # TOML
    "least": 2, "most": 5, "machine": "n1-standard-8", "accelerator": "NVIDIA_TESLA_T4", "accelerators": 1,
    "spot": True, "service_account": ACCOUNT, "access_log": True, "dedicated": False,
    "env": {"OTEL_SERVICE_NAME": "street"}, "options": ["--max-batch", "8"],
}  # fmt: skip


def put(cloud: Cloud, image: str = IMAGE, *, dry_run: bool = False, **settings: Any) -> list[tuple[str, str]]:
    one = target("vertex", api=cloud.url, **settings)
    changes = one.apply(landing(image=image), dry_run=dry_run, progress=silent)
    return [(change.move, change.what.partition(" ")[0]) for change in changes]


def traffic(cloud: Cloud) -> dict[str, int]:
    """Give the percent of each deployed version's image, by its digest's first sign; 0 for what has none."""
    [endpoint] = cloud.endpoints.values()
    found = {}
    for one in endpoint.get("deployedModels", ()):
        version = cloud.models[one["model"]][int(one["modelVersionId"]) - 1]
        found[version["containerSpec"]["imageUri"][-1]] = endpoint["trafficSplit"].get(one["id"], 0)
    return found


def test_the_first_apply_makes_everything_and_the_second_changes_nothing(cloud: Cloud) -> None:
    wanted = [("create", what) for what in ("endpoint", "model", "deployment", "traffic")]
    assert put(cloud, dry_run=True) == wanted
    assert (cloud.endpoints, cloud.models) == ({}, {})
    assert put(cloud) == wanted
    assert traffic(cloud) == {"a": 100}
    asked = len([name for name, _ in cloud.calls if not name.endswith((".get", ".list"))])
    assert {move for move, _ in put(cloud)} == {"keep"}
    assert len([name for name, _ in cloud.calls if not name.endswith((".get", ".list"))]) == asked
    standing = target("vertex", api=cloud.url).status("street")
    assert (standing.ready, standing.wanted, standing.image) == (1, 1, IMAGE)


def test_a_new_version_is_deployed_beside_the_old_one_then_takes_over(cloud: Cloud) -> None:
    put(cloud)
    del cloud.calls[:]
    assert put(cloud, NEXT) == [
        ("keep", "endpoint"), ("create", "model"), ("create", "deployment"), ("change", "traffic"),
        ("remove", "deployment"),
    ]  # fmt: skip
    writes = [name.rpartition(".")[2] for name, _ in cloud.calls if not name.endswith((".get", ".list"))]
    assert writes == ["upload", "deployModel", "patch", "undeployModel"]
    assert "trafficSplit" not in cloud.made("deployModel")[0], "the old one keeps all of it"
    assert traffic(cloud) == {"c": 100}
    assert [one["versionId"] for one in cloud.models[MODEL]] == ["1", "2"]
    put(cloud)
    assert traffic(cloud) == {"a": 100}
    assert len(cloud.models[MODEL]) == 2, "what was uploaded once is not uploaded again"


def test_a_canary_gets_its_share_and_the_old_one_keeps_its_machines(cloud: Cloud) -> None:
    put(cloud)
    put(cloud, NEXT, percent=20)
    assert traffic(cloud) == {"a": 80, "c": 20}
    assert {move for move, _ in put(cloud, NEXT, percent=20)} == {"keep"}
    assert len(target("vertex", api=cloud.url).status("street").notes) == 2
    put(cloud, NEXT)
    assert traffic(cloud) == {"c": 100}


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Model server never became ready.", "what answered before"),
        (
            "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_serving_cpus",
            "a quota",
        ),
        (f"Image {NEXT} not found.", "push the image"),
    ],
)
def test_a_version_that_does_not_come_up_leaves_the_traffic_where_it_is(said: str, hint: str, cloud: Cloud) -> None:
    put(cloud)
    cloud.broken[NEXT] = said
    with pytest.raises(DeployError, match=said.partition(":")[0]) as refused:
        put(cloud, NEXT)
    assert hint in refused.value.hint
    assert traffic(cloud) == {"a": 100}
    del cloud.broken[NEXT]
    put(cloud, NEXT)
    assert traffic(cloud) == {"c": 100}


def test_another_number_of_machines_moves_nothing(cloud: Cloud) -> None:
    put(cloud)
    before = [one["id"] for each in cloud.endpoints.values() for one in each["deployedModels"]]
    assert put(cloud, least=2, most=6)[2] == ("change", "deployment")
    [endpoint] = cloud.endpoints.values()
    [one] = endpoint["deployedModels"]
    assert [one["id"]] == before
    assert (one["dedicatedResources"]["minReplicaCount"], one["dedicatedResources"]["maxReplicaCount"]) == (2, 6)
    assert target("vertex", api=cloud.url).status("street").is_ready


def test_a_copy_that_is_gone_is_told(cloud: Cloud) -> None:
    put(cloud, least=2, most=2)
    [endpoint] = cloud.endpoints.values()
    endpoint["deployedModels"][0]["status"] = {"availableReplicaCount": 1, "message": "a machine was taken away"}
    standing = target("vertex", api=cloud.url).status("street")
    assert (standing.ready, standing.wanted, standing.notes) == (1, 2, ("a machine was taken away",))


def test_a_version_that_a_broken_off_apply_left_twice_is_taken_off_once(cloud: Cloud) -> None:
    put(cloud)
    [endpoint] = cloud.endpoints.values()
    first = endpoint["deployedModels"][0]
    endpoint["deployedModels"].append({**first, "id": "9999"})  # the operation of a killed apply ended later
    assert put(cloud)[-1] == ("remove", "deployment")
    assert [one["id"] for one in endpoint["deployedModels"]] == [first["id"]]
    assert traffic(cloud) == {"a": 100}
    assert {move for move, _ in put(cloud)} == {"keep"}


def test_what_others_have_deployed_to_the_endpoint_stays(cloud: Cloud) -> None:
    put(cloud)
    [endpoint] = cloud.endpoints.values()
    endpoint["deployedModels"].append({**endpoint["deployedModels"][0], "id": "9999", "displayName": "shadow"})
    put(cloud, NEXT)
    assert "9999" in [one["id"] for one in endpoint["deployedModels"]]
    assert {move for move, _ in put(cloud, NEXT)} == {"keep"}


def test_an_address_of_its_own_is_for_ever(cloud: Cloud) -> None:
    put(cloud)
    with pytest.raises(DeployError, match="an address of its own, which never changes"):
        put(cloud, dedicated=False)


def test_a_model_of_somebody_else_is_left_alone(cloud: Cloud) -> None:
    put(cloud)
    cloud.models[MODEL][0]["labels"] = {}
    with pytest.raises(DeployError, match="not one of ferryman's"):
        put(cloud, NEXT)
    with pytest.raises(DeployError, match="not one of ferryman's"):
        target("vertex", api=cloud.url).remove("street", dry_run=False, progress=silent)


def test_remove_takes_everything_off_and_away(cloud: Cloud) -> None:
    put(cloud)
    put(cloud, NEXT, percent=20)
    one = target("vertex", api=cloud.url)
    told = [change.what.partition(" ")[0] for change in one.remove("street", dry_run=True, progress=silent)]
    assert told == ["deployment", "deployment", "endpoint", "model"]
    assert cloud.endpoints
    one.remove("street", dry_run=False, progress=silent)
    assert (cloud.endpoints, cloud.models) == ({}, {})
    assert one.remove("street", dry_run=False, progress=silent) == []
    assert not one.status("street").is_there


def test_logs_are_those_of_the_endpoint(cloud: Cloud) -> None:
    assert list(target("vertex", api=cloud.url).logs("street", lines=5)) == []
    put(cloud)
    number = next(iter(cloud.endpoints)).rpartition("/")[2]
    for endpoint in (number, "7"):
        resource = {"type": "aiplatform.googleapis.com/Endpoint", "labels": {"endpoint_id": endpoint}}
        cloud.entries.append({"resource": resource, "insertId": "1", "textPayload": f"of {endpoint}"})
    assert list(target("vertex", api=cloud.url).logs("street", lines=5)) == [f"{number}: of {number}"]


def test_a_refusal_is_told_in_googles_words(cloud: Cloud) -> None:
    cloud.refusing = Refused(403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.list' denied")
    with pytest.raises(DeployError, match=r"endpoints: Permission 'aiplatform.endpoints.list' denied") as refused:
        put(cloud)
    assert "roles/aiplatform.user" in refused.value.hint


def test_an_image_from_elsewhere_is_refused_before_anything_is_asked(cloud: Cloud) -> None:
    with pytest.raises(ConfigError, match=r"not from registry.example.com"):
        put(cloud, "registry.example.com/street:1")
    assert cloud.calls == []


@pytest.mark.parametrize("section", [{}, EVERYTHING], ids=["plain", "everything"])
def test_the_rendered_requests_are_those_that_apply_sends(section: dict[str, Any], cloud: Cloud) -> None:
    files = render("vertex", {"project": "street-project", **section}, image=IMAGE)
    upload, deploy = json.loads(files["upload.json"]), json.loads(files["deploy.json"])
    document("aiplatform.v1").check(upload, "GoogleCloudAiplatformV1UploadModelRequest")
    document("aiplatform.v1").check(deploy, "GoogleCloudAiplatformV1DeployModelRequest")
    put(cloud, **section)
    assert cloud.made("upload") == [upload]
    assert cloud.made("deployModel") == [deploy]
    [resource] = hcl2.loads(files["main.tf"])["resource"]
    assert "google_vertex_ai_endpoint" in next(iter(resource))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"least": 3, "most": 2}, "least = 3 is over"),
        ({"accelerator": "NVIDIA_L4"}, "belong together"),
        ({"project": "Street"}, "project"),
    ],
)
def test_a_section_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        target("vertex", **settings)


@pytest.mark.parametrize(
    ("cpus", "memory_mb", "machine"),
    [(1, 1024, "n1-standard-2"), (1, 7000, "n1-standard-4"), (9, 512, "n1-standard-16")],
)
def test_the_least_machine_with_the_room_is_taken(cpus: float, memory_mb: int, machine: str) -> None:
    files = render("vertex", {"project": "street-project"}, image=IMAGE, cpus=cpus, memory_mb=memory_mb)
    deploy = json.loads(files["deploy.json"])
    assert deploy["deployedModel"]["dedicatedResources"]["machineSpec"] == {"machineType": machine}


def test_a_project_of_a_domain_is_named_by_it_too() -> None:
    files = render("vertex", {"project": "example.com:street-project"}, image=IMAGE)
    version = json.loads(files["deploy.json"])["deployedModel"]["model"]
    assert version.startswith("projects/example.com:street-project/locations/us-central1/models/street@")


def test_files_need_the_projects_name() -> None:
    with pytest.raises(ConfigError, match="the files name the project"):
        render("vertex", image=IMAGE)
