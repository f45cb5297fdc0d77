"""What of an endpoint is in the account: only what carries our tags is ours."""

import re
from dataclasses import dataclass
from typing import Any

from ferryman.core.errors import DeployError
from ferryman.targets.aws.account import Account
from ferryman.targets.aws.wanted import ALARMS, OWNER, Request, alarm_name, policy_name, scaled_by

_SAGEMAKER, _CLOUDWATCH, _SCALING = "sagemaker", "cloudwatch", "application-autoscaling"


@dataclass(frozen=True, slots=True)
class Kind:
    """Hold SageMaker's words for a kind of thing whose names end with a digest."""

    called: str
    word: str
    key: str
    listed: str


MODELS = Kind("model", "model", "Model", "Models")
CONFIGS = Kind("endpoint configuration", "endpoint_config", "EndpointConfig", "EndpointConfigs")


class Inventory:
    """Look at what there is under one name."""

    def __init__(self, account: Account, name: str) -> None:
        self.account = account
        self.name = name

    def endpoint(self) -> Request | None:
        """Give the endpoint; raises DeployError for one of that name that isn't ours."""
        found = self.look()
        if found is not None and not self._is_ours(found["EndpointArn"]):
            raise self._foreign(f"an endpoint {self.name}")
        return found

    def look(self) -> Request | None:
        """Give the endpoint, whoever made it."""
        return self.account.find(_SAGEMAKER, "describe_endpoint", EndpointName=self.name)

    def versioned(self, kind: Kind, name: str) -> Request | None:
        """Give one model or configuration by its name; raises DeployError for one that isn't ours."""
        found = self.account.find(_SAGEMAKER, f"describe_{kind.word}", **{f"{kind.key}Name": name})
        if found is not None and not self._is_ours(found[f"{kind.key}Arn"]):
            raise self._foreign(f"a {kind.called} {name}")
        return found

    def versions(self, kind: Kind) -> list[str]:
        """Give the names of all of ours, of this endpoint, the newest first."""
        own = re.compile(re.escape(self.name) + r"-[0-9a-f]{12}")
        listed = self.account.every(
            _SAGEMAKER, f"list_{kind.word}s", kind.listed, NameContains=self.name, SortBy="CreationTime",
            SortOrder="Descending",
        )  # fmt: skip
        named = [(str(one[f"{kind.key}Name"]), str(one[f"{kind.key}Arn"])) for one in listed]
        return [name for name, arn in named if own.fullmatch(name) and self._is_ours(arn)]

    def tags(self, arn: str) -> dict[str, str]:
        """Give the tags of one of SageMaker's things."""
        return {
            one["Key"]: one["Value"] for one in self.account.every(_SAGEMAKER, "list_tags", "Tags", ResourceArn=arn)
        }

    def alarms(self) -> dict[str, Request]:
        """Give our alarms by name; raises DeployError for one of such a name that isn't ours."""
        names = [alarm_name(self.name, what) for what in ALARMS]
        found = self.account.every(_CLOUDWATCH, "describe_alarms", "MetricAlarms", AlarmNames=names)
        return {str(one["AlarmName"]): one for one in found if self._owns_alarm(one)}

    def scaling(self) -> Request | None:
        """Give what bounds the number of instances, whoever set it."""
        named = {key: value for key, value in scaled_by(self.name).items() if key != "ResourceId"}
        resources = [scaled_by(self.name)["ResourceId"]]
        found = self.account.every(
            _SCALING, "describe_scalable_targets", "ScalableTargets", ResourceIds=resources, **named
        )
        return next(iter(found), None)

    def policies(self) -> tuple[Request | None, int]:
        """Give our scaling policy, and how many others there are."""
        found = list(
            self.account.every(_SCALING, "describe_scaling_policies", "ScalingPolicies", **scaled_by(self.name))
        )
        own = [one for one in found if one["PolicyName"] == policy_name(self.name)]
        return (own[0] if own else None), len(found) - len(own)

    def _owns_alarm(self, alarm: Request) -> bool:
        told = self.account.ask(_CLOUDWATCH, "list_tags_for_resource", ResourceARN=alarm["AlarmArn"])
        if {one["Key"]: one["Value"] for one in told["Tags"]}.get(OWNER) != self.name:
            raise self._foreign(f"an alarm {alarm['AlarmName']}")
        return True

    def _is_ours(self, arn: str) -> bool:
        return self.tags(arn).get(OWNER) == self.name

    def _foreign(self, what: str) -> DeployError:
        return DeployError(
            f"there is {what} that Ferryman didn't make (no tag {OWNER} = {self.name})",
            hint='set service = "another-name" in the target\'s section, or remove it',
        )


def essence(found: Request, wanted: Request) -> Request:
    """Give of what is there what `wanted` says, at every depth; AWS adds more by itself."""
    return {key: _part(found[key], wanted[key]) for key in wanted if key in found}


def _part(found: Any, wanted: Any) -> Any:  # JSON
    return essence(found, wanted) if isinstance(found, dict) and isinstance(wanted, dict) else found


def running(inventory: Inventory, endpoint: Request | None) -> tuple[Request | None, Request | None]:
    """Give the model and the configuration that an endpoint runs, each as far as it is still there."""
    if endpoint is None or "EndpointConfigName" not in endpoint:
        return None, None
    config = inventory.versioned(CONFIGS, endpoint["EndpointConfigName"])
    names = [one["ModelName"] for one in (config or {}).get("ProductionVariants", ()) if "ModelName" in one]
    return (inventory.versioned(MODELS, names[0]) if names else None), config
