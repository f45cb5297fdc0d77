"""A landing as Cloud Run's Service (API v2), and the same as Knative's, which `gcloud run services replace` takes."""

import json
import math

from ferryman.core.errors import ConfigError
from ferryman.core.target import Landing
from ferryman.targets.google.settings import CloudRunSection
from ferryman.targets.wanted import SPEC, Json, served, short_digest

PORT = 8080
READY, LIVE = "/v2/health/ready", "/v2/health/live"
OWNER = "managed-by"
_DRAIN_S = 8  # Cloud Run ends what is still there 10 s after SIGTERM
_CORES = (1, 2, 4, 6, 8)
_LEAST_MB = {1: 512, 2: 512, 4: 2048, 6: 4096, 8: 4096}
_MB_PER_CORE = 4096
_GPU_CORES, _GPU_MB = 4, 16384
_EVERY_S = 2
_INGRESS = {
    "all": "INGRESS_TRAFFIC_ALL",
    "internal": "INGRESS_TRAFFIC_INTERNAL_ONLY",
    "load-balancer": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
}


def run_service(landing: Landing, section: CloudRunSection) -> Json:
    """Give the Service without its traffic; its revision's name is made of what is in it."""
    inner = _template(landing, section)
    digest = short_digest(inner)
    return {
        "labels": {**landing.labels, OWNER: "ferryman"},
        "ingress": _INGRESS[section.ingress],
        "invokerIamDisabled": section.public,
        "template": {
            "revision": f"{landing.name}-{digest}",
            **inner,
            "annotations": {**inner["annotations"], SPEC: digest},
        },
    }


def room(cpus: float, memory_mb: int, *, gpu: bool = False) -> tuple[int, int]:
    """Give the least cores and MiB of memory that Cloud Run has for these; raises ConfigError where it has none."""
    least, wanted_mb = (_GPU_CORES, max(memory_mb, _GPU_MB)) if gpu else (1, memory_mb)
    cores = next((one for one in _CORES if one >= max(cpus, least, wanted_mb / _MB_PER_CORE)), None)
    if cores is None:
        raise ConfigError(
            f"Cloud Run has no instance of {cpus:g} cores with {memory_mb} MiB; at most 8 with {8 * _MB_PER_CORE}",
            hint="set cpus and memory_mb in the target's section",
        )
    return cores, max(wanted_mb, _LEAST_MB[cores])


def _template(landing: Landing, section: CloudRunSection) -> Json:
    cores, memory_mb = room(landing.cpus, landing.memory_mb, gpu=bool(section.gpu))
    limits = {"cpu": str(cores), "memory": f"{memory_mb}Mi"}
    found: Json = {
        "labels": {OWNER: "ferryman"},
        "annotations": {"ferryman-bundle": landing.digest},
        "scaling": {"minInstanceCount": section.least, "maxInstanceCount": section.most},
        "timeout": f"{section.timeout_s}s",
        "maxInstanceRequestConcurrency": section.concurrency,
        "executionEnvironment": f"EXECUTION_ENVIRONMENT_GEN{section.generation}",
        "containers": [
            {
                "name": "server",
                "image": landing.image,
                "args": served(landing.threads, _DRAIN_S, section.options),
                "env": [{"name": name, "value": value} for name, value in sorted(section.env.items())],
                "ports": [{"name": "h2c" if section.http2 else "http1", "containerPort": PORT}],
                "resources": {
                    "limits": {**limits, **({"nvidia.com/gpu": "1"} if section.gpu else {})},
                    "cpuIdle": not (section.always_cpu or section.gpu),
                    "startupCpuBoost": True,
                },
                "startupProbe": _probe(section, READY, math.ceil(section.start_s / _EVERY_S), period_s=_EVERY_S),
                "livenessProbe": _probe(section, LIVE, 3, period_s=10),
            }
        ],
    }
    if not section.env:
        del found["containers"][0]["env"]
    if section.http2:  # gRPC's health is readiness, and not being ready is no reason to be ended
        del found["containers"][0]["livenessProbe"]
    if section.service_account:
        found["serviceAccount"] = section.service_account
    if section.gpu:
        found |= {"nodeSelector": {"accelerator": section.gpu}, "gpuZonalRedundancyDisabled": True}
    if section.network or section.subnetwork:
        names = {"network": section.network, "subnetwork": section.subnetwork}
        one = {key: value for key, value in names.items() if value}
        found["vpcAccess"] = {"networkInterfaces": [one], "egress": "PRIVATE_RANGES_ONLY"}
    return found


def _probe(section: CloudRunSection, path: str, failures: int, *, period_s: int) -> Json:
    asked: Json = {"grpc": {"port": PORT}} if section.http2 else {"httpGet": {"path": path, "port": PORT}}
    return {**asked, "periodSeconds": period_s, "timeoutSeconds": min(2, period_s), "failureThreshold": failures}


def knative(name: str, service: Json) -> Json:
    """Give the same Service as Knative's serving.knative.dev/v1."""
    inner, container = service["template"], service["template"]["containers"][0]
    ingress = {"INGRESS_TRAFFIC_ALL": "all", "INGRESS_TRAFFIC_INTERNAL_ONLY": "internal"}
    notes = {
        "autoscaling.knative.dev/minScale": str(inner["scaling"]["minInstanceCount"]),
        "autoscaling.knative.dev/maxScale": str(inner["scaling"]["maxInstanceCount"]),
        "run.googleapis.com/execution-environment": inner["executionEnvironment"][-4:].lower(),
        "run.googleapis.com/cpu-throttling": str(container["resources"]["cpuIdle"]).lower(),
        "run.googleapis.com/startup-cpu-boost": "true",
    }
    if "vpcAccess" in inner:
        notes["run.googleapis.com/network-interfaces"] = json.dumps(
            inner["vpcAccess"]["networkInterfaces"], separators=(",", ":")
        )
        notes["run.googleapis.com/vpc-access-egress"] = "private-ranges-only"
    if "nodeSelector" in inner:
        notes["run.googleapis.com/gpu-zonal-redundancy-disabled"] = "true"
    spec: Json = {
        "containerConcurrency": inner["maxInstanceRequestConcurrency"],
        "timeoutSeconds": int(inner["timeout"][:-1]),
        **({"serviceAccountName": inner["serviceAccount"]} if "serviceAccount" in inner else {}),
        "containers": [{**container, "resources": {"limits": container["resources"]["limits"]}}],
    }
    if "nodeSelector" in inner:
        spec["nodeSelector"] = {"run.googleapis.com/accelerator": inner["nodeSelector"]["accelerator"]}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": service["labels"],
            "annotations": {
                "run.googleapis.com/ingress": ingress.get(service["ingress"], "internal-and-cloud-load-balancing"),
                "run.googleapis.com/invoker-iam-disabled": str(service["invokerIamDisabled"]).lower(),
            },
        },
        "spec": {
            "template": {
                "metadata": {
                    "name": inner["revision"],
                    "labels": inner["labels"],
                    "annotations": {**inner["annotations"], **notes},
                },
                "spec": spec,
            },
            "traffic": [{"revisionName": inner["revision"], "percent": 100}],
        },
    }
