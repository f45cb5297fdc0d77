"""Cloud Run: what is rendered, and how revisions change, held against a place with Google's own API documents."""

import json
from typing import Any

import hcl2
import pytest
import yaml

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import silent
from tests.targets.google_cloud import PARENT, Cloud, Refused, document
from tests.targets.google_fixtures import HOST, IMAGE, NEXT, cloud
from tests.targets.making import landing, render, target

__all__ = ["cloud"]  # a fixture

SERVICE = f"{PARENT}/services/street"
ACCOUNT = "street@street-project.iam.gserviceaccount.com"
EVERYTHING: dict[str, Any] = {  # TOML
    "project": "street-project", "region": "europe-west4", "service_account": ACCOUNT,
    "least": 1, "most": 5, "always_cpu": True, "ingress": "internal", "public": True, "gpu": "nvidia-l4",
    "network": "inner", "subnetwork": "inner-1", "env": {"OTEL_SERVICE_NAME": "street"},
    "options": ["--max-batch", "8"],
}  # fmt: skip


def put(cloud: Cloud, image: str = IMAGE, *, dry_run: bool = False, **settings: Any) -> list[tuple[str, str]]:
    one = target("cloudrun", api=cloud.url, **settings)
    changes = one.apply(landing(image=image), dry_run=dry_run, progress=silent)
    return [(change.move, change.what) for change in changes]


def traffic(cloud: Cloud) -> dict[str, int]:
    """Give the percent of each revision's image, by its digest's first sign."""
    found = {}
    for one in cloud.services[SERVICE]["traffic"]:
        revision = cloud.revisions[f"{SERVICE}/revisions/{one['revision']}"]
        if one.get("percent"):
            found[revision["containers"][0]["image"][-1]] = one["percent"]
    return found


def test_the_first_apply_makes_the_service_and_the_second_changes_nothing(cloud: Cloud) -> None:
    assert put(cloud, dry_run=True) == [("create", "service street"), ("create", "traffic")]
    assert cloud.services == {}
    put(cloud)
    assert traffic(cloud) == {"a": 100}
    calls = len(cloud.made("patch"))
    assert put(cloud) == [("keep", "service street"), ("keep", "traffic")]
    assert len(cloud.made("patch")) == calls
    standing = target("cloudrun", api=cloud.url).status("street")
    assert (standing.is_ready, standing.image, standing.notes) == (True, IMAGE, ())


def test_a_new_revision_is_asked_without_traffic_before_it_gets_any(cloud: Cloud) -> None:
    put(cloud)
    old = cloud.services[SERVICE]["template"]["revision"]
    del cloud.calls[:]
    assert put(cloud, NEXT) == [("change", "service street"), ("change", "traffic")]
    first, second = cloud.made("patch")
    new = first["template"]["revision"]
    told = [(one["revision"], one.get("percent", 0), one.get("tag")) for one in first["traffic"]]
    assert told == [(old, 100, None), (new, 0, "next")]
    assert second["traffic"] == [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": new, "percent": 100}]
    assert traffic(cloud) == {"c": 100}
    put(cloud)  # back: the revision's name was used, so there is another
    assert cloud.services[SERVICE]["template"]["revision"] == f"{old}-2"
    assert traffic(cloud) == {"a": 100}


def test_a_canary_gets_its_share_stays_there_and_is_promoted(cloud: Cloud) -> None:
    put(cloud)
    put(cloud, NEXT, percent=10)
    assert traffic(cloud) == {"a": 90, "c": 10}
    assert {move for move, _ in put(cloud, NEXT, percent=10)} == {"keep"}
    notes = target("cloudrun", api=cloud.url).status("street").notes
    assert sorted(note.rpartition(" answers ")[2] for note in notes) == ["10 %", "90 %"]
    assert put(cloud, NEXT) == [("keep", "service street"), ("change", "traffic")]
    assert traffic(cloud) == {"c": 100}


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("The user-provided container failed to start and listen on the port", "what answered before"),
        (f"Image '{NEXT}' not found.", "push the image"),
        ("Quota exceeded for total allowable CPU per project per region", "a quota is used up"),
    ],
)
def test_a_revision_that_does_not_come_up_leaves_the_traffic_where_it_is(said: str, hint: str, cloud: Cloud) -> None:
    put(cloud)
    cloud.broken[NEXT] = said
    with pytest.raises(DeployError, match=said.split("'")[0]) as refused:
        put(cloud, NEXT)
    assert hint in refused.value.hint
    assert traffic(cloud) == {"a": 100}
    assert not any(one.get("tag") for one in cloud.services[SERVICE]["traffic"])
    del cloud.broken[NEXT]
    put(cloud, NEXT)
    assert traffic(cloud) == {"c": 100}
    assert cloud.services[SERVICE]["template"]["revision"].endswith("-2"), "a failed revision's name is not used again"


