"""A landing as Azure Machine Learning's objects: an environment, an online endpoint, and a deployment of it."""

from ferryman.core.errors import ConfigError
from ferryman.core.target import Landing
from ferryman.targets.azure.app_objects import LIVE, OWNER, PORT, READY, check_name, identity_of
from ferryman.targets.azure.arm import group_of
from ferryman.targets.azure.settings import MachineLearningSection
from ferryman.targets.wanted import Json, short_digest

SCORE = "/score"
_DRAIN_S = 25
_PERIOD_S = 10


def workspace_of(section: MachineLearningSection) -> str:
    """Give the id of the workspace; raises ConfigError where none is named."""
    if not section.workspace:
        raise ConfigError("which workspace?", hint='set workspace = "..." in the target\'s section')
    return f"{group_of(section)}/providers/Microsoft.MachineLearningServices/workspaces/{section.workspace}"


def environment(landing: Landing) -> tuple[str, Json]:
    """Give the environment's version, which stands for what is in it: the image, and where it answers what."""
    routes = {"livenessRoute": LIVE, "readinessRoute": READY, "scoringRoute": SCORE}
    inside = {
        "image": landing.image,
        "osType": "Linux",
        "inferenceConfig": {key: {"path": path, "port": PORT} for key, path in routes.items()},
        "description": f"bundle {landing.digest}",
    }
    return short_digest(inside), {"properties": inside}


def endpoint(landing: Landing, section: MachineLearningSection) -> Json:
    """Give the endpoint, without its traffic."""
    check_name(landing.name)
    return {
        "location": section.location,
        "tags": {**landing.labels, OWNER: "ferryman"},
        "kind": "Managed",
        "identity": identity_of(section),
        "properties": {
            "authMode": {"key": "Key", "aad_token": "AADToken"}[section.auth],
            "publicNetworkAccess": "Enabled" if section.public else "Disabled",
        },
    }


def deployment(landing: Landing, section: MachineLearningSection) -> tuple[str, Json]:
    """Give the deployment's name, which stands for all but the number of machines, and what is in it.

    A deployment can't say what the image is started with, so that options go as environment variables.
    """
    version, _ = environment(landing)
    where = f"{workspace_of(section)}/environments/{landing.name}/versions/{version}"
    said = {**variables(landing, section), **section.env}
    probe = {"period": f"PT{_PERIOD_S}S", "timeout": "PT2S", "successThreshold": 1}
    patience = -(-section.start_s // _PERIOD_S)
    body: Json = {
        "location": section.location,
        "tags": {**landing.labels, OWNER: "ferryman", "ferryman-image": landing.image},
        "kind": "Managed",
        "sku": {"name": "Default", "tier": "Standard", "capacity": section.instances},
        "properties": {
            "endpointComputeType": "Managed",
            "environmentId": where,
            "environmentVariables": dict(sorted(said.items())),
            "instanceType": section.instance_type,
            "livenessProbe": {**probe, "failureThreshold": patience, "initialDelay": "PT10S"},
            "readinessProbe": {**probe, "failureThreshold": patience, "initialDelay": "PT5S"},
            "requestSettings": {
                "maxConcurrentRequestsPerInstance": section.concurrency,
                "requestTimeout": f"PT{section.timeout_s}S",
            },
            "scaleSettings": {"scaleType": "Default"},
        },
    }
    fixed = {key: value for key, value in body.items() if key != "sku"}
    return f"r{short_digest(fixed)}", body


def variables(landing: Landing, section: MachineLearningSection) -> dict[str, str]:
    """Give the server's options as the variables that stand for them; raises ConfigError for a stray word."""
    found = {
        "FERRYMAN_DRAIN_S": str(_DRAIN_S),
        **({"FERRYMAN_THREADS": str(landing.threads)} if landing.threads else {}),
    }
    words = list(section.options)
    while words:
        option, equals, value = words.pop(0).partition("=")
        if not option.startswith("--"):
            raise ConfigError(
                f"'{option}' is no option of `ferryman serve`", hint='write it as options = ["--max-queue", "64"]'
            )
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "1"
        found[f"FERRYMAN_{option[2:].replace('-', '_').upper()}"] = value
    return found
