"""SageMaker: the template, Terraform's text, and settings that don't go together."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import jsonschema_rs
import pytest
import yaml

from ferryman.core.deployment import deployment_schema
from ferryman.core.errors import ConfigError, ImageError
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import DOCKER_MANIFEST, Descriptor
from ferryman.oci.image import read_image, read_manifest
from ferryman.targets.aws.docker_manifest import as_docker
from tests.bundle.making import bundle_affine
from tests.oci.making import make_image, run
from tests.ports import free_port
from tests.server.platforms import started_by
from tests.targets.aws_cloud import ACCOUNT, REGION, Cloud, cloud
from tests.targets.aws_making import EVERYTHING, ROLE, sagemaker
from tests.targets.making import IMAGE, landing


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with cloud(monkeypatch) as one:
        yield one


@pytest.mark.parametrize(
    ("image", "settings", "said"),
    [
        (IMAGE, {"region": ""}, "no AWS region is named"),
        (IMAGE, {"role": ""}, "no role is named"),
        (IMAGE, {"repository": ""}, "is not in ECR"),
        (IMAGE, {"repository": "elsewhere.example.com/street"}, "is not ECR in eu-central-1"),
        (IMAGE, {"repository": f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/street"}, "is not ECR in eu-central-1"),
        ("localhost/street:1", {}, "is in no registry"),
    ],
)
def test_what_is_missing_is_told_with_the_way_out(image: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        sagemaker(**settings).render(landing(image=image))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ({"repository": "street.models"}, f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/street.models:"),
        (
            {"region": "cn-north-1", "role": f"arn:aws-cn:iam::{ACCOUNT}:role/ferryman"},
            f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn/street:",
        ),
        (
            {"region": "eusc-de-east-1", "role": f"arn:aws-eusc:iam::{ACCOUNT}:role/ferryman"},
            f"{ACCOUNT}.dkr.ecr.eusc-de-east-1.amazonaws.eu/street:",
        ),
    ],
    ids=["dots", "china", "sovereign"],
)
def test_the_image_goes_where_ecr_is_for_the_roles_partition(settings: dict[str, Any], there: str) -> None:
    template = yaml.safe_load(sagemaker(**settings).render(landing())["template.yaml"])
    assert template["Resources"]["Model"]["Properties"]["PrimaryContainer"]["Image"].startswith(there)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rollout": {"by": "linear", "percent": 5}}, "linear takes 10 to 50"),
        ({"rollout": {"by": "linear", "percent": 10, "wait_s": 3600}}, "10 steps of 3600 s"),
        ({"serverless": {}, "autoscale": {}}, "serverless endpoints take no autoscale"),
        ({"serverless": {"memory_mb": 1500}}, "serverless.memory_mb"),
        ({"serverless": {"concurrency": 2, "provisioned": 3}}, "provisioned = 3 is over concurrency = 2"),
        ({"autoscale": {"least": 5}}, "least = 5 is over most = 4"),
        ({"instance_type": "m5.large"}, "instance_type"),
        ({"role": "ferryman"}, "role"),
        ({"region": "Frankfurt"}, "region"),
    ],
)
def test_settings_that_dont_go_together_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sagemaker(**settings)


def test_a_serverless_endpoint_gets_the_smallest_memory_that_fits() -> None:
    template = yaml.safe_load(sagemaker(serverless={}).render(landing(memory_mb=1500))["template.yaml"])
    [variant] = template["Resources"]["EndpointConfig"]["Properties"]["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 20}
    with pytest.raises(ConfigError, match="no serverless endpoint has over 6144"):
        sagemaker(serverless={}).render(landing(memory_mb=7000))


def test_templates_pass_cloudformations_linter_which_sees_mistakes(tmp_path: Path) -> None:
    for number, settings in enumerate([{}, EVERYTHING, {"serverless": {"provisioned": 1}}]):
        [text] = sagemaker(**settings).render(landing(p99_ms=30.0, threads=2)).values()
        (tmp_path / f"{number}.yaml").write_text(text)
    (tmp_path / "wrong.yaml").write_text(text.replace("MaxConcurrency", "MostConcurrency"))
    command = [str(Path(sys.executable).parent / "cfn-lint"), "--regions", REGION, "--format", "json", "--"]
    done = subprocess.run([*command, *sorted(tmp_path.glob("*.yaml"))], capture_output=True, text=True, timeout=120)
    found = json.loads(done.stdout)
    assert {Path(one["Filename"]).name for one in found} == {"wrong.yaml"}, found
    assert any("MostConcurrency" in one["Message"] for one in found)


@pytest.mark.filterwarnings("ignore:Tried to parse AWS:UserWarning")  # moto makes no alarms and no scaling of templates
def test_cloudformation_makes_the_endpoint_of_the_template(aws: Cloud) -> None:
    [text] = sagemaker(**EVERYTHING).render(landing(p99_ms=30.0)).values()
    client = aws.client("cloudformation")
    client.create_stack(StackName="street", TemplateBody=text)
    [stack] = client.describe_stacks()["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    [model] = aws.models()
    assert model["PrimaryContainer"]["Environment"]["OTEL_SERVICE_NAME"] == "street ${x} %{y}"
    [config] = aws.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]
    told = aws.client("sagemaker").describe_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    assert told["ProductionVariants"][0]["ModelName"] == model["ModelName"]
    assert (
        stack["Outputs"][0]["OutputValue"] == aws.client("sagemaker").list_endpoints()["Endpoints"][0]["EndpointName"]
    )


@pytest.mark.parametrize("settings", [{}, EVERYTHING, {"serverless": {"provisioned": 1}}])
def test_terraforms_text_is_parsed_and_says_what_the_template_says(settings: dict[str, Any]) -> None:
    one = landing(p99_ms=30.0, threads=2)
    [text] = sagemaker(**settings, output="terraform").render(one).values()
    read = hcl2.loads(text, serialization_options=hcl2.SerializationOptions(strip_string_quotes=True))
    resources = blocks(read["resource"])
    [template] = sagemaker(**settings).render(one).values()
    properties = {key: value["Properties"] for key, value in yaml.safe_load(template)["Resources"].items()}
    model, config = (
        resources["aws_sagemaker_model"]["model"],
        resources["aws_sagemaker_endpoint_configuration"]["config"],
    )
    assert model["name"] == properties["Model"]["ModelName"]
    assert config["name"] == properties["EndpointConfig"]["EndpointConfigName"]
    assert config["production_variants"][0]["model_name"] == "${aws_sagemaker_model.model.name}"
    said = properties["Model"]["PrimaryContainer"]["Environment"]
    escaped = {key: value.replace("${", "$${").replace("%{", "%%{") for key, value in said.items()}
    assert model["primary_container"][0]["environment"] == escaped
    routed = resources["aws_sagemaker_endpoint"]["endpoint"]["deployment_config"][0]
    alarms = [alarm["alarm_name"] for alarm in routed["auto_rollback_configuration"][0]["alarms"]]
    assert len(alarms) == len(properties["Endpoint"]["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"])
    assert set(resources["aws_cloudwatch_metric_alarm"]) == {"errors", "latency"}
    assert ("aws_appautoscaling_policy" in resources) == ("autoscale" in settings)
    assert "ferryman:service" not in text + template, "what others made is not for `apply` and `remove` to touch"


def blocks(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give resources by kind and name."""
    whole: dict[str, dict[str, Any]] = {}
    for one in found:
        for kind, named in one.items():
            whole.setdefault(kind, {}).update(named)
    return whole


