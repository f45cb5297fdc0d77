"""A Helm chart whose templates render, with the values that come along, to the very objects of the kustomization."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from ferryman import __version__
from ferryman.core.target import Files, Landing
from ferryman.targets.kube.settings import KubernetesSection
from ferryman.targets.kube.workload import OWNER, STABLE, TRACK, Manifest
from ferryman.targets.yaml import Written, write_yaml

_OPENED = "{{"
_POD = ("spec", "template", "spec")
_SERVER = (*_POD, "containers", 0)


def chart(landing: Landing, section: KubernetesSection, made: list[Manifest]) -> Files:
    """Give the chart: what differs from one cluster to the next is a value, all else stands in the templates."""
    values: dict[str, Any] = {}  # JSON
    templates: dict[str, list[str]] = {}
    for one in made:
        templates.setdefault(f"templates/{one['kind'].lower()}.yaml", []).append(_template(one, values))
    head = {
        "apiVersion": "v2",
        "name": landing.name,
        "description": f"{landing.model}, served by Ferryman",
        "type": "application",
        "version": f"0.1.0+{landing.digest[:12]}",  # SemVer: what follows the plus sign is the build
        "appVersion": __version__,
    }
    return {
        "Chart.yaml": write_yaml(head),
        "values.yaml": write_yaml(values),
        **{name: "---\n".join(texts) for name, texts in templates.items()},
    }


def _template(made: Manifest, values: dict[str, Any]) -> str:  # values: JSON
    """Put expressions in the place of what is a value, and note the values."""
    one = _literal(copy.deepcopy(made))
    one["metadata"]["namespace"] = Written("{{ .Release.Namespace | toJson }}")  # 42 is a name, too
    one["metadata"]["labels"][OWNER] = Written("{{ .Release.Service }}")  # Helm's to take away, not ours
    for trigger in one["spec"].get("triggers", ()) if one["kind"] == "ScaledObject" else ():
        if query := trigger["metadata"].get("query"):  # it asks for the pods of the namespace that the chart goes to
            trigger["metadata"]["query"] = query.replace(
                f'namespace="{made["metadata"]["namespace"]}"', 'namespace="{{ .Release.Namespace }}"'
            )
    for key, path in _places(made):
        table, _, leaf = key.rpartition(".")
        (values.setdefault(table, {}) if table else values)[leaf] = _walk(made, path)
        _walk(one, path[:-1])[path[-1]] = Written("{{ .Values." + key + " | toJson }}")
    return write_yaml(one)


_VALUES: dict[str, dict[str, tuple[str | int, ...]]] = {
    "HorizontalPodAutoscaler": {f"autoscale.{key}": ("spec", key) for key in ("minReplicas", "maxReplicas")},
    "ScaledObject": {f"autoscale.{key}": ("spec", key) for key in ("minReplicaCount", "maxReplicaCount")},
    "Service": {"port": ("spec", "ports", 0, "port")},
    "HTTPRoute": {
        "route.parentRefs": ("spec", "parentRefs"),
        "route.weights": ("spec", "rules", 0, "backendRefs"),
    },
}
_OF_TRACK: dict[str, tuple[str | int, ...]] = {"image": (*_SERVER, "image"), "replicas": ("spec", "replicas")}
_OF_STABLE: dict[str, tuple[str | int, ...]] = {
    "resources": (*_SERVER, "resources"),
    "args": (*_SERVER, "args"),
    "nodeSelector": (*_POD, "nodeSelector"),
    "imagePullSecrets": (*_POD, "imagePullSecrets"),
}


def _places(made: Manifest) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Yield the name of each value and where it stands in this object, where it has one."""
    found = dict(_VALUES.get(made["kind"], {}))
    if made["kind"] == "Deployment":
        track = made["spec"]["template"]["metadata"]["labels"][TRACK]
        prefix = "" if track == STABLE else f"{track}."
        found = {f"{prefix}{key}": path for key, path in _OF_TRACK.items()} | (_OF_STABLE if not prefix else {})
    for key, path in found.items():
        with contextlib.suppress(KeyError):
            _walk(made, path)
            yield key, path


def _walk(value: Any, path: tuple[str | int, ...]) -> Any:  # JSON
    for step in path:
        value = value[step]
    return value


def _literal(value: Any) -> Any:  # JSON
    """Keep Helm from taking text of the user's for an expression."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    if isinstance(value, str) and _OPENED in value:
        return value.replace(_OPENED, "{{ `{{` }}")
    return value
