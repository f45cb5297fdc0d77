"""A landing as a Container App."""

import math
import re

from ferryman.core.errors import ConfigError
from ferryman.core.target import Landing
from ferryman.targets.azure.arm import group_of
from ferryman.targets.azure.settings import AzureSection, ContainerAppsSection
from ferryman.targets.wanted import SPEC, Json, served, short_digest

PORT = 8080
READY, LIVE = "/v2/health/ready", "/v2/health/live"
OWNER = "managed-by"
_DRAIN_S, _SPARE_S = 30, 15
_EVERY_S = 5
_MOST_FAILURES = 10  # that a probe may be allowed
_STEP = 0.25  # cores; each has twice as many GiB
_MOST_CORES = 4.0
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


def check_name(name: str) -> str:
    """Give the name, if Azure takes it; raises ConfigError."""
    if not 3 <= len(name) <= 32 or not _NAME.fullmatch(name) or "--" in name:
        raise ConfigError(
            f"'{name}' is no name for Azure: 3 to 32 letters, digits and single hyphens",
            hint='set service = "a-name" in the target\'s section',
        )
    return name


def identity_of(section: AzureSection) -> Json:
    """Give who it runs as."""
    if not section.identity:
        return {"type": "SystemAssigned"}
    return {"type": "UserAssigned", "userAssignedIdentities": {section.identity: {}}}


def app(landing: Landing, section: ContainerAppsSection) -> Json:
    """Give the app without its traffic; its revision's suffix is made of what is in it."""
    if not section.environment:
        raise ConfigError("which managed environment?", hint='set environment = "..." in the target\'s section')
    template = _template(landing, section)
    suffix = f"r{short_digest(template)}"
    place = section.environment
    if not place.startswith("/"):
        place = f"{group_of(section)}/providers/Microsoft.App/managedEnvironments/{place}"
    registry = {"server": landing.image.partition("/")[0], "identity": section.identity}
    check_name(landing.name)
    return {
        "location": section.location,
        "tags": {**landing.labels, OWNER: "ferryman", SPEC: suffix},
        "identity": identity_of(section),
        "properties": {
            "environmentId": place,
            **({"workloadProfileName": section.profile} if section.profile else {}),
            "configuration": {
                "activeRevisionsMode": "Multiple",
                "maxInactiveRevisions": 10,
                "ingress": {
                    "external": section.external,
                    "targetPort": PORT,
                    "transport": "http2" if section.http2 else "auto",
                    "allowInsecure": False,
                },
                **({"registries": [registry]} if section.identity else {}),
            },
            "template": {"revisionSuffix": suffix, **template},
        },
    }


def room(landing: Landing, section: ContainerAppsSection) -> tuple[float, str]:
    """Give the cores and the memory of a copy as Container Apps has them; raises ConfigError where it has none."""
    gib = landing.memory_mb / 1024
    if section.profile:
        return landing.cpus, f"{math.ceil(gib * 4) / 4:g}Gi"
    cores = math.ceil(max(landing.cpus, gib / 2) / _STEP) * _STEP
    if cores > _MOST_CORES:
        raise ConfigError(
            f"a copy of {landing.cpus:g} cores with {landing.memory_mb} MiB is over Consumption's 4 cores with 8 GiB",
            hint='set profile = "..." to a workload profile of the environment, or cpus and memory_mb',
        )
    return cores, f"{cores * 2:g}Gi"


def _template(landing: Landing, section: ContainerAppsSection) -> Json:
    cores, memory = room(landing, section)
    container: Json = {
        "name": "server",
        "image": landing.image,
        "args": served(landing.threads, _DRAIN_S, section.options),
        "resources": {"cpu": cores, "memory": memory},
        "probes": [
            _probe("Startup", LIVE, _MOST_FAILURES, period_s=math.ceil(section.start_s / _MOST_FAILURES)),
            _probe("Readiness", READY, 1, period_s=_EVERY_S),
            _probe("Liveness", LIVE, 3, period_s=10),
        ],
    }
    if section.env:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(section.env.items())]
    rule = {"name": "requests", "http": {"metadata": {"concurrentRequests": str(section.concurrency)}}}
    return {
        "terminationGracePeriodSeconds": _DRAIN_S + _SPARE_S,
        "containers": [container],
        "scale": {"minReplicas": section.least, "maxReplicas": section.most, "rules": [rule]},
    }


def _probe(kind: str, path: str, failures: int, *, period_s: int) -> Json:
    asked = {"httpGet": {"path": path, "port": PORT}}
    return {"type": kind, **asked, "periodSeconds": period_s, "timeoutSeconds": 2, "failureThreshold": failures}
