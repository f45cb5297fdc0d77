"""SageMaker: what becomes of an endpoint in moto's AWS, over HTTP, through boto3."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.errors import ConfigError, DeployError, FerrymanError, NotInRegistry
from ferryman.core.progress import silent
from ferryman.core.target import Change, Landing
from ferryman.oci.auth import Credentials
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import DOCKER_MANIFEST
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.targets.aws import account
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman
from tests.oci.making import make_image, make_index, run
from tests.oci.registries import docker_registry
from tests.ports import free_port
from tests.targets.aws_cloud import ACCOUNT, PING, REGION, Cloud, cloud
from tests.targets.aws_making import ROLE, sagemaker
from tests.targets.making import landing

_HTPASSWD = "AWS:$2b$04$abcdefghijklmnopqrstuu/cMn6kFoLFEf9ShbIPSVtJoiKQtizZG\n"  # moto's token for that account


@pytest.fixture(scope="module")
def source_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("source")) as host:
        yield host


@pytest.fixture(scope="module")
def ecr_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ecr")
    (folder / "htpasswd").write_text(_HTPASSWD)
    with docker_registry(folder, {"htpasswd": {"realm": "ecr", "path": str(folder / "htpasswd")}}) as host:
        yield host


@pytest.fixture(scope="module")
def images(source_host: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Give three images in a registry, by digest; the last is an index of two platforms."""
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    made = [make_image(blobs, b"one\n"), make_image(blobs, b"two\n"), make_index(blobs, b"three\n")]
    names = []
    with Registry(source_host) as registry:
        for number, image in enumerate(made):
            reference = Reference.parse(f"{source_host}/factory/street:{number}")
            registry.push(blobs, image, reference)
            names.append(str(reference.pinned(image.digest)))
    return names


