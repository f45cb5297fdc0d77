"""KubeRay's RayService: the pods of a Ray cluster, and the Serve configuration that runs on them."""

import math
from typing import Any

from ferryman.core.errors import ConfigError
from ferryman.core.target import Landing
from ferryman.targets.ray_config import RayNodes, RaySection, copy_mb, serve_config
from ferryman.targets.yaml import write_yaml

Manifest = dict[str, Any]  # a Kubernetes object, as JSON


def ray_service(landing: Landing, section: RaySection) -> Manifest:
    """Give the RayService; its head runs no copies, so that their work can't starve what steers the cluster.

    Raises ConfigError where a copy doesn't fit into a worker pod.
    """
    nodes = section.nodes
    memory_mb = copy_mb(landing, section)
    if landing.cpus > nodes.cpus or memory_mb > nodes.memory_mb:
        raise ConfigError(
            f"a copy of {landing.name} takes {landing.cpus:g} cores and {memory_mb} MiB; a worker pod has "
            f"{nodes.cpus:g} and {nodes.memory_mb}",
            hint="raise nodes.cpus and nodes.memory_mb in the target's section",
        )
    labels = {
        "app.kubernetes.io/name": "ferryman",
        "app.kubernetes.io/instance": landing.name,
        "app.kubernetes.io/managed-by": "ferryman",
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": landing.name, "namespace": nodes.namespace, "labels": {**landing.labels, **labels}},
        "spec": {
            "serveConfigV2": write_yaml(serve_config(landing, section)),
            "rayClusterConfig": {
                "rayVersion": nodes.version,
                "enableInTreeAutoscaling": nodes.most > nodes.least,
                "headGroupSpec": _head(landing, section),
                "workerGroupSpecs": [_workers(landing, section)],
            },
        },
    }


def _head(landing: Landing, section: RaySection) -> Manifest:
    nodes = section.nodes
    ports = [("gcs-server", 6379), ("dashboard", 8265), ("client", 10001), ("serve", section.port)]
    container = {
        **_container("ray-head", landing, cpus=nodes.head_cpus, memory_mb=nodes.head_memory_mb),
        "ports": [{"name": name, "containerPort": port} for name, port in ports],
    }
    return {
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104
        **_pod(container, asks=nodes.most > nodes.least),
    }


def _workers(landing: Landing, section: RaySection) -> Manifest:
    nodes: RayNodes = section.nodes
    container = _container("ray-worker", landing, cpus=nodes.cpus, memory_mb=nodes.memory_mb)
    if section.gpus:
        for part in ("requests", "limits"):
            container["resources"][part]["nvidia.com/gpu"] = str(math.ceil(section.gpus))
    return {
        "groupName": "workers",
        "replicas": nodes.least,
        "minReplicas": nodes.least,
        "maxReplicas": max(nodes.most, nodes.least),
        "rayStartParams": {},
        **_pod(container, asks=False),
    }


def _container(name: str, landing: Landing, *, cpus: float, memory_mb: int) -> Manifest:
    room = {"cpu": f"{round(cpus * 1000)}m", "memory": f"{memory_mb}Mi"}
    return {
        "name": name,
        "image": landing.image,
        "resources": {"requests": dict(room), "limits": dict(room)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _pod(container: Manifest, *, asks: bool) -> Manifest:
    """Give a pod's template; what makes more pods `asks` the API server for them, as the account that KubeRay makes."""
    account = {} if asks else {"automountServiceAccountToken": False}
    return {"template": {"spec": {**account, "containers": [container]}}}
