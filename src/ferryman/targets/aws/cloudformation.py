"""A CloudFormation template: the requests as resources that refer to each other."""

from typing import Any

from ferryman.targets.aws.wanted import Request, Wanted, scaled_by, tag_list
from ferryman.targets.yaml import write_yaml

FILE = "template.yaml"


def template(wanted: Wanted) -> str:
    """Give the template. An endpoint that it made is changed by it again, in the same steps as by `apply`."""
    tags = {"Tags": tag_list(wanted.tags_of_others)}
    alarms = {f"{one['AlarmName'].rpartition('-')[2].title()}Alarm": one for one in wanted.alarms}
    variants = [{**one, "ModelName": _attribute("Model", "ModelName")} for one in wanted.config["ProductionVariants"]]
    config = {**wanted.config, "ProductionVariants": variants}
    named = {"EndpointConfigName": _attribute("EndpointConfig", "EndpointConfigName")}
    deployment = _with_alarms(wanted.deployment, {one["AlarmName"]: key for key, one in alarms.items()})
    resources = {
        "Model": _resource("SageMaker::Model", {**wanted.model, **tags}),
        "EndpointConfig": _resource("SageMaker::EndpointConfig", {**config, **tags}),
        **{key: _resource("CloudWatch::Alarm", {**one, **tags}) for key, one in alarms.items()},
        "Endpoint": _resource(
            "SageMaker::Endpoint", {**wanted.endpoint, **named, "DeploymentConfig": deployment, **tags}
        ),
    }
    if wanted.scaling and wanted.policy:
        inner = {key: value for key, value in wanted.policy.items() if key not in scaled_by(wanted.name)}
        where = wanted.scaling["ResourceId"].replace(f"/{wanted.name}/", "/${Endpoint.EndpointName}/")
        resources["Scaling"] = _resource(
            "ApplicationAutoScaling::ScalableTarget", {**wanted.scaling, "ResourceId": {"Fn::Sub": where}}
        )
        resources["ScalingPolicy"] = _resource(
            "ApplicationAutoScaling::ScalingPolicy", {**inner, "ScalingTargetId": {"Ref": "Scaling"}}
        )
    return write_yaml(
        {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": f"{wanted.tags['ferryman:model']} on SageMaker, by Ferryman",
            "Resources": resources,
            "Outputs": {"Endpoint": {"Value": _attribute("Endpoint", "EndpointName")}},
        }
    )


def _resource(kind: str, properties: Request) -> Request:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def _attribute(resource: str, attribute: str) -> Any:  # JSON
    return {"Fn::GetAtt": [resource, attribute]}


def _with_alarms(deployment: Request, keys: dict[str, str]) -> Request:
    """Let alarms of the template be referred to, so that they are there first."""
    if "AutoRollbackConfiguration" not in deployment:
        return deployment
    named = [one["AlarmName"] for one in deployment["AutoRollbackConfiguration"]["Alarms"]]
    alarms = [{"AlarmName": {"Ref": keys[name]} if name in keys else name} for name in named]
    return {**deployment, "AutoRollbackConfiguration": {"Alarms": alarms}}
