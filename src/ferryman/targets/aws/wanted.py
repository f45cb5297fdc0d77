"""All that SageMaker and CloudWatch are asked for, in their own requests: pure, and the same for every output."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferryman.core.errors import ConfigError
from ferryman.core.target import Landing
from ferryman.targets.aws.place import Place, place_of, role_of
from ferryman.targets.aws.settings import MEMORY_SIZES_MB, Autoscale, Rollout, SageMakerSection

Request = dict[str, Any]  # JSON

VARIANT = "main"
OWNER = "ferryman:service"
NAMESPACE = "sagemaker"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
ALARMS = ("errors", "latency")
_DIGITS = 12
_TYPES = {"all-at-once": "ALL_AT_ONCE", "canary": "CANARY", "linear": "LINEAR"}
_INSTANCES = "/aws/sagemaker/Endpoints"
# SIGKILL follows SIGTERM after 30 s (developer guide, "How SageMaker stops containers").
_ENVIRONMENT = {"FERRYMAN_UNREADY_S": "2", "FERRYMAN_DRAIN_S": "25", "FERRYMAN_LOG": "json"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hold the requests: each is what boto3's `create_*` or `put_*` of that name takes.

    Names of `model` and `config` end with the digest of all that they say, so that another is another, and equal ones
    are there already. `deployment` is how an endpoint that is there changes.
    """

    name: str
    place: Place
    tags: Mapping[str, str]
    model: Request
    config: Request
    endpoint: Request
    deployment: Request
    alarms: tuple[Request, ...]
    scaling: Request | None
    policy: Request | None

    @property
    def tags_of_others(self) -> Mapping[str, str]:
        """Give the tags of what another makes of rendered files: `apply` and `remove` leave that alone."""
        return {key: value for key, value in self.tags.items() if key != OWNER}


def want(landing: Landing, section: SageMakerSection) -> Wanted:
    """Say what a landing comes to; raises ConfigError for settings that don't go together."""
    name, place = landing.name, place_of(landing.image, section)
    tags = {**section.tags, OWNER: name, "ferryman:model": landing.model, "ferryman:bundle": landing.digest}
    model = _named("ModelName", name, _model(landing, section, place), landing.digest)
    config = _named("EndpointConfigName", name, _config(landing, section, model["ModelName"]), landing.digest)
    alarms = tuple(_alarms(landing, section))
    scaled = section.autoscale
    return Wanted(
        name=name,
        place=place,
        tags=tags,
        model=model,
        config=config,
        endpoint={"EndpointName": name, "EndpointConfigName": config["EndpointConfigName"]},
        deployment=_deployment(section.rollout, [*(one["AlarmName"] for one in alarms), *section.alarms.others]),
        alarms=alarms,
        scaling={**scaled_by(name), "MinCapacity": scaled.least, "MaxCapacity": scaled.most} if scaled else None,
        policy=_policy(name, scaled) if scaled else None,
    )


def scaled_by(name: str) -> Request:
    """Give what names an endpoint's number of instances to what scales it."""
    return {
        "ServiceNamespace": NAMESPACE,
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": DIMENSION,
    }


def policy_name(name: str) -> str:
    """Give the name of an endpoint's scaling policy."""
    return f"ferryman-{name}"


def alarm_name(name: str, what: str) -> str:
    """Give the name of one of an endpoint's alarms."""
    return f"ferryman-{name}-{what}"


def tag_list(tags: Mapping[str, str]) -> list[Request]:
    """Give tags as AWS takes them."""
    return [{"Key": key, "Value": tags[key]} for key in sorted(tags)]


def _named(key: str, name: str, request: Request, digest: str) -> Request:
    text = json.dumps([request, digest], sort_keys=True).encode()
    return {key: f"{name}-{hashlib.sha256(text).hexdigest()[:_DIGITS]}", **request}


def _model(landing: Landing, section: SageMakerSection, place: Place) -> Request:
    threads = {"FERRYMAN_THREADS": str(landing.threads)} if landing.threads else {}
    said = {**_ENVIRONMENT, **threads, **section.env}
    container = {"Image": str(place.image), "Environment": {key: said[key] for key in sorted(said)}}
    request: Request = {"ExecutionRoleArn": role_of(section), "PrimaryContainer": container}
    if section.serverless is None and not section.allow_out:
        request["EnableNetworkIsolation"] = True
    if section.network:
        groups = list(section.network.security_groups)
        request["VpcConfig"] = {"SecurityGroupIds": groups, "Subnets": list(section.network.subnets)}
    return request