def test_a_revision_that_says_it_is_not_ready_gets_no_traffic(cloud: Cloud) -> None:
    put(cloud)
    new = put_name(NEXT)
    cloud.unready.add(new)
    with pytest.raises(DeployError, match="answers 503"):
        put(cloud, NEXT, wait_s=1.5)
    assert traffic(cloud) == {"a": 100}


def put_name(image: str) -> str:
    service = yaml.safe_load(render("cloudrun", image=image)["service.yaml"])
    return str(service["spec"]["template"]["metadata"]["name"])


def test_what_somebody_changed_by_hand_is_shown_and_set_right(cloud: Cloud) -> None:
    put(cloud)
    cloud.services[SERVICE]["ingress"] = "INGRESS_TRAFFIC_INTERNAL_ONLY"
    cloud.services[SERVICE]["labels"]["team"] = "theirs"
    [change, kept] = target("cloudrun", api=cloud.url).apply(landing(image=IMAGE), dry_run=True, progress=silent)
    assert "-ingress: INGRESS_TRAFFIC_INTERNAL_ONLY" in change.diff
    assert "theirs" not in change.diff
    assert kept.move == "keep"
    put(cloud)
    assert cloud.services[SERVICE]["ingress"] == "INGRESS_TRAFFIC_ALL"
    assert len(cloud.revisions) == 1, "settings of the service make no revision"


def test_labels_of_others_outlive_a_new_revision(cloud: Cloud) -> None:
    put(cloud)
    cloud.services[SERVICE]["labels"]["team"] = "theirs"
    put(cloud, NEXT)
    put(cloud, NEXT, ingress="internal")
    assert cloud.services[SERVICE]["labels"]["team"] == "theirs"


def test_a_revision_that_somebody_made_by_hand_is_followed_by_the_wanted_one(cloud: Cloud) -> None:
    put(cloud)
    service = cloud.services[SERVICE]
    made = cloud.revisions[service["latestCreatedRevision"]]
    cloud.revisions[f"{SERVICE}/revisions/street-00002-xyz"] = made
    service["template"] = {**service["template"], "revision": "", "timeout": "5s"}
    service["latestCreatedRevision"] = service["latestReadyRevision"] = f"{SERVICE}/revisions/street-00002-xyz"
    service["traffic"] = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]
    [change, shift] = target("cloudrun", api=cloud.url).apply(landing(image=IMAGE), dry_run=True, progress=silent)
    assert '-  timeout: "5s"' in change.diff
    assert "-street-00002-xyz: 100 %" in shift.diff
    put(cloud)
    assert cloud.services[SERVICE]["template"]["revision"].endswith("-2")
    assert {move for move, _ in put(cloud)} == {"keep"}


def test_how_cloud_run_writes_a_template_makes_no_other_of_it(cloud: Cloud) -> None:
    put(cloud)
    cloud.services[SERVICE]["template"]["containers"][0]["resources"]["limits"]["memory"] = "0.5Gi"
    assert {move for move, _ in put(cloud)} == {"keep"}


