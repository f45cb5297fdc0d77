"""A container's environment chooses as the options do, and a mistake in it is told by the variable's name."""

import argparse
from pathlib import Path

import pytest

from ferryman.cli.serve_environment import find_bundles, take_environment
from ferryman.cli.serve_options import add_serve_options, settings_of
from ferryman.core.errors import UserError
from ferryman.server.settings import ServerSettings
from tests.cli.running import ferryman


def settings(*words: str, **environment: str) -> ServerSettings:
    parser = argparse.ArgumentParser()
    add_serve_options(parser)
    take_environment(parser, environment)
    return settings_of(parser.parse_args(words))


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({}, 8080),
        ({"PORT": "9001"}, 9001),
        ({"PORT": "9001", "AIP_HTTP_PORT": "9002"}, 9002),
        ({"PORT": "9001", "AIP_HTTP_PORT": "9002", "FERRYMAN_PORT": "9003"}, 9003),
        ({"FERRYMAN_PORT": "tcp://10.0.0.7:8080", "PORT": "9001"}, 9001),  # Kubernetes' own, for a Service of our name
        ({"PORT": ""}, 8080),
    ],
)
def test_the_port_is_the_platforms_unless_it_is_named(environment: dict[str, str], port: int) -> None:
    assert settings(**environment).port == port
    assert settings("--port", "7000", **environment).port == 7000


def test_every_kind_of_option_has_its_variable() -> None:
    chosen = settings(
        FERRYMAN_HOST="0.0.0.0", FERRYMAN_ADMIN_PORT="off", FERRYMAN_MAX_QUEUE="7", FERRYMAN_DRAIN_S="2.5",
        FERRYMAN_TRITON_METRICS="true", FERRYMAN_CORS="https://a.example, https://b.example", FERRYMAN_KEYS="/k",
        FERRYMAN_READY_WITH="any", FERRYMAN_ALLOW_BROKEN="0",
    )  # fmt: skip
    assert (chosen.host, chosen.admin_port, chosen.max_queue, chosen.drain_s) == ("0.0.0.0", None, 7, 2.5)
    assert chosen.triton_metrics and chosen.cors == ("https://a.example", "https://b.example")
    assert (chosen.keys, chosen.ready_with, chosen.allow_broken) == (Path("/k"), "any", False)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PORT", "http", "PORT is 'http': 'http' is no whole number"),
        ("AIP_HTTP_PORT", "70000", "AIP_HTTP_PORT is '70000': 70000 is no port"),
        ("FERRYMAN_READY_WITH", "most", "FERRYMAN_READY_WITH is 'most': it is one of all, any"),
        ("FERRYMAN_TRITON_METRICS", "perhaps", "FERRYMAN_TRITON_METRICS is 'perhaps'"),
        ("FERRYMAN_ADMIN_PORT", "none", "FERRYMAN_ADMIN_PORT is 'none'"),
    ],
)
def test_a_value_that_does_not_fit_is_told_by_its_variable(variable: str, value: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        settings(**{variable: value})
    assert told in str(caught.value) and caught.value.hint


def test_routes_are_vertexs_where_it_names_them() -> None:
    named = settings(AIP_HEALTH_ROUTE="/h", AIP_PREDICT_ROUTE="/p", AIP_ENDPOINT_ID="1", AIP_DEPLOYED_MODEL_ID="2")
    assert (named.health_route, named.infer_route) == ("/h", "/p")
    usual = settings(AIP_ENDPOINT_ID="1", AIP_DEPLOYED_MODEL_ID="2")
    assert usual.health_route == "/v1/endpoints/1/deployedModels/2"
    assert usual.infer_route == "/v1/endpoints/1/deployedModels/2:predict"
    assert (settings().health_route, settings().infer_route) == ("", "")


def bundle_at(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text("{}")
    return folder


def test_what_a_platform_mounts_goes_before_what_is_in_the_image(tmp_path: Path) -> None:
    own, mount, sagemaker = bundle_at(tmp_path / "own"), tmp_path / "azure", tmp_path / "sagemaker"
    environment = {"FERRYMAN_BUNDLE": str(own), "AZUREML_MODEL_DIR": str(mount)}
    assert find_bundles(environment, sagemaker=sagemaker) == [own]
    sagemaker.mkdir()
    (sagemaker / "notes.txt").write_text("no bundle")
    assert find_bundles(environment, sagemaker=sagemaker) == [own]
    (sagemaker / "model.ferry").write_text("")
    assert find_bundles(environment, sagemaker=sagemaker) == [sagemaker / "model.ferry"]
    inner = [bundle_at(mount / "street" / "1"), bundle_at(mount / "table")]
    assert find_bundles(environment, sagemaker=sagemaker) == inner
    assert find_bundles({}, sagemaker=bundle_at(tmp_path / "whole")) == [tmp_path / "whole"]


def test_nothing_to_serve_is_told_with_the_variable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing to serve") as caught:
        find_bundles({}, sagemaker=tmp_path / "nothing")
    assert "FERRYMAN_BUNDLE" in caught.value.hint
    with pytest.raises(UserError, match=r"FERRYMAN_BUNDLE is '/gone', and nothing is there"):
        find_bundles({"FERRYMAN_BUNDLE": "/gone"}, sagemaker=tmp_path / "nothing")


def test_the_command_tells_a_bundle_that_is_not_there_and_ends_with_2() -> None:
    told = ferryman("serve", FERRYMAN_BUNDLE="/gone", PORT="0")
    assert told.returncode == 2 and "error: FERRYMAN_BUNDLE is '/gone', and nothing is there" in told.stderr
    told = ferryman("serve", PORT="http")
    assert told.returncode == 2 and "error: PORT is 'http'" in told.stderr
