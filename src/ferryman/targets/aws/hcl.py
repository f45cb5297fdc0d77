"""Terraform's resources of the provider hashicorp/aws: the requests, in its words."""

import re
from collections.abc import Mapping
from typing import Any

from ferryman.targets.aws.wanted import Request, Wanted, scaled_by
from ferryman.targets.terraform import Block, Expression, write_terraform

FILE = "main.tf"
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MAPS = ("Environment",)
_LIFECYCLE = Block("lifecycle", attributes={"create_before_destroy": True})


def terraform(wanted: Wanted) -> str:
    """Give main.tf: versions, the provider, and a resource for each request."""
    tags = dict(sorted(wanted.tags_of_others.items()))
    alarms = {one["AlarmName"].rpartition("-")[2]: one for one in wanted.alarms}
    own = {one["AlarmName"]: f"aws_cloudwatch_metric_alarm.{key}.alarm_name" for key, one in alarms.items()}
    provider = {"source": "hashicorp/aws", "version": ">= 5.0"}
    blocks = [
        Block("terraform", blocks=(Block("required_providers", attributes={"aws": provider}),)),
        Block("provider", ("aws",), {"region": wanted.place.region}),
        _named("aws_sagemaker_model", "model", _renamed(wanted.model, "ModelName"), tags, last=_LIFECYCLE),
        _named("aws_sagemaker_endpoint_configuration", "config", _config(wanted), tags, last=_LIFECYCLE),
        *(_alarm(key, one, tags) for key, one in alarms.items()),
        _named("aws_sagemaker_endpoint", "endpoint", _endpoint(wanted, own), tags),
        *_scaling(wanted),
        Block("output", ("endpoint",), {"value": Expression("aws_sagemaker_endpoint.endpoint.name")}),
    ]
    return write_terraform(blocks)


def _config(wanted: Wanted) -> Request:
    config = _renamed(wanted.config, "EndpointConfigName")
    if "KmsKeyId" in config:
        config["KmsKeyArn"] = config.pop("KmsKeyId")
    model = Expression("aws_sagemaker_model.model.name")
    config["ProductionVariants"] = [{**one, "ModelName": model} for one in config["ProductionVariants"]]
    return config


def _endpoint(wanted: Wanted, own: Mapping[str, str]) -> Request:
    endpoint = _renamed(wanted.endpoint, "EndpointName")
    endpoint["EndpointConfigName"] = Expression("aws_sagemaker_endpoint_configuration.config.name")
    deployment = dict(wanted.deployment)
    if back := deployment.pop("AutoRollbackConfiguration", None):
        named = [one["AlarmName"] for one in back["Alarms"]]
        alarms = [{"AlarmName": Expression(own[name]) if name in own else name} for name in named]
        deployment["AutoRollbackConfiguration"] = {"Alarms": alarms}
    return {**endpoint, "DeploymentConfig": deployment}


def _alarm(key: str, alarm: Request, tags: Mapping[str, str]) -> Block:
    said = {_snake(name): value for name, value in alarm.items() if name != "Dimensions"}
    said["dimensions"] = {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
    return Block("resource", ("aws_cloudwatch_metric_alarm", key), {**said, "tags": tags})


def _scaling(wanted: Wanted) -> list[Block]:
    if not (wanted.scaling and wanted.policy):
        return []
    there = wanted.scaling["ResourceId"].replace(f"/{wanted.name}/", "/${aws_sagemaker_endpoint.endpoint.name}/")
    scaling = {**wanted.scaling, "ResourceId": Expression(f'"{there}"')}
    policy = _renamed(wanted.policy, "PolicyName")
    for key in scaled_by(wanted.name):
        policy[key] = Expression(f"aws_appautoscaling_target.scaling.{_snake(key)}")
    return [
        _named("aws_appautoscaling_target", "scaling", scaling),
        _named("aws_appautoscaling_policy", "scaling", policy),
    ]


def _renamed(request: Request, key: str) -> Request:
    """Call by `name` what the API calls by the kind's own word."""
    return {("Name" if name == key else name): value for name, value in request.items()}


def _named(
    kind: str, name: str, request: Request, tags: Mapping[str, str] | None = None, *, last: Block | None = None
) -> Block:
    whole = _block("resource", request, (kind, name))
    attributes = {**whole.attributes, **({"tags": tags} if tags else {})}
    return Block("resource", (kind, name), attributes, (*whole.blocks, *((last,) if last else ())))


def _block(kind: str, request: Request, labels: tuple[str, ...] = ()) -> Block:
    """Make a block of a request: tables within it are blocks, and lists of tables several of one name."""
    attributes: dict[str, Any] = {}  # JSON
    inner: list[Block] = []
    for key, value in request.items():
        tables = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
        if key not in _MAPS and tables and isinstance(tables[0], dict):
            inner += [_block(_snake(key), table) for table in tables]
        else:
            attributes[_snake(key)] = value
    return Block(kind, labels, attributes, tuple(inner))


def _snake(key: str) -> str:
    return _WORD.sub("_", key).lower()