def test_a_variable_that_is_no_longer_asked_for_goes(cloud: Cloud) -> None:
    put(cloud, env={"A": "1"})
    assert cloud.services[SERVICE]["template"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    assert put(cloud)[0] == ("change", "service street")
    assert "env" not in cloud.services[SERVICE]["template"]["containers"][0]


def test_a_service_of_somebody_else_is_left_alone(cloud: Cloud) -> None:
    put(cloud)
    cloud.services[SERVICE]["labels"] = {}
    one = target("cloudrun", api=cloud.url)
    with pytest.raises(DeployError, match="not one of ferryman's"):
        put(cloud, NEXT)
    with pytest.raises(DeployError, match="not one of ferryman's"):
        one.remove("street", dry_run=False, progress=silent)
    assert SERVICE in cloud.services


def test_remove_takes_away_what_was_made_and_the_second_finds_nothing(cloud: Cloud) -> None:
    put(cloud)
    one = target("cloudrun", api=cloud.url)
    assert [change.what for change in one.remove("street", dry_run=True, progress=silent)] == ["service street"]
    assert SERVICE in cloud.services
    one.remove("street", dry_run=False, progress=silent)
    assert (cloud.services, cloud.revisions) == ({}, {})
    assert one.remove("street", dry_run=False, progress=silent) == []
    assert not one.status("street").is_there


def test_logs_come_oldest_first_and_say_whose_they_are(cloud: Cloud) -> None:
    for number, name in enumerate(("street", "street", "other", "street")):
        resource = {"type": "cloud_run_revision", "labels": {"service_name": name, "revision_name": f"{name}-1"}}
        text = {"textPayload": f"line {number}"} if number else {"jsonPayload": {"message": "line 0"}}
        cloud.entries.append({"resource": resource, "logName": "run", "insertId": str(number), **text})
    one = target("cloudrun", api=cloud.url)
    assert list(one.logs("street", lines=2)) == ["street-1: line 1", "street-1: line 3"]
    assert next(one.logs("street", lines=9)) == "street-1: line 0"


def test_logs_go_on_where_google_has_more(cloud: Cloud) -> None:
    labels = {"service_name": "street", "revision_name": "street-1"}
    one = {"resource": {"type": "cloud_run_revision", "labels": labels}}
    cloud.entries += [{**one, "insertId": str(number), "textPayload": str(number)} for number in range(1500)]
    cloud.has_empty_pages = True
    told = list(target("cloudrun", api=cloud.url).logs("street", lines=1200))
    assert (told[0], told[-1], len(told)) == ("street-1: 300", "street-1: 1499", 1200)


@pytest.mark.parametrize(
    ("refused", "hint"),
    [
        (Refused(403, "PERMISSION_DENIED", "Permission 'run.services.get' denied"), "the role (roles/run.developer"),
        (Refused(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric"), "a quota is used up"),
        (
            Refused(
                403, "PERMISSION_DENIED", "Cloud Run Admin API has not been used in project street-project before",
                [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"}],
            ),
            "gcloud services enable run.googleapis.com",
        ),
    ],
    ids=["right", "quota", "api"],
)  # fmt: skip
def test_what_google_refuses_is_told_in_its_words_with_the_way_out(
    refused: Refused, hint: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferryman.targets.google.api._READS", 0)  # the client would wait between its tries
    cloud.refusing = refused
    with pytest.raises(DeployError, match=str(refused)) as error:
        put(cloud)
    assert hint in error.value.hint


def test_without_credentials_the_way_to_get_some_is_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
    with pytest.raises(ConfigError, match="no credentials for Google Cloud") as error:
        put(cloud)
    assert "gcloud auth application-default login" in error.value.hint


def test_an_image_from_a_registry_that_cloud_run_does_not_take_is_told(cloud: Cloud) -> None:
    with pytest.raises(DeployError, match="Expected an image path"):
        put(cloud, "registry.example.com/street@sha256:" + "a" * 64)
    assert cloud.services == {}


def test_nobody_at_the_address_is_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferryman.targets.google.api._READS", 0)
    with pytest.raises(DeployError, match="doesn't answer"):
        target("cloudrun", api="http://127.0.0.1:9").status("street")


@pytest.mark.parametrize("section", [{}, EVERYTHING, {"http2": True}], ids=["plain", "everything", "http2"])
def test_the_rendered_files_are_whole_and_alike(section: dict[str, Any], cloud: Cloud) -> None:
    files = render("cloudrun", section, image=IMAGE)
    assert render("cloudrun", section, image=IMAGE) == files
    knative = yaml.safe_load(files["service.yaml"])
    inner = knative["spec"]["template"]
    [resource] = hcl2.loads(files["main.tf"])["resource"]
    [kind] = resource
    assert "google_cloud_run_v2_service" in kind
    text = json.dumps(resource)
    for word in (IMAGE, *(f'"{value}"' for value in inner["spec"]["containers"][0]["resources"]["limits"].values())):
        assert word.strip('"') in text
    put(cloud, **section) if "region" not in section else None
    if "gpu" in section:
        assert inner["spec"]["containers"][0]["resources"]["limits"] == {
            "cpu": "4", "memory": "16384Mi", "nvidia.com/gpu": "1"
        }  # fmt: skip
        assert inner["spec"]["nodeSelector"] == {"run.googleapis.com/accelerator": "nvidia-l4"}


def test_everything_that_is_asked_for_is_of_the_apis_own_schema() -> None:
    from ferryman.targets.google.run_service import run_service

    for section in ({}, EVERYTHING, {"http2": True}):
        body = run_service(landing(image=IMAGE), target("cloudrun", **section))
        document("run.v2").check(body, "GoogleCloudRunV2Service")


def test_names_of_networks_are_quoted_in_knatives_note() -> None:
    files = render("cloudrun", {"network": 'in"ner'}, image=IMAGE)
    notes = yaml.safe_load(files["service.yaml"])["spec"]["template"]["metadata"]["annotations"]
    assert json.loads(notes["run.googleapis.com/network-interfaces"]) == [{"network": 'in"ner'}]


@pytest.mark.parametrize(
    ("cpus", "memory_mb", "there"),
    [(0.5, 300, ("1", "512Mi")), (3, 900, ("4", "2048Mi")), (1, 5000, ("2", "5000Mi")), (8, 30000, ("8", "30000Mi"))],
)
def test_a_copy_gets_an_instance_that_cloud_run_has(cpus: float, memory_mb: int, there: tuple[str, str]) -> None:
    files = render("cloudrun", cpus=cpus, memory_mb=memory_mb, image=IMAGE)
    limits = yaml.safe_load(files["service.yaml"])["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["cpu"], limits["memory"]) == there


@pytest.mark.parametrize(
    ("settings", "said"), [({"least": 3, "most": 2}, "least = 3 is over"), ({"region": "Frankfurt"}, "region")]
)
def test_a_section_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        target("cloudrun", **settings)


def test_a_model_too_large_for_cloud_run_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(ConfigError, match="no instance of 1 cores with 40000 MiB"):
        render("cloudrun", memory_mb=40000, image=HOST)