@pytest.fixture
def aws(ecr_host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with cloud(monkeypatch) as one:
        one.proxy = f"http://{ecr_host}"
        yield one


def apply(one: Landing, dry_run: bool = False, **settings: Any) -> list[Change]:
    changes: list[Change] = sagemaker(**settings).apply(one, dry_run=dry_run, progress=silent)
    return changes


def moves(changes: list[Change]) -> list[str]:
    return [f"{change.move} {change.what.partition(' street-')[0]}" for change in changes]


@pytest.mark.tool("docker-registry")
def test_apply_copies_the_image_makes_everything_and_the_second_time_changes_nothing(
    aws: Cloud, images: list[str]
) -> None:
    first = landing(image=images[0], p99_ms=50.0)
    planned = apply(first, dry_run=True)
    assert aws.client("sagemaker").list_models()["Models"] == []
    assert apply(first) == planned
    assert sagemaker().status("street").is_ready
    assert {change.move for change in apply(first)} == {"keep"}


@pytest.mark.tool("docker-registry", "skopeo")
def test_what_lies_in_ecr_is_the_same_image_as_docker_writes_it(
    aws: Cloud, ecr_host: str, images: list[str], source_host: str
) -> None:
    apply(landing(image=images[1]), serverless={})
    tag = f"street:amd64-{images[1].rpartition(':')[2]}"
    [model] = aws.models()
    assert model["PrimaryContainer"]["Image"] == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{tag}"
    seen = []
    for name, login in ((f"{ecr_host}/{tag}", ["--creds", f"AWS:{ACCOUNT}-auth-token"]), (images[1], [])):
        told = run("skopeo", "inspect", "--raw", "--tls-verify=false", *login, f"docker://{name}")
        seen.append(json.loads(told))
    assert seen[0]["mediaType"] == seen[0]["config"]["mediaType"].replace(
        "container.image.v1", "distribution.manifest.v2"
    )
    assert [one["digest"] for one in seen[0]["layers"]] == [one["digest"] for one in seen[1]["layers"]]
    assert seen[0]["config"]["digest"] == seen[1]["config"]["digest"]


@pytest.mark.tool("docker-registry")
@pytest.mark.parametrize(("instance_type", "architecture"), [("ml.m5.large", "amd64"), ("ml.c7g.xlarge", "arm64")])
def test_of_an_index_the_image_of_the_instances_processor_is_taken(
    instance_type: str, architecture: str, aws: Cloud, ecr_host: str, images: list[str]
) -> None:
    apply(landing(image=images[2]), instance_type=instance_type, repository=f"of-{architecture}")
    with Registry(ecr_host, auth=Credentials("AWS", f"{ACCOUNT}-auth-token")) as registry:
        raw, [config, *_] = registry.read(
            Reference.parse(f"{ecr_host}/{aws.models()[0]['PrimaryContainer']['Image'].partition('/')[2]}")
        )
        blobs = Blobs(Path(os.environ["XDG_CACHE_HOME"]))
        registry.pull_blob(Reference(ecr_host, f"of-{architecture}"), config, blobs)
    assert raw["mediaType"] == DOCKER_MANIFEST
    assert blobs.read_json(config.digest)["architecture"] == architecture


@pytest.mark.tool("docker-registry")
def test_a_new_version_goes_over_blue_green_and_the_last_one_is_kept_to_go_back_to(
    aws: Cloud, images: list[str]
) -> None:
    rollout = {"by": "linear", "percent": 20, "wait_s": 60, "keep_old_s": 30}
    for number in (0, 1, 2):
        apply(landing(image=images[number], p99_ms=50.0), rollout=rollout)
    assert [model["PrimaryContainer"]["Image"][-64:] for model in aws.models()] == [name[-64:] for name in images[1:]]
    routed = aws.updates[-1]["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert routed["TrafficRoutingConfiguration"]["LinearStepSize"] == {"Type": "CAPACITY_PERCENT", "Value": 20}
    assert routed["MaximumExecutionTimeoutInSeconds"] >= 5 * 60 + 30
    back = apply(landing(image=images[1], p99_ms=50.0), rollout=rollout)
    assert "create" not in {change.move for change in back}, "what it goes back to is there already"
    assert aws.endpoint().endpoint_config_name == aws.updates[-1]["EndpointConfigName"]


@pytest.mark.tool("docker-registry")
def test_a_plan_shows_the_lines_that_differ_and_changes_nothing(aws: Cloud, images: list[str]) -> None:
    apply(landing(image=images[0]))
    calls = len(aws.calls)
    [change] = [
        one for one in apply(landing(image=images[1]), dry_run=True, instances=3) if one.what == "endpoint street"
    ]
    assert f'+  Image: "{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/street:amd64-{images[1][-64:]}"' in change.diff
    assert "+  - InitialInstanceCount: 3" in change.diff
    assert not [call for call in aws.calls[calls:] if not call.startswith(("Describe", "List", "GetAuth"))]


@pytest.mark.tool("docker-registry")
def test_an_alarm_brings_the_old_version_back_and_apply_says_why(aws: Cloud, images: list[str]) -> None:
    first = landing(image=images[0], p99_ms=50.0)
    apply(first)
    aws.ends, before = ["RolledBack"], aws.models()
    aws.ring("ferryman-street-latency", "Threshold Crossed: 2 datapoints were greater than 50000.0")
    with pytest.raises(DeployError, match=r"(?s)taken back.*p99 over 50 ms: Threshold Crossed: 2") as caught:
        apply(landing(image=images[1], p99_ms=50.0))
    assert "ferryman deploy logs" in caught.value.hint
    assert aws.models() == before, "what nothing runs is taken away again"
    assert {change.move for change in apply(first)} == {"keep"}


@pytest.mark.tool("docker-registry")
def test_an_endpoint_that_never_came_up_is_made_anew(aws: Cloud, images: list[str]) -> None:
    aws.ends = ["Failed"]
    with pytest.raises(DeployError, match=f"Failed: {PING}"):
        apply(landing(image=images[0]))
    standing = sagemaker().status("street")
    assert not standing.is_ready and standing.notes == (f"Failed: {PING}",)
    done = apply(landing(image=images[1]))
    assert f"remove endpoint street, which has failed: {PING}" in moves(done) and "create endpoint street" in moves(
        done
    )
    assert sagemaker().status("street").is_ready
    assert [model["PrimaryContainer"]["Image"][-64:] for model in aws.models()] == [images[1][-64:]]


@pytest.mark.tool("docker-registry")
def test_an_endpoint_between_two_versions_is_brought_to_the_wanted_one(aws: Cloud, images: list[str]) -> None:
    apply(landing(image=images[0]))
    aws.ends = ["UpdateRollbackFailed"]
    with pytest.raises(DeployError, match="UpdateRollbackFailed"):
        apply(landing(image=images[1]))
    assert not sagemaker().status("street").is_ready
    apply(landing(image=images[0]))
    assert sagemaker().status("street").is_ready


@pytest.mark.tool("docker-registry")
def test_what_scales_it_is_put_changed_and_taken_off(aws: Cloud, images: list[str]) -> None:
    one = landing(image=images[0])
    apply(one, autoscale={"least": 2, "most": 5})
    assert aws.endpoint().production_variants[0]["CurrentInstanceCount"] == 2
    scaling = aws.client("application-autoscaling")
    [bounds] = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (bounds["MinCapacity"], bounds["MaxCapacity"]) == (2, 5)
    assert {change.move for change in apply(one, autoscale={"least": 2, "most": 5})} == {"keep"}
    done = apply(one, autoscale={"least": 2, "most": 9, "by": "cpu", "cpu_percent": 250})
    assert [change.what for change in done if change.move != "keep"] == ["scaling of street"]
    [policy] = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    told = policy["TargetTrackingScalingPolicyConfiguration"]
    assert told["TargetValue"] == 250 and told["CustomizedMetricSpecification"]["MetricName"] == "CPUUtilization"
    apply(landing(image=images[1]), autoscale={"least": 2, "most": 9, "by": "cpu", "cpu_percent": 250})
    assert aws.updates[-1]["RetainAllVariantProperties"] is True, "its number of instances is not ours to reset"
    apply(landing(image=images[1]), instances=2)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


@pytest.mark.tool("docker-registry")
def test_alarms_and_tags_follow_the_settings_without_a_new_version(aws: Cloud, images: list[str]) -> None:
    apply(landing(image=images[0], p99_ms=50.0))
    settings: dict[str, Any] = {"alarms": {"errors_percent": 5.0, "minutes": 3}, "tags": {"team": "vision"}}
    done = apply(landing(image=images[0]), **settings)
    assert [(change.move, change.what) for change in done if change.move != "keep"] == [
        ("change", "alarm ferryman-street-errors"),
        ("remove", "alarm ferryman-street-latency"),
        ("change", "tags of street"),
    ]
    [alarm] = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (0.05, 3)
    assert {change.move for change in apply(landing(image=images[0]), **settings)} == {"keep"}


@pytest.mark.tool("docker-registry")
def test_remove_takes_away_what_was_made_and_nothing_else(aws: Cloud, images: list[str]) -> None:
    others = aws.client("sagemaker")
    others.create_model(ModelName="street-0123456789ab", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "x"})
    for number in (0, 1):
        apply(landing(image=images[number], p99_ms=50.0), autoscale={})
    settings = sagemaker(autoscale={})
    planned = settings.remove("street", dry_run=True, progress=silent)
    assert sagemaker().status("street").is_ready
    assert settings.remove("street", dry_run=False, progress=silent) == planned
    assert sorted(moves(planned)) == [
        "remove alarm ferryman-street-errors", "remove alarm ferryman-street-latency", "remove endpoint configuration",
        "remove endpoint configuration", "remove endpoint street", "remove model", "remove model",
        "remove scaling of street",
    ]  # fmt: skip
    assert not settings.status("street").is_there
    assert [model["ModelName"] for model in aws.models()] == ["street-0123456789ab"]
    assert aws.client("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert settings.remove("street", dry_run=False, progress=silent) == []


@pytest.mark.tool("docker-registry")
@pytest.mark.parametrize("what", ["endpoint", "alarm"])
def test_what_another_made_under_this_name_is_refused(what: str, aws: Cloud, images: list[str]) -> None:
    if what == "endpoint":
        apply(landing(image=images[0]))
        arn = aws.endpoint().arn
        aws.client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=["ferryman:service"])
    else:
        aws.client("cloudwatch").put_metric_alarm(
            AlarmName="ferryman-street-errors", Namespace="x", MetricName="y", Period=60, EvaluationPeriods=1,
            Threshold=1.0, ComparisonOperator="GreaterThanThreshold", Statistic="Sum",
        )  # fmt: skip
    with pytest.raises(DeployError, match=f"an {what} .*street.* that Ferryman didn't make"):
        apply(landing(image=images[0]))


@pytest.mark.tool("docker-registry")
def test_logs_are_the_last_lines_of_every_container(aws: Cloud, images: list[str]) -> None:
    with pytest.raises(DeployError, match="no log group /aws/sagemaker/Endpoints/street"):
        list(sagemaker().logs("street", lines=2))
    logs, group = aws.client("logs"), "/aws/sagemaker/Endpoints/street"
    logs.create_log_group(logGroupName=group)
    now = int(time.time() * 1000)
    for stream in ("main/i-1", "main/i-2"):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        events = [{"timestamp": now + number, "message": f"line {number}\n"} for number in range(3)]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    assert list(sagemaker().logs("street", lines=2)) == [
        "main/i-1: line 1", "main/i-1: line 2", "main/i-2: line 1", "main/i-2: line 2",
    ]  # fmt: skip


@pytest.mark.tool("docker-registry")
def test_throttling_is_waited_out_and_told_where_it_lasts(
    aws: Cloud, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.refusals = [("ThrottlingException", "Rate exceeded")] * 2
    apply(landing(image=images[0]))
    assert sagemaker().status("street").is_ready
    monkeypatch.setattr(account, "_TRIES", 2)
    aws.refusals = [("ThrottlingException", "Rate exceeded")] * 100
    with pytest.raises(DeployError, match="ThrottlingException: Rate exceeded") as caught:
        apply(landing(image=images[1]))
    assert "apply again in a minute" in caught.value.hint


def test_a_quota_is_not_taken_for_a_matter_of_waiting(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "_TRIES", 1)
    aws.refusals = [("LimitExceededException", "a service limit for your account is exceeded")]
    with pytest.raises(DeployError, match="LimitExceededException") as caught:
        sagemaker().status("street")
    assert "Service Quotas" in caught.value.hint


def test_without_credentials_the_way_to_log_in_is_told(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="Unable to locate credentials") as caught:
        sagemaker().status("street")
    assert "aws sso login" in caught.value.hint
    with pytest.raises(ConfigError, match=r"profile \(nobody\) could not be found"):
        sagemaker(profile="nobody").status("street")


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (
            "AccessDeniedException",
            "User: ada is not authorized to perform: sagemaker:DescribeEndpoint",
            "ask for the right",
        ),
        ("UnrecognizedClientException", "The security token included in the request is invalid.", "aws sso login"),
        ("ExpiredTokenException", "The security token included in the request is expired", "aws sso login"),
    ],
)
def test_who_may_not_is_told_what_to_do(code: str, message: str, said: str, aws: Cloud) -> None:
    aws.refusals = [(code, message)]
    with pytest.raises(FerrymanError, match=f"AWS refuses sagemaker: describe_endpoint: {code}: {message}") as caught:
        sagemaker().status("street")
    assert said in caught.value.hint


