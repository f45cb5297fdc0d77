"""A landing as Vertex AI's objects: a version of a model, an endpoint, and how the one is deployed to the other."""

import math

from ferryman.core.errors import ConfigError
from ferryman.core.target import Landing
from ferryman.targets.google.settings import VertexSection
from ferryman.targets.literal import literal
from ferryman.targets.wanted import Json, served, short_digest

PORT = 8080
READY, LIVE, INFER = "/v2/health/ready", "/v2/health/live", "/predict"
OWNER, NAME = "managed-by", "ferryman"
_DRAIN_S = 25
_EVERY_S = 5
_CORES = (2, 4, 8, 16, 32, 64, 96)
_MB_PER_CORE = 3840  # of n1-standard
_SYSTEM_MB = 1024  # what the machine's own programs take
_REGISTRIES = ("-docker.pkg.dev", "gcr.io")


def labels(landing_name: str) -> dict[str, str]:
    """Give the labels by which what is ours is found again."""
    return {OWNER: "ferryman", NAME: landing_name}


def model(landing: Landing, section: VertexSection) -> Json:
    """Give the version of the model; its alias stands for what is in it. Raises ConfigError for another's registry."""
    host = landing.image.partition("/")[0]
    if not host.endswith(_REGISTRIES):
        raise ConfigError(
            f"Vertex AI takes images from Artifact Registry only, not from {host}",
            hint=f"push it to {section.region}-docker.pkg.dev/PROJECT/REPOSITORY/{landing.name} and name it so",
        )
    spec: Json = {
        "imageUri": landing.image,
        "args": [literal(word) for word in served(landing.threads, _DRAIN_S, section.options)],
        "ports": [{"containerPort": PORT}],
        "healthRoute": READY,
        "predictRoute": INFER,
        "startupProbe": _probe(READY, math.ceil(section.start_s / _EVERY_S), period_s=_EVERY_S),
        "livenessProbe": _probe(LIVE, 3, period_s=10),
        "deploymentTimeout": f"{max(section.start_s * 2, 1800)}s",
    }
    if section.env:
        spec["env"] = [{"name": name, "value": literal(value)} for name, value in sorted(section.env.items())]
    return {
        "displayName": landing.name,
        "labels": {**landing.labels, **labels(landing.name)},
        "versionAliases": [f"spec-{short_digest(spec)}"],
        "versionDescription": f"bundle {landing.digest}",
        "containerSpec": spec,
    }


def endpoint(landing: Landing, section: VertexSection) -> Json:
    """Give the endpoint, without what is deployed to it."""
    found: Json = {"displayName": landing.name, "labels": {**landing.labels, **labels(landing.name)}}
    return {**found, "dedicatedEndpointEnabled": True} if section.dedicated else found


def deployment(landing: Landing, section: VertexSection, version: Json) -> Json:
    """Give how a version is deployed, but for the version; its name stands for all but the number of machines."""
    machine: Json = {"machineType": section.machine or _machine(landing)}
    if section.accelerator:
        machine |= {"acceleratorType": section.accelerator, "acceleratorCount": section.accelerators}
    fixed: Json = {"machineSpec": machine, **({"spot": True} if section.spot else {})}
    said: Json = {"enableAccessLogging": True} if section.access_log else {}
    if section.service_account:
        said["serviceAccount"] = section.service_account
    name = short_digest({"version": version["versionAliases"], "machines": fixed, **said})
    metric = "aiplatform.googleapis.com/prediction/online/cpu/utilization"
    counts = {
        "minReplicaCount": section.least,
        "maxReplicaCount": section.most,
        "autoscalingMetricSpecs": [{"metricName": metric, "target": section.cpu_percent}],
    }
    return {"displayName": f"{landing.name}-{name}", **said, "dedicatedResources": {**fixed, **counts}}


def _machine(landing: Landing) -> str:
    least = max(landing.cpus, (landing.memory_mb + _SYSTEM_MB) / _MB_PER_CORE)
    cores = next((one for one in _CORES if one >= least), None)
    if cores is None:
        raise ConfigError(
            f"no n1-standard machine has {landing.cpus:g} cores and {landing.memory_mb} MiB",
            hint='set machine = "..." in the target\'s section',
        )
    return f"n1-standard-{cores}"


def _probe(path: str, failures: int, *, period_s: int) -> Json:
    asked = {"httpGet": {"path": path, "port": PORT}}
    return {**asked, "periodSeconds": period_s, "timeoutSeconds": 2, "failureThreshold": failures}
