"""How many copies there are: while nodes are emptied, and as the load comes and goes. Also who reads the figures."""

from ferryman.core.target import Landing
from ferryman.targets.kube.settings import Autoscale, KubernetesSection
from ferryman.targets.kube.workload import STABLE, TRACK, Manifest, metadata, selector

_CALM_S = 300  # a copy that has just begun to serve isn't taken away with the next breath
WAITING = "ferryman_waiting"
"""Requests in the queue: the server's own figure, which Prometheus' adapter gives by pod with its default rules."""


def disruption_budget(landing: Landing, section: KubernetesSection) -> list[Manifest]:
    """Let nodes be emptied one copy at a time; with a single copy a budget would block them, so there is none."""
    copies = section.autoscale.least if section.autoscale else section.replicas
    if copies < 2:
        return []
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(landing, STABLE)}}
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(landing, section.namespace),
            "spec": spec,
        }
    ]


def scaler(landing: Landing, section: KubernetesSection) -> list[Manifest]:
    """Give what sets the number of copies: a HorizontalPodAutoscaler (v2) or KEDA's ScaledObject."""
    if section.autoscale is None:
        return []
    if section.autoscale.by == "keda":
        return [_scaled_object(landing, section, section.autoscale)]
    return [_autoscaler(landing, section, section.autoscale)]


def _autoscaler(landing: Landing, section: KubernetesSection, asked: Autoscale) -> Manifest:
    metrics: list[Manifest] = [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": asked.cpu_percent}},
        }
    ]
    if asked.by == "waiting":
        target = {"type": "AverageValue", "averageValue": str(asked.waiting)}
        metrics.append({"type": "Pods", "pods": {"metric": {"name": WAITING}, "target": target}})
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(landing, section.namespace),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": landing.name},
            "minReplicas": asked.least,
            "maxReplicas": asked.most,
            "metrics": metrics,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": _CALM_S}},
        },
    }


def _scaled_object(landing: Landing, section: KubernetesSection, asked: Autoscale) -> Manifest:
    chosen = f'namespace="{section.namespace}",pod=~"{landing.name}-[^-]+-[^-]+"'
    triggers = [_asked(asked, f"sum({WAITING}{{{chosen}}})", str(asked.waiting))]
    if asked.p99_ms is not None:
        rate = f"sum by (le) (rate(ferryman_request_seconds_bucket{{{chosen}}}[1m]))"
        copies = f"count(ferryman_process_start_time_seconds{{{chosen}}})"
        triggers.append(_asked(asked, f"histogram_quantile(0.99, {rate}) * 1000 * {copies}", f"{asked.p99_ms:g}"))
    cpu = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(asked.cpu_percent)}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(landing, section.namespace),
        "spec": {
            "scaleTargetRef": {"name": landing.name},
            "minReplicaCount": asked.least,
            "maxReplicaCount": asked.most,
            "cooldownPeriod": _CALM_S,
            "triggers": [*triggers, cpu],
        },
    }


def _asked(asked: Autoscale, query: str, threshold: str) -> Manifest:
    """Give a trigger that keeps the query's answer, divided by the copies, at the threshold."""
    return {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {"serverAddress": asked.prometheus, "query": query, "threshold": threshold},
    }


def monitor(landing: Landing, section: KubernetesSection) -> list[Manifest]:
    """Give the ServiceMonitor, by which the Prometheus operator finds the figures."""
    if not section.service_monitor:
        return []
    return [
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "ServiceMonitor",
            "metadata": metadata(landing, section.namespace),
            "spec": {
                "selector": {
                    "matchLabels": selector(landing),
                    "matchExpressions": [{"key": TRACK, "operator": "Exists"}],
                },
                "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
            },
        }
    ]
