"""Container Apps: what is rendered, and how revisions change, held against a place that answers as Azure does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from azure.mgmt.appcontainers import models

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import silent
from tests.targets.azure_apps import add_apps
from tests.targets.azure_cloud import GROUP, SUBSCRIPTION, Azure, Refused, running_azure
from tests.targets.making import IMAGE, OTHER, landing, render, target

APP = f"{GROUP}/providers/Microsoft.App/containerApps/street"
WHERE: dict[str, Any] = {"subscription": SUBSCRIPTION, "resource_group": "models", "environment": "inner"}
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/street"
EVERYTHING: dict[str, Any] = {  # TOML
    **WHERE, "identity": IDENTITY, "least": 1, "most": 4, "concurrency": 8, "external": False, "http2": True,
    "env": {"OTEL_SERVICE_NAME": "street"}, "options": ["--max-batch", "8"],
}  # fmt: skip


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    monkeypatch.setattr("ferryman.targets.azure.arm._LOOK_S", 0.05)
    monkeypatch.setattr("ferryman.targets.azure.app_rollout._LOOK_S", 0.05)
    with running_azure(tmp_path) as (azure, variables):
        add_apps(azure)
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        yield azure


def put(azure: Azure, image: str = IMAGE, *, dry_run: bool = False, **settings: Any) -> list[tuple[str, str]]:
    one = target("aca", api=azure.url, **{**WHERE, **settings})
    changes = one.apply(landing(image=image), dry_run=dry_run, progress=silent)
    return [(change.move, change.what.partition(" ")[0]) for change in changes]


def traffic(azure: Azure) -> dict[str, int]:
    """Give the weight of each revision's image, by its digest's first sign."""
    found = {}
    for one in azure.things[APP]["properties"]["configuration"]["ingress"]["traffic"]:
        revision = azure.things[f"{APP}/revisions/{one['revisionName']}"]["properties"]
        found[revision["template"]["containers"][0]["image"][-1]] = one["weight"]
    return found


def active(azure: Azure) -> int:
    return sum(bool(one["properties"].get("active")) for key, one in azure.things.items() if "/revisions/" in key)


@pytest.mark.parametrize("by_location", [False, True], ids=["async-operation", "location"])
def test_apply_makes_the_app_once_and_a_new_revision_takes_over(by_location: bool, azure: Azure) -> None:
    azure.by_location = by_location
    assert put(azure, dry_run=True) == [("create", "container"), ("create", "traffic")]
    assert azure.things == {}
    put(azure)
    assert traffic(azure) == {"a": 100}
    writes = len([verb for verb, _, _ in azure.calls if verb != "GET"])
    assert {move for move, _ in put(azure)} == {"keep"}
    assert len([verb for verb, _, _ in azure.calls if verb != "GET"]) == writes
    del azure.calls[:]
    assert put(azure, OTHER) == [("change", "container"), ("change", "traffic"), ("remove", "revision")]
    first, second = azure.made("PATCH")
    assert [one["weight"] for one in first["properties"]["configuration"]["ingress"]["traffic"]] == [100]
    assert "template" not in second["properties"]
    assert (traffic(azure), active(azure)) == ({"c": 100}, 1)
    standing = target("aca", api=azure.url, **WHERE).status("street")
    assert (standing.is_ready, standing.image, standing.notes) == (True, OTHER, ())


def test_a_canary_gets_its_share_stays_there_and_is_promoted(azure: Azure) -> None:
    put(azure)
    put(azure, OTHER, percent=10)
    assert traffic(azure) == {"a": 90, "c": 10}
    assert {move for move, _ in put(azure, OTHER, percent=10)} == {"keep"}
    assert active(azure) == 2
    assert len(target("aca", api=azure.url, **WHERE).status("street").notes) == 2
    put(azure, OTHER)
    assert (traffic(azure), active(azure)) == ({"c": 100}, 1)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("The container 'server' exited with code 2", "what answered before"),
        (
            "Field 'template.containers.server.image' is invalid: image not found, MANIFEST_UNKNOWN: manifest unknown",
            "AcrPull",
        ),
    ],
)
def test_a_revision_that_does_not_come_up_leaves_the_traffic_where_it_is(said: str, hint: str, azure: Azure) -> None:
    put(azure)
    azure.broken[OTHER] = said
    with pytest.raises(DeployError, match=said[:30]) as refused:
        put(azure, OTHER)
    assert hint in refused.value.hint
    assert (traffic(azure), active(azure)) == ({"a": 100}, 1), "the new copies are let go"
    del azure.broken[OTHER]
    put(azure, OTHER)
    assert traffic(azure) == {"c": 100}


def test_why_a_revision_failed_is_told_where_it_can_not_be_let_go_either(azure: Azure) -> None:
    put(azure)
    azure.broken[OTHER] = "The container 'server' exited with code 2"
    azure.is_stuck = True
    with pytest.raises(DeployError, match="exited with code 2"):
        put(azure, OTHER)
    assert traffic(azure) == {"a": 100}


def test_an_ingress_that_somebody_closed_is_shown_and_opened(azure: Azure) -> None:
    put(azure)
    azure.things[APP]["properties"]["configuration"]["ingress"] = None
    assert target("aca", api=azure.url, **WHERE).status("street").is_there
    assert put(azure)[0] == ("change", "container")
    assert traffic(azure) == {"a": 100}


@pytest.mark.parametrize(("status", "said"), [(404, "Not Found"), (200, "which is no answer of Azure's: '<html>")])
def test_what_is_no_answer_of_azures_is_told(status: int, said: str, azure: Azure) -> None:
    azure.page = (status, "<html>log in to the proxy</html>")
    with pytest.raises(DeployError, match=f"container app street: .*{said}"):
        put(azure)


def test_what_somebody_changed_by_hand_is_shown_and_set_right(azure: Azure) -> None:
    put(azure)
    azure.things[APP]["properties"]["configuration"]["ingress"]["external"] = False
    azure.things[APP]["tags"]["team"] = "theirs"
    [change, *_] = target("aca", api=azure.url, **WHERE).apply(landing(), dry_run=True, progress=silent)
    assert "external: false" in change.diff
    assert "theirs" not in change.diff
    put(azure)
    assert azure.things[APP]["properties"]["configuration"]["ingress"]["external"] is True
    assert (azure.things[APP]["tags"]["team"], active(azure)) == ("theirs", 1)


def test_a_revision_that_somebody_made_by_hand_is_followed_by_the_wanted_one(azure: Azure) -> None:
    put(azure)
    ours = azure.things[APP]["properties"]["latestRevisionName"]
    theirs = {**azure.things[f"{APP}/revisions/{ours}"], "name": "street--byhand"}
    azure.things[f"{APP}/revisions/street--byhand"] = theirs
    newest = {"latestRevisionName": "street--byhand", "latestReadyRevisionName": "street--byhand"}
    azure.things[APP]["properties"] |= newest
    azure.things[APP]["properties"]["template"]["scale"]["maxReplicas"] = 1
    azure.things[APP]["properties"]["template"]["revisionSuffix"] = "byhand"
    assert put(azure)[0] == ("change", "container")
    assert azure.things[APP]["properties"]["latestRevisionName"] == f"{ours}-2"
    assert (traffic(azure), active(azure)) == ({"a": 100}, 1)
    assert {move for move, _ in put(azure)} == {"keep"}


def test_an_app_of_somebody_else_is_left_alone(azure: Azure) -> None:
    put(azure)
    azure.things[APP]["tags"] = None
    for move in ("apply", "remove"):
        with pytest.raises(DeployError, match="not one of ferryman's"):
            given = landing() if move == "apply" else "street"
            getattr(target("aca", api=azure.url, **WHERE), move)(given, dry_run=False, progress=silent)


def test_logs_are_those_of_every_copy_and_remove_takes_all_away(azure: Azure) -> None:
    put(azure)
    one = target("aca", api=azure.url, **WHERE)
    [line] = one.logs("street", lines=5)
    assert line.startswith("street--r")
    assert [change.what for change in one.remove("street", dry_run=True, progress=silent)] == ["container app street"]
    one.remove("street", dry_run=False, progress=silent)
    assert azure.things == {}
    assert one.remove("street", dry_run=False, progress=silent) == []
    assert not one.status("street").is_there


@pytest.mark.parametrize(
    ("refused", "hint"),
    [
        (Refused(403, "AuthorizationFailed", "The client does not have authorization"), "the role Contributor"),
        (Refused(404, "ResourceGroupNotFound", "Resource group 'models' could not be found."), "resource_group"),
        (Refused(429, "TooManyRequests", "The request is being throttled"), "too many requests"),
        (Refused(400, "MaxCoresExceeded", "the quota of cores is used up"), "a quota is used up"),
    ],
    ids=["right", "group", "throttled", "quota"],
)
def test_what_azure_refuses_is_told_in_its_words_with_the_way_out(refused: Refused, hint: str, azure: Azure) -> None:
    azure.refusing = refused
    with pytest.raises(DeployError, match=str(refused)) as error:
        put(azure)
    assert hint in error.value.hint


def test_without_credentials_the_way_to_get_some_is_told(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    monkeypatch.setenv("PATH", "/nowhere")  # or the Azure CLI of this machine would be asked
    with pytest.raises(ConfigError, match="no credentials for Azure") as error:
        put(azure)
    assert "az login" in error.value.hint


def unknown(model: Any) -> Iterator[str]:  # a model of azure-mgmt-appcontainers
    """Give the names in a body that the official client's models don't have."""
    fields = {one._rest_name: name for name, one in model._attr_to_rest_field.items()}
    for key in model:
        if key not in fields:
            yield key
            continue
        value = getattr(model, fields[key])
        for inner in value if isinstance(value, list) else [value]:
            if hasattr(inner, "_attr_to_rest_field"):
                yield from unknown(inner)


@pytest.mark.parametrize("section", [WHERE, EVERYTHING], ids=["plain", "everything"])
def test_the_rendered_files_are_those_that_apply_sends(section: dict[str, Any], azure: Azure) -> None:
    files = render("aca", section)
    assert render("aca", section) == files
    told = yaml.safe_load(files["containerapp.yaml"])
    assert (told.pop("type"), told.pop("name")) == ("Microsoft.App/containerApps", "street")
    put(azure, **section)
    assert azure.made("PUT") == [told]
    assert list(unknown(models.ContainerApp(told))) == []
    assert list(unknown(models.Template({"scale": {"minReplica": 1}}))) == ["minReplica"]
    [resource] = hcl2.loads(files["main.tf"])["resource"]
    assert IMAGE in json.dumps(resource)
    assert "azapi_resource" in next(iter(resource))


@pytest.mark.parametrize(
    ("cpus", "memory_mb", "there"), [(0.3, 300, (0.5, "1Gi")), (1, 512, (1.0, "2Gi")), (1, 5000, (2.5, "5Gi"))]
)
def test_a_copy_gets_a_size_that_container_apps_has(cpus: float, memory_mb: int, there: tuple[float, str]) -> None:
    told = yaml.safe_load(render("aca", WHERE, cpus=cpus, memory_mb=memory_mb)["containerapp.yaml"])
    resources = told["properties"]["template"]["containers"][0]["resources"]
    assert (resources["cpu"], resources["memory"]) == there


@pytest.mark.parametrize(
    ("section", "facts", "said"),
    [
        ({}, {}, "which managed environment"),
        (WHERE, {"name": "s" * 33}, "no name for Azure"),
        (WHERE, {"memory_mb": 9000}, "over Consumption's 4 cores"),
        ({**WHERE, "subscription": "mine"}, {}, "subscription"),
        ({**WHERE, "least": 3, "most": 2}, {}, "least = 3 is over"),
    ],
)
def test_what_cannot_be_is_refused(section: dict[str, Any], facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        render("aca", section, **facts)


def test_a_subscription_is_asked_for_before_anything_is_sent() -> None:
    with pytest.raises(ConfigError, match="which subscription"):
        target("aca", environment="inner").status("street")