def _config(landing: Landing, section: SageMakerSection, model: str) -> Request:
    variant = {"VariantName": VARIANT, "ModelName": model, "InitialVariantWeight": 1.0}
    if section.serverless:
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": section.serverless.memory_mb or _memory(landing),
            "MaxConcurrency": section.serverless.concurrency,
            **({"ProvisionedConcurrency": section.serverless.provisioned} if section.serverless.provisioned else {}),
        }
    else:
        count = section.autoscale.least if section.autoscale else section.instances
        variant |= {"InstanceType": section.instance_type, "InitialInstanceCount": count}
    if section.start_s:
        variant["ContainerStartupHealthCheckTimeoutInSeconds"] = section.start_s
    request: Request = {"ProductionVariants": [variant]}
    if section.kms_key:
        request["KmsKeyId"] = section.kms_key
    if section.capture:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": section.capture.percent,
            "DestinationS3Uri": section.capture.to,
            **({"KmsKeyId": section.capture.kms_key} if section.capture.kms_key else {}),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
    return request


def _memory(landing: Landing) -> int:
    fits = [size for size in MEMORY_SIZES_MB if size >= landing.memory_mb]
    if not fits:
        raise ConfigError(
            f"{landing.name} may take {landing.memory_mb} MiB: no serverless endpoint has over {MEMORY_SIZES_MB[-1]}",
            hint="take instances: leave [serverless] out and name an instance_type",
        )
    return fits[0]


def _deployment(rollout: Rollout, alarms: list[str]) -> Request:
    size = {"Type": "CAPACITY_PERCENT", "Value": rollout.percent}
    step = {"canary": {"CanarySize": size}, "linear": {"LinearStepSize": size}}.get(rollout.by, {})
    policy = {
        "TrafficRoutingConfiguration": {
            "Type": _TYPES[rollout.by], "WaitIntervalInSeconds": rollout.wait_s, **step,
        },
        "TerminationWaitInSeconds": rollout.keep_old_s,
        "MaximumExecutionTimeoutInSeconds": rollout.limit_s,
    }  # fmt: skip
    back = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in alarms]}} if alarms else {}
    return {"BlueGreenUpdatePolicy": policy, **back}


def _alarms(landing: Landing, section: SageMakerSection) -> list[Request]:
    errors, p99_ms = section.alarms.errors_percent, section.alarms.p99_ms or landing.p99_ms
    common = {
        "Namespace": "AWS/SageMaker",
        "Dimensions": _dimensions(landing.name),
        "Period": 60,
        "EvaluationPeriods": section.alarms.minutes,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    found: list[Request] = []
    if errors:  # its average over the requests is the share of 5xx
        found.append(
            {
                "AlarmName": alarm_name(landing.name, ALARMS[0]),
                "AlarmDescription": f"{landing.name}: over {errors:g} % of the answers are 5xx",
                "MetricName": "Invocation5XXErrors", "Statistic": "Average", "Threshold": errors / 100, **common,
            }
        )  # fmt: skip
    if p99_ms:  # in microseconds
        found.append(
            {
                "AlarmName": alarm_name(landing.name, ALARMS[1]),
                "AlarmDescription": f"{landing.name}: p99 over {p99_ms:g} ms",
                "MetricName": "ModelLatency", "ExtendedStatistic": "p99", "Threshold": p99_ms * 1000, **common,
            }
        )  # fmt: skip
    return found


def _dimensions(name: str) -> list[Request]:
    return [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": VARIANT}]


def _policy(name: str, autoscale: Autoscale) -> Request:
    if autoscale.by == "cpu":
        metric: Request = {
            "TargetValue": autoscale.cpu_percent,
            "CustomizedMetricSpecification": {
                "MetricName": "CPUUtilization", "Namespace": _INSTANCES, "Dimensions": _dimensions(name),
                "Statistic": "Average", "Unit": "Percent",
            },
        }  # fmt: skip
    else:
        kind = "SageMakerVariantInvocationsPerInstance"
        metric = {
            "TargetValue": autoscale.per_minute,
            "PredefinedMetricSpecification": {"PredefinedMetricType": kind},
        }
    return {
        "PolicyName": policy_name(name),
        **scaled_by(name),
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            **metric, "ScaleInCooldown": autoscale.in_s, "ScaleOutCooldown": autoscale.out_s,
        },
    }  # fmt: skip
