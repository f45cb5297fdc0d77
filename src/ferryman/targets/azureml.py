"""Azure Machine Learning: the image as a deployment of a managed online endpoint, whose requests it takes over."""

from collections.abc import Iterator
from typing import Any, ClassVar

from ferryman.core.plugins import find
from ferryman.core.progress import Progress, silent
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.targets.azure.arm import Arm
from ferryman.targets.azure.ml_objects import deployment, endpoint, environment, workspace_of
from ferryman.targets.azure.ml_rollout import Online, Wanted, roll_out, shares
from ferryman.targets.azure.settings import MachineLearningSection
from ferryman.targets.azure.terraform import resource_files
from ferryman.targets.shares import share_notes
from ferryman.targets.terraform import Expression
from ferryman.targets.yaml import write_yaml

_VERSION = "2024-10-01"
_KIND = "Microsoft.MachineLearningServices/workspaces"
_SCHEMA = "https://azuremlschemas.azureedge.net/latest"


class AzureMachineLearning(MachineLearningSection):
    """Run on a managed online endpoint of Azure Machine Learning."""

    name: ClassVar[str] = "azureml"
    needs: ClassVar[tuple[str, ...]] = ("azure", "msal")
    extra: ClassVar[str] = "azure"

    def render(self, landing: Landing) -> Files:
        """Give environment, endpoint and deployment as Terraform, and as the YAML of `az ml`."""
        wanted, workspace = self._wanted(landing), workspace_of(self)
        version = f"{workspace}/environments/{landing.name}"
        terraform = resource_files(
            {
                "environment": (f"{_KIND}/environments/versions@{_VERSION}", wanted.version, wanted.environment),
                "endpoint": (f"{_KIND}/onlineEndpoints@{_VERSION}", landing.name, wanted.endpoint),
                "deployment": (f"{_KIND}/onlineEndpoints/deployments@{_VERSION}", wanted.name, wanted.deployment),
            },
            self,
            {"environment": version, "endpoint": workspace, "deployment": Expression("azapi_resource.endpoint.id")},
        )
        return {
            "main.tf": terraform,
            "endpoint.yml": write_yaml(_endpoint_file(landing.name, wanted)),
            "deployment.yml": write_yaml(_deployment_file(landing.name, wanted)),
        }

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Put a deployment beside the one that answers, and give it its share once its machines answer."""
        wanted = self._wanted(landing)
        with self._arm(progress) as arm:
            return roll_out(Online(arm, workspace_of(self), landing.name), wanted, dry_run=dry_run)

    def status(self, name: str) -> Standing:
        """Tell how many machines the deployment that answers most has, and who has which share."""
        with self._arm(silent) as arm:
            here = Online(arm, workspace_of(self), name)
            live = here.read()
            now = shares(live)
            if live is None or not now:
                return Standing(name, live is not None, 0, 1, notes=("no deployment answers",) if live else ())
            top = here.deployments()[max(now, key=lambda one: now[one])]
            state, wanted = top["properties"].get("provisioningState", ""), int(top["sku"]["capacity"])
            ready = wanted if state == "Succeeded" else 0
            notes = [*share_notes(now), *([] if ready else [f"deployment {top['name']}: {state}"])]
            return Standing(name, True, ready, wanted, top.get("tags", {}).get("ferryman-image", ""), tuple(notes))

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every deployment."""
        with self._arm(silent) as arm:
            here = Online(arm, workspace_of(self), name)
            for one in sorted(here.deployments()) if here.read() else ():
                yield from (f"{one}: {line}" for line in here.log(one, lines))

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Delete the endpoint with its deployments; versions of environments can't be deleted, and cost nothing."""
        with self._arm(progress) as arm:
            here = Online(arm, workspace_of(self), name)
            if here.read() is None:
                return []
            changes = [Change("remove", f"deployment {one}") for one in here.deployments()]
            if not dry_run:
                progress(f"removing endpoint {name}")
                arm.change("DELETE", here.id, None, f"endpoint {name}")
            return [*changes, Change("remove", f"endpoint {name}")]

    def _wanted(self, landing: Landing) -> Wanted:
        version, inside = environment(landing)
        name, body = deployment(landing, self)
        return Wanted(version, inside, endpoint(landing, self), name, body, self.percent)

    def _arm(self, progress: Progress) -> Arm:
        find("targets", self.name).require()
        return Arm(self, _VERSION, progress)


def _endpoint_file(name: str, wanted: Wanted) -> dict[str, Any]:  # YAML of `az ml online-endpoint`
    properties = wanted.endpoint["properties"]
    return {
        "$schema": f"{_SCHEMA}/managedOnlineEndpoint.schema.json",
        "name": name,
        "auth_mode": {"Key": "key", "AADToken": "aad_token"}[properties["authMode"]],
        "public_network_access": properties["publicNetworkAccess"].lower(),
        "tags": wanted.endpoint["tags"],
    }


def _deployment_file(name: str, wanted: Wanted) -> dict[str, Any]:  # YAML of `az ml online-deployment`
    properties, inside = wanted.deployment["properties"], wanted.environment["properties"]
    routes = {"liveness_route": "livenessRoute", "readiness_route": "readinessRoute", "scoring_route": "scoringRoute"}
    settings = properties["requestSettings"]
    return {
        "$schema": f"{_SCHEMA}/managedOnlineDeployment.schema.json",
        "name": wanted.name,
        "endpoint_name": name,
        "environment": {
            "image": inside["image"],
            "inference_config": {key: inside["inferenceConfig"][value] for key, value in routes.items()},
        },
        "environment_variables": properties["environmentVariables"],
        "instance_type": properties["instanceType"],
        "instance_count": wanted.deployment["sku"]["capacity"],
        "request_settings": {
            "max_concurrent_requests_per_instance": settings["maxConcurrentRequestsPerInstance"],
            "request_timeout_ms": int(settings["requestTimeout"][2:-1]) * 1000,
        },
        "liveness_probe": _probe(properties["livenessProbe"]),
        "readiness_probe": _probe(properties["readinessProbe"]),
        "tags": wanted.deployment["tags"],
    }


def _probe(probe: dict[str, Any]) -> dict[str, int]:  # JSON
    seconds = {key: int(probe[key][2:-1]) for key in ("period", "timeout", "initialDelay")}
    return {
        "initial_delay": seconds["initialDelay"],
        "period": seconds["period"],
        "timeout": seconds["timeout"],
        "success_threshold": probe["successThreshold"],
        "failure_threshold": probe["failureThreshold"],
    }
