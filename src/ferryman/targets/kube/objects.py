"""All objects of a landing, in the order in which a cluster should get them."""

from ferryman.core.target import Files, Landing
from ferryman.targets.kube.chart import chart
from ferryman.targets.kube.network import CANARY, SHADOW, account, policy, route, services
from ferryman.targets.kube.scaling import disruption_budget, monitor, scaler
from ferryman.targets.kube.settings import KubernetesSection
from ferryman.targets.kube.workload import Manifest, deployment
from ferryman.targets.yaml import write_yaml

KINDS = (
    ("v1", "ServiceAccount"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
)
"""Every kind that is ever made: where `apply` and `remove` look for what is no longer wanted."""


def objects(landing: Landing, section: KubernetesSection) -> list[Manifest]:
    """Give the objects; equal landings and settings give equal ones."""
    replicas = None if section.autoscale else section.replicas
    deployments = [deployment(landing, section, image=landing.image, replicas=replicas)]
    for track, beside in ((CANARY, section.canary), (SHADOW, section.shadow)):
        if beside is not None:
            deployments.append(deployment(landing, section, image=beside.image, track=track, replicas=beside.replicas))
    return [
        account(landing, section),
        *([policy(landing, section)] if section.network_policy else []),
        *services(landing, section),
        *deployments,
        *disruption_budget(landing, section),
        *scaler(landing, section),
        *route(landing, section),
        *monitor(landing, section),
    ]


def files(landing: Landing, section: KubernetesSection) -> Files:
    """Give a kustomization (a file for each kind of object), a chart that renders to the same, or a pod's file."""
    made = objects(landing, section)
    if section.form == "helm":
        return chart(landing, section, made)
    if section.form == "podman":
        return {"pod.yaml": write_yaml(for_podman(deployment(landing, section, image=landing.image, replicas=1)))}
    return kustomization(made, section.namespace)


def kustomization(made: list[Manifest], namespace: str) -> Files:
    """Give the files of these objects, and the kustomization that lists them."""
    found: dict[str, list[Manifest]] = {}
    for one in made:
        found.setdefault(f"{one['kind'].lower()}.yaml", []).append(one)
    head = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": list(found),
    }
    return {"kustomization.yaml": write_yaml(head), **{name: write_yaml(*some) for name, some in found.items()}}


def for_podman(made: Manifest) -> Manifest:
    """Leave out of a Deployment what `podman play kube` takes otherwise than a cluster.

    Ports: it would publish each on every address of the host, so that a second pod has no place. Probes: it would ask
    by a shell and curl in the container, which the image doesn't have. Its volumes are the host's, by their names: here
    they have the pod's.
    """
    spec, name = made["spec"]["template"]["spec"], made["metadata"]["name"]
    own = {**spec, "volumes": _renamed(spec["volumes"], name)}
    for kind in ("initContainers", "containers"):
        own[kind] = [
            {key: value for key, value in one.items() if key != "ports" and not key.endswith("Probe")}
            | {"volumeMounts": _renamed(one["volumeMounts"], name)}
            for one in spec.get(kind, ())
        ]
    return {**made, "spec": {**made["spec"], "template": {**made["spec"]["template"], "spec": own}}}


def _renamed(named: list[Manifest], prefix: str) -> list[Manifest]:
    return [{**one, "name": f"{prefix}-{one['name']}"} for one in named]
