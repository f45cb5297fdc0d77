"""The Deployment: one copy's container, how it is probed, what it may, and how a new version takes over."""

from typing import Any

from ferryman.core.target import Landing
from ferryman.targets.kube.settings import ClusterSection, KubernetesSection, Model
from ferryman.targets.literal import literal

Manifest = dict[str, Any]  # a Kubernetes object, as JSON

PORT = 8080
USER = 65532
STABLE = "stable"
TRACK = "ferryman/track"
OWNER = "app.kubernetes.io/managed-by"
_SPARE_S = 10  # between the server's own end and the kubelet's patience
_MODEL_AT = "/models"
_READY, _LIVE = "/v2/health/ready", "/v2/health/live"
_COPY = "import shutil; shutil.copytree({path!r}, {to!r}, dirs_exist_ok=True)"


def metadata(landing: Landing, namespace: str, suffix: str = "") -> Manifest:
    """Give an object's name and the labels by which it is found again."""
    return {"name": f"{landing.name}{suffix}", "namespace": namespace, "labels": labels(landing)}


def labels(landing: Landing) -> dict[str, str]:
    """Give the recommended labels; `managed-by` and `instance` are what `remove` goes by."""
    own = {
        "app.kubernetes.io/name": "ferryman",
        "app.kubernetes.io/instance": landing.name,
        OWNER: "ferryman",
    }
    return {**landing.labels, **own}


def selector(landing: Landing, track: str = "") -> dict[str, str]:
    """Give what never changes of a copy's labels: a Deployment's selector can't be changed."""
    own = {"app.kubernetes.io/name": "ferryman", "app.kubernetes.io/instance": landing.name}
    return {**own, TRACK: track} if track else own


def deployment(
    landing: Landing, section: KubernetesSection, *, image: str, track: str = STABLE, replicas: int | None
) -> Manifest:
    """Give the Deployment of one track; `replicas` None leaves the number to what scales it.

    A new version takes over copy by copy, each after it answers its golden samples: maxUnavailable is 0.
    """
    suffix = "" if track == STABLE else f"-{track}"
    version = landing.digest[:12] if track == STABLE else _version_of(image)
    spec: Manifest = {} if replicas is None else {"replicas": replicas}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(landing, section.namespace, suffix),
        "spec": spec
        | {
            "revisionHistoryLimit": 5,
            "progressDeadlineSeconds": max(600, section.start_s * 2),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector(landing, track)},
            "template": {
                "metadata": {
                    "labels": labels(landing) | {TRACK: track, "app.kubernetes.io/version": version},
                    "annotations": {
                        **({"ferryman/bundle": landing.digest} if track == STABLE else {}),
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(PORT),
                    },
                },
                "spec": _pod(landing, section, image, track),
            },
        },
    }


def _version_of(image: str) -> str:
    """Give the start of an image's digest or tag as a label's value, which may be "" and has letters at both ends."""
    _, colon, version = image.rpartition("/")[2].rpartition(":")
    return version[:12].strip("._-") if colon else ""


def _pod(landing: Landing, section: KubernetesSection, image: str, track: str) -> Manifest:
    apart = section.model if track == STABLE else None
    volumes: list[Manifest] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(64, landing.memory_mb // 4)}Mi"}}
    ]
    if apart is not None:
        source = {"image": {"reference": apart.image, "pullPolicy": "IfNotPresent"}}
        volumes.append({"name": "model", **(source if apart.by == "volume" else {"emptyDir": {}})})
    return pod_basics(section) | {
        "serviceAccountName": landing.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # or a Service's name would make environment variables of it
        "terminationGracePeriodSeconds": section.unready_s + section.drain_s + _SPARE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(landing, track)},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        **({"initContainers": [_copying(apart)]} if apart is not None and apart.by == "copy" else {}),
        "containers": [_container(landing, section, image, apart)],
        "volumes": volumes,
    }


def pod_basics(section: ClusterSection) -> Manifest:
    """Give what the user says of the pods of every kind of target."""
    found: Manifest = {}
    if section.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in section.pull_secrets]
    if section.node_selector:
        found["nodeSelector"] = dict(sorted(section.node_selector.items()))
    return found


def _container(landing: Landing, section: KubernetesSection, image: str, apart: Model | None) -> Manifest:
    environment = dict(section.env)
    mounts: list[Manifest] = [{"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108 - the container's own
    if apart is not None:
        at = f"{_MODEL_AT}/{apart.path}" if apart.by == "volume" else _MODEL_AT
        mounts.append({"name": "model", "mountPath": _MODEL_AT, "readOnly": True})
        environment["FERRYMAN_BUNDLE"] = at
    waits = {"--unready-s": section.unready_s, "--drain-s": section.drain_s, "--threads": landing.threads}
    given = [word for option, value in waits.items() if value for word in (option, str(value))]
    written = str if section.form == "podman" else literal  # podman takes every text as it is
    return {
        "name": "server",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", *given, *map(written, section.options)],
        **(
            {"env": [{"name": name, "value": written(environment[name])} for name in sorted(environment)]}
            if environment
            else {}
        ),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": resources(landing, section),
        "startupProbe": _probe(_LIVE, periodSeconds=2, failureThreshold=-(-section.start_s // 2)),
        "readinessProbe": _probe(_READY, periodSeconds=2, failureThreshold=1),
        "livenessProbe": _probe(_LIVE, periodSeconds=10, failureThreshold=3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": SEALED,
        "volumeMounts": mounts,
    }


SEALED: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""What the restricted Pod Security Standard asks of a container, and a root that can't be written."""


def resources(landing: Landing, section: ClusterSection) -> Manifest:
    """Give a copy's memory (what it gets is what it may take, so that nothing else makes it die) and cores."""
    wanted: Manifest = {"cpu": cores(landing.cpus), "memory": f"{landing.memory_mb}Mi"}
    limits: Manifest = {"memory": wanted["memory"]}
    if section.cpu_limit is not None:
        limits["cpu"] = cores(section.cpu_limit)
    if section.gpus:
        wanted[section.gpu_resource] = limits[section.gpu_resource] = str(section.gpus)
    return {"requests": wanted, "limits": limits}


def cores(cpus: float) -> str:
    """Give cores as a quantity, as the API server writes it."""
    thousandths = round(cpus * 1000)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def _probe(path: str, **times: int) -> Manifest:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 3, **times}


def _copying(model: Model) -> Manifest:
    """Give the container that copies the bundle: by Python, since such an image has no shell."""
    return {
        "name": "model",
        "image": model.image,
        "command": ["/usr/local/bin/python3", "-c", _COPY.format(path="/" + model.path.strip("/"), to=_MODEL_AT)],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": SEALED,
        "volumeMounts": [{"name": "model", "mountPath": _MODEL_AT}],
    }
