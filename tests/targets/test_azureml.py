"""Azure Machine Learning: what is rendered, and how deployments change, at a place that answers as Azure does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import silent
from tests.targets.azure_cloud import SUBSCRIPTION, Azure, Refused, running_azure
from tests.targets.azure_learning import WORKSPACE, add_learning
from tests.targets.making import IMAGE, OTHER, landing, render, target

ENDPOINT = f"{WORKSPACE}/onlineEndpoints/street"
WHERE: dict[str, Any] = {"subscription": SUBSCRIPTION, "resource_group": "models", "workspace": "lab"}
EVERYTHING: dict[str, Any] = {  # TOML
    **WHERE, "identity": f"/subscriptions/{SUBSCRIPTION}/street", "instance_type": "Standard_F4s_v2", "instances": 3,
    "auth": "aad_token", "public": False, "env": {"OTEL_SERVICE_NAME": "street"},
    "options": ["--max-batch", "8", "--no-docs", "--max-queue=64"],
}  # fmt: skip


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    monkeypatch.setattr("ferryman.targets.azure.arm._LOOK_S", 0.05)
    with running_azure(tmp_path) as (azure, variables):
        add_learning(azure)
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        yield azure


def put(azure: Azure, image: str = IMAGE, *, dry_run: bool = False, **settings: Any) -> list[tuple[str, str]]:
    one = target("azureml", api=azure.url, **{**WHERE, **settings})
    changes = one.apply(landing(image=image), dry_run=dry_run, progress=silent)
    return [(change.move, change.what.partition(" ")[0]) for change in changes]


def traffic(azure: Azure) -> dict[str, int]:
    """Give the percent of each deployment's image, by its digest's first sign; 0 for what has none."""
    told = azure.things[ENDPOINT]["properties"].get("traffic", {})
    return {
        azure.things[one["properties"]["environmentId"]]["properties"]["image"][-1]: told.get(one["name"], 0)
        for key, one in azure.things.items()
        if "/deployments/" in key
    }


@pytest.mark.parametrize("by_location", [False, True], ids=["async-operation", "location"])
def test_apply_makes_everything_once_and_a_new_deployment_takes_over(by_location: bool, azure: Azure) -> None:
    azure.by_location = by_location
    wanted = [("create", what) for what in ("environment", "endpoint", "deployment", "traffic")]
    assert put(azure, dry_run=True) == wanted
    assert azure.things == {}
    assert put(azure) == wanted
    assert traffic(azure) == {"a": 100}
    writes = len([verb for verb, _, _ in azure.calls if verb != "GET"])
    assert {move for move, _ in put(azure)} == {"keep"}
    assert len([verb for verb, _, _ in azure.calls if verb != "GET"]) == writes
    del azure.calls[:]
    put(azure, OTHER)
    steps = [(verb, path.split("/")[-2]) for verb, path, _ in azure.calls if verb != "GET"]
    assert steps == [
        ("PUT", "versions"), ("PUT", "deployments"), ("PUT", "onlineEndpoints"), ("DELETE", "deployments"),
    ]  # fmt: skip
    assert traffic(azure) == {"c": 100}
    standing = target("azureml", api=azure.url, **WHERE).status("street")
    assert (standing.ready, standing.wanted, standing.image, standing.notes) == (1, 1, OTHER, ())


def test_a_canary_gets_its_share_stays_there_and_is_promoted(azure: Azure) -> None:
    put(azure)
    azure.things[ENDPOINT]["tags"]["team"] = "theirs"
    put(azure, OTHER, percent=10)
    assert traffic(azure) == {"a": 90, "c": 10}
    assert {move for move, _ in put(azure, OTHER, percent=10)} == {"keep"}
    assert len(target("azureml", api=azure.url, **WHERE).status("street").notes) == 2
    put(azure, OTHER)
    assert traffic(azure) == {"c": 100}
    assert azure.things[ENDPOINT]["tags"]["team"] == "theirs"


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("ResourceNotReady: User container has crashed or terminated", "what answered before"),
        ("OutOfQuota: Not enough quota available for Standard_DS2_v2", "az vm list-usage"),
        ("ImagePullFailure: image not found", "AcrPull"),
    ],
)
def test_a_deployment_that_does_not_come_up_is_told_with_its_last_lines_and_goes(
    said: str, hint: str, azure: Azure
) -> None:
    put(azure)
    azure.broken[OTHER] = said
    with pytest.raises(DeployError, match=said) as refused:
        put(azure, OTHER)
    assert "last line of r" in str(refused.value)
    assert hint in refused.value.hint
    assert traffic(azure) == {"a": 100}, "the failed one is gone"
    del azure.broken[OTHER]
    put(azure, OTHER)
    assert traffic(azure) == {"c": 100}


def test_what_others_have_deployed_to_the_endpoint_stays(azure: Azure) -> None:
    put(azure)
    [ours] = [key for key in azure.things if "/deployments/" in key]
    azure.things[f"{ENDPOINT}/deployments/shadow"] = {**azure.things[ours], "name": "shadow", "tags": None}
    assert {move for move, _ in put(azure)} == {"keep"}
    put(azure, OTHER)
    assert f"{ENDPOINT}/deployments/shadow" in azure.things
    assert ours not in azure.things


def test_another_number_of_machines_moves_nothing(azure: Azure) -> None:
    put(azure)
    del azure.calls[:]
    assert ("change", "deployment") in put(azure, instances=3)
    assert [verb for verb, _, _ in azure.calls if verb != "GET"] == ["PATCH"]
    standing = target("azureml", api=azure.url, **WHERE).status("street")
    assert (standing.ready, standing.wanted) == (3, 3)


def test_a_setting_of_the_endpoint_changes_it_and_keeps_its_traffic(azure: Azure) -> None:
    put(azure)
    assert ("change", "endpoint") in put(azure, public=False)
    assert azure.things[ENDPOINT]["properties"]["publicNetworkAccess"] == "Disabled"
    assert traffic(azure) == {"a": 100}


def test_an_endpoint_of_somebody_else_is_left_alone(azure: Azure) -> None:
    put(azure)
    azure.things[ENDPOINT]["tags"] = {}
    for move in ("apply", "remove"):
        with pytest.raises(DeployError, match="not one of ferryman's"):
            given = landing() if move == "apply" else "street"
            getattr(target("azureml", api=azure.url, **WHERE), move)(given, dry_run=False, progress=silent)


def test_logs_are_those_of_every_deployment_and_remove_takes_all_away(azure: Azure) -> None:
    one = target("azureml", api=azure.url, **WHERE)
    assert list(one.logs("street", lines=5)) == []
    put(azure)
    assert [line.rpartition(": ")[2].partition(" of ")[0] for line in one.logs("street", lines=5)] == [
        "first line", "last line",
    ]  # fmt: skip
    told = [change.what.partition(" ")[0] for change in one.remove("street", dry_run=True, progress=silent)]
    assert told == ["deployment", "endpoint"]
    one.remove("street", dry_run=False, progress=silent)
    assert [key for key in azure.things if "/environments/" not in key] == []
    assert one.remove("street", dry_run=False, progress=silent) == []
    assert not one.status("street").is_there


def test_a_refusal_is_told_in_azures_words(azure: Azure) -> None:
    azure.refusing = Refused(403, "AuthorizationFailed", "The client does not have authorization")
    with pytest.raises(DeployError, match="AuthorizationFailed: The client") as error:
        put(azure)
    assert "the role Contributor" in error.value.hint


@pytest.mark.parametrize("section", [WHERE, EVERYTHING], ids=["plain", "everything"])
def test_the_rendered_files_are_those_that_apply_sends(section: dict[str, Any], azure: Azure) -> None:
    files = render("azureml", section)
    assert render("azureml", section) == files
    put(azure, **section)
    [deployment] = [body for verb, path, body in azure.calls if verb == "PUT" and "/deployments/" in path]
    told = yaml.safe_load(files["deployment.yml"])
    assert told["environment_variables"] == deployment["properties"]["environmentVariables"]
    assert told["instance_count"] == deployment["sku"]["capacity"]
    assert told["environment"]["inference_config"]["scoring_route"] == {"path": "/score", "port": 8080}
    assert yaml.safe_load(files["endpoint.yml"])["auth_mode"] == section.get("auth", "key")
    resources = hcl2.loads(files["main.tf"])["resource"]
    assert len(resources) == 3
    text = json.dumps(resources)
    assert "azapi_resource.endpoint.id" in text
    assert "azapi_resource.environment" in text, "the deployment comes after it"
    assert deployment["properties"]["instanceType"] in text


def test_options_go_as_the_variables_that_stand_for_them() -> None:
    told = yaml.safe_load(render("azureml", EVERYTHING, threads=2)["deployment.yml"])["environment_variables"]
    assert told == {
        "FERRYMAN_DRAIN_S": "25", "FERRYMAN_THREADS": "2", "FERRYMAN_MAX_BATCH": "8", "FERRYMAN_NO_DOCS": "1",
        "FERRYMAN_MAX_QUEUE": "64", "OTEL_SERVICE_NAME": "street",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("section", "facts", "said"),
    [
        ({}, {}, "which workspace"),
        (WHERE, {"name": "s" * 33}, "no name for Azure"),
        ({**WHERE, "options": ["8"]}, {}, "'8' is no option"),
    ],
)
def test_what_cannot_be_is_refused(section: dict[str, Any], facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        render("azureml", section, **facts)
