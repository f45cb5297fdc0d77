"""Who reaches the copies, and as whom they run: Service, HTTPRoute, NetworkPolicy, ServiceAccount."""

from typing import Any

from ferryman.core.target import Landing
from ferryman.targets.kube.settings import KubernetesSection
from ferryman.targets.kube.workload import PORT, STABLE, TRACK, Manifest, metadata, selector

CANARY, SHADOW = "canary", "shadow"


def account(landing: Landing, section: KubernetesSection) -> Manifest:
    """Give the ServiceAccount that the pods run as: it has no rights, and they get no token of it."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(landing, section.namespace),
        "automountServiceAccountToken": False,
    }


def services(landing: Landing, section: KubernetesSection) -> list[Manifest]:
    """Give a Service for each track that is asked, and the headless one; HTTP and gRPC share the server's port."""
    tracks = [(STABLE, "")]
    tracks += [(CANARY, "-canary")] if section.canary else []
    tracks += [(SHADOW, "-shadow")] if section.shadow else []
    found = [_service(landing, section, track, suffix) for track, suffix in tracks]
    if section.headless:
        found.append(_service(landing, section, STABLE, "-headless", {"clusterIP": "None"}))
    return found


def _service(
    landing: Landing, section: KubernetesSection, track: str, suffix: str, more: dict[str, Any] | None = None
) -> Manifest:
    meta = metadata(landing, section.namespace, suffix)
    if more is None:
        meta["labels"][TRACK] = track  # what the ServiceMonitor goes by: the headless one is the same pods again
    ports = (("http", section.port, "http"), ("grpc", section.grpc_port, "kubernetes.io/h2c"))
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "type": "ClusterIP",
            **(more or {}),
            "selector": selector(landing, track),
            "ports": [
                {"name": name, "port": port, "targetPort": PORT, "protocol": "TCP", "appProtocol": protocol}
                for name, port, protocol in ports
            ],
        },
    }


def policy(landing: Landing, section: KubernetesSection) -> Manifest:
    """Let in the model's own namespace and those that are named, at one port; let nothing out unless it is asked."""
    sources: list[Manifest] = [{"podSelector": {}}]
    sources += [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}} for name in section.allow_from
    ]
    spec: Manifest = {
        "podSelector": {"matchLabels": selector(landing)},
        "policyTypes": ["Ingress"] if section.allow_out else ["Ingress", "Egress"],
        "ingress": [{"from": sources, "ports": [{"protocol": "TCP", "port": PORT}]}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(landing, section.namespace),
        "spec": spec,
    }


def route(landing: Landing, section: KubernetesSection) -> list[Manifest]:
    """Give the HTTPRoute (Gateway API v1), which divides requests by weight and copies them to the shadow."""
    gateway = section.gateway
    if gateway is None:
        return []
    share = section.canary.percent if section.canary else 0
    backends = [_backend(landing, section, "", 100 - share)]
    if section.canary:
        backends.append(_backend(landing, section, "-canary", share))
    rule: Manifest = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}
    if section.shadow:
        shadow = {key: value for key, value in _backend(landing, section, "-shadow", 0).items() if key != "weight"}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": {"backendRef": shadow}}]
    parent = {"name": gateway.gateway, **({"namespace": gateway.namespace} if gateway.namespace else {})}
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata(landing, section.namespace),
            "spec": {
                "parentRefs": [parent],
                **({"hostnames": list(gateway.hostnames)} if gateway.hostnames else {}),
                "rules": [rule],
            },
        }
    ]


def _backend(landing: Landing, section: KubernetesSection, suffix: str, weight: int) -> Manifest:
    return {"name": f"{landing.name}{suffix}", "port": section.port, "weight": weight}
