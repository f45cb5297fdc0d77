"""Landings and sections for the tests of targets."""

from typing import Any

from ferryman.core.deployment import read_target
from ferryman.core.target import Files, Landing

IMAGE = f"registry.example.com/street@sha256:{'a' * 64}"
OTHER = f"registry.example.com/street@sha256:{'c' * 64}"

EVERYTHING: dict[str, Any] = {  # TOML
    "replicas": 3,
    "headless": True,
    "service_monitor": True,
    "allow_from": ["monitoring"],
    "gpus": 1,
    "cpu_limit": 2.5,
    "env": {"OTEL_SERVICE_NAME": "street {{ x }}"},
    "node_selector": {"disk": "ssd"},
    "pull_secrets": ["registry"],
    "autoscale": {"by": "waiting", "least": 3},
    "gateway": {"gateway": "front", "namespace": "edge", "hostnames": ["street.example.com"]},
    "canary": {"image": OTHER, "percent": 10},
    "shadow": {"image": OTHER},
    "model": {"image": OTHER},
}
KEDA = {"autoscale": {"by": "keda", "prometheus": "http://prometheus.monitoring:9090", "p99_ms": 50.0}}
COPIED = {"model": {"image": OTHER, "by": "copy"}, "replicas": 1, "network_policy": False}


def landing(**changes: Any) -> Landing:  # fields of a Landing
    facts: dict[str, Any] = {
        "name": "street", "model": "street", "image": IMAGE, "digest": "b" * 64, "format": "onnx", "memory_mb": 512,
        "cpus": 1.0,
    }  # fmt: skip
    return Landing(**(facts | changes))


def target(kind: str, **settings: Any) -> Any:  # a Target
    return read_target(kind, settings, origin="test")


def render(kind: str, section: dict[str, Any] | None = None, **changes: Any) -> Files:  # TOML; fields of a Landing
    files: Files = target(kind, **(section or {})).render(landing(**changes))
    return files