def test_our_server_does_as_the_models_environment_says(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")
    template = yaml.safe_load(sagemaker().render(landing(threads=1))["template.yaml"])
    told = template["Resources"]["Model"]["Properties"]["PrimaryContainer"]["Environment"]
    image = {"FERRYMAN_BUNDLE": str(tmp_path / "affine"), "FERRYMAN_ADMIN_PORT": "off"}
    port = free_port()
    with started_by({**image, **told, "PORT": str(port)}, port=port) as server:
        assert server.ask("GET", "/ping")[:2] == (200, b"")
        body = json.dumps({"instances": [[1.0, 2.0, 3.0]]}).encode()
        status, answer, _ = server.ask("POST", "/invocations", body, {"Content-Type": "application/json"})
        assert (status, answer) == (200, {"predictions": [[3.0, 5.0, 7.0]]})
        assert '"level": "INFO"' in server.log(), "CloudWatch gets JSON lines"
        assert server.stop(timeout_s=28) == 0, "SageMaker kills what is left after 30 s"


def test_rendering_needs_no_package_of_aws_and_gives_equal_bytes() -> None:
    said = "import sys\nsys.modules['boto3'] = None\nfrom tests.targets.making import render\n"
    settings = {"region": REGION, "role": ROLE, "repository": "street", **EVERYTHING}
    code = f"{said}one = [render('sagemaker', {settings!r}) for _ in range(2)]\nassert one[0] == one[1] and one[0]"
    run(sys.executable, "-c", code, folder=Path(__file__).parents[2])


def test_an_image_is_written_again_in_dockers_words_and_stays_the_same(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    made = make_image(blobs)
    docker = as_docker(blobs, made)
    assert docker.media_type == DOCKER_MANIFEST and as_docker(blobs, docker) == docker
    before, after = read_image(blobs, made), read_image(blobs, docker)
    assert (after.config, after.diff_ids, after.platform) == (before.config, before.diff_ids, before.platform)


def test_a_layer_that_dockers_format_has_no_word_for_is_refused(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    made = make_image(blobs)
    raw = read_manifest(blobs, made)
    raw["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"
    with pytest.raises(ImageError, match=r"no parts of type application/vnd\.oci\.image\.layer\.v1\.tar\+zstd"):
        as_docker(blobs, Descriptor(made.media_type, *blobs.add_json(raw)))


def test_the_schema_of_the_project_takes_what_the_section_takes() -> None:
    schema = jsonschema_rs.validator_for(deployment_schema())
    whole: dict[str, Any] = {"model": {"name": "m", "source": "m.onnx"}, "task": {"kind": "tensor"}}
    schema.validate({**whole, "targets": {"aws": {"kind": "sagemaker", **EVERYTHING}}})
    wrong = {"kind": "sagemaker", "autoscale": {"by": "keda"}}  # another kind's own table of that name has this
    assert not schema.is_valid({**whole, "targets": {"aws": wrong}})