@pytest.mark.tool("docker-registry")
def test_a_role_that_cant_be_taken_on_is_told(aws: Cloud, images: list[str]) -> None:
    apply(landing(image=images[0]))
    aws.refusals = [
        ("ValidationException", f"Could not assume role {ROLE}. Please ensure that the role exists"),
    ]
    with pytest.raises(DeployError, match="Could not assume role") as caught:
        sagemaker().status("street")
    assert "trust sagemaker.amazonaws.com" in caught.value.hint


def test_an_address_that_doesnt_answer_is_told(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "_TRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DeployError, match="AWS doesn't answer"):
        sagemaker().status("street")


@pytest.mark.tool("docker-registry")
def test_an_image_that_isnt_there_stops_before_anything_is_made(aws: Cloud, source_host: str) -> None:
    with pytest.raises(NotInRegistry, match="factory/street"):
        apply(landing(image=f"{source_host}/factory/street@sha256:{'e' * 64}"))
    assert aws.models() == [] and not sagemaker().status("street").is_there


@pytest.mark.tool("docker-registry")
def test_the_command_line_applies_and_says_who_must_log_in(aws: Cloud, images: list[str], tmp_path: Path) -> None:
    bundle_affine(tmp_path / "dist" / "affine")
    words = [f'{key} = "{value}"' for key, value in {"region": REGION, "role": ROLE, "repository": "affine"}.items()]
    (tmp_path / "ferryman.toml").write_text(
        '[model]\nname = "affine"\nsource = "affine.onnx"\n[task]\nkind = "tensor"\n[targets.sagemaker]\n'
        + "\n".join([f'image = "{images[0].partition("@")[0]}:0"', *words])
    )
    done, again = (ferryman("deploy", "apply", "sagemaker", "--quiet", folder=tmp_path) for _ in range(2))
    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    assert done.stdout.endswith("6 created\n") and again.stdout.endswith("nothing to change\n")
    assert sagemaker().status("affine").is_ready
    lost = ferryman("deploy", "status", "sagemaker", folder=tmp_path, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert lost.returncode == 2 and "hint: log in again" in lost.stderr and "Traceback" not in lost.stderr
