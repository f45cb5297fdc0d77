"""KServe: the model as an InferenceService, and the ServingRuntime that answers for it."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ferryman.core.progress import Progress
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.targets.kube.cluster import Cluster
from ferryman.targets.kube.deploying import bring, owned, read_logs, take_away, tell
from ferryman.targets.kube.objects import kustomization
from ferryman.targets.kube.settings import ClusterSection, Whole
from ferryman.targets.kube.waiting import troubles
from ferryman.targets.kube.workload import PORT, SEALED, USER, Manifest, metadata, pod_basics, resources
from ferryman.targets.literal import literal
from ferryman.targets.polling import until

KINDS = (("serving.kserve.io/v1alpha1", "ServingRuntime"), ("serving.kserve.io/v1beta1", "InferenceService"))
FORMAT = "ferryman"
_CONTAINER = "kserve-container"  # the one that KServe puts the model's storage and its own options into
_MODELS = "/mnt/models"  # where KServe mounts what storageUri names


class KServe(ClusterSection):
    """Run as an InferenceService, on a cluster that has KServe."""

    name: ClassVar[str] = "kserve"
    needs: ClassVar[tuple[str, ...]] = ("kubernetes",)
    extra: ClassVar[str] = "kubernetes"

    least: Annotated[int, Field(ge=0)] = Field(1, description="Fewest copies; 0 needs KServe's serverless mode.")
    most: Whole = Field(4, description="Most copies.")
    scale_by: Literal["cpu", "concurrency", "rps"] = Field("cpu", description="The figure that copies follow.")
    scale_target: Whole = Field(70, description="The figure to keep: percent of `cpus`, requests, requests a second.")
    mode: Literal["", "Standard", "RawDeployment", "Serverless", "Knative"] = Field(
        "", description="KServe's deployment mode; the cluster's own by default."
    )
    storage: str = Field(
        "",
        description="Where KServe takes the bundle from (oci://..., s3://..., pvc://...); from the image by default.",
    )
    canary_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="Send only this share of the requests to the newest revision (serverless mode)."
    )

    def render(self, landing: Landing) -> Files:
        """Give a kustomization of both objects."""
        return kustomization(self._objects(landing), self.namespace)

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Apply on the server's side, and wait until KServe says that it is ready."""
        with self._cluster() as cluster:
            changes = bring(
                cluster, self._objects(landing), KINDS, name=landing.name, dry_run=dry_run, force=self.force_conflicts
            )
            if not dry_run:
                tell(changes, progress)
                until(
                    lambda: _standing(cluster, landing.name), limit_s=self.wait_s, name=landing.name, progress=progress
                )
        return changes

    def status(self, name: str) -> Standing:
        """Tell what KServe says."""
        with self._cluster() as cluster:
            return _standing(cluster, name)

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every pod."""
        with self._cluster() as cluster:
            yield from read_logs(cluster, name, container=_CONTAINER, lines=lines)

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Delete both objects; KServe takes away what it made of them."""
        with self._cluster() as cluster:
            return take_away(cluster, KINDS, name, dry_run=dry_run, limit_s=self.wait_s, progress=progress)

    def _cluster(self) -> Cluster:
        return Cluster(self.context, self.namespace)

    def _objects(self, landing: Landing) -> list[Manifest]:
        return [self._runtime(landing), self._service(landing)]

    def _runtime(self, landing: Landing) -> Manifest:
        """Give the ServingRuntime: the image, which speaks the protocol V2 over HTTP and gRPC at one port."""
        threads = ["--threads", str(landing.threads)] if landing.threads else []
        place = [_MODELS] if self.storage else []
        env = [{"name": key, "value": literal(self.env[key])} for key in sorted(self.env)]
        container: dict[str, Any] = {  # JSON
            "name": _CONTAINER,
            "image": landing.image,
            "args": ["serve", *place, *threads, *map(literal, self.options)],
            **({"env": env} if env else {}),
            "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
            "resources": resources(landing, self),
            "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": PORT}, "periodSeconds": 2},
            "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": PORT}, "periodSeconds": 10},
            "securityContext": SEALED | {"runAsNonRoot": True, "runAsUser": USER},
        }
        return {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": metadata(landing, self.namespace),
            "spec": {
                "supportedModelFormats": [{"name": FORMAT, "version": "1", "autoSelect": False}],
                "protocolVersions": ["v2", "grpc-v2"],
                "multiModel": False,
                "containers": [container],
                **pod_basics(self),
            },
        }

    def _service(self, landing: Landing) -> Manifest:
        """Give the InferenceService, which names its runtime, so that no other is taken for it."""
        predictor: dict[str, Any] = {  # JSON
            "minReplicas": self.least,
            "maxReplicas": max(self.most, self.least),
            "scaleMetric": self.scale_by,
            "scaleTarget": self.scale_target,
            **({"canaryTrafficPercent": self.canary_percent} if self.canary_percent is not None else {}),
            "automountServiceAccountToken": False,
            "model": {
                "modelFormat": {"name": FORMAT, "version": "1"},
                "protocolVersion": "v2",
                "runtime": landing.name,
                **({"storageUri": self.storage} if self.storage else {}),
                "resources": resources(landing, self),
            },
        }
        meta = metadata(landing, self.namespace)
        if self.mode:
            meta["annotations"] = {"serving.kserve.io/deploymentMode": self.mode}
        return {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": meta,
            "spec": {"predictor": predictor},
        }


def _standing(cluster: Cluster, name: str) -> Standing:
    found = cluster.find(*KINDS[1], owned(name))
    runtimes = cluster.find(*KINDS[0], owned(name))
    image = runtimes[0]["spec"]["containers"][0]["image"] if runtimes else ""
    conditions = [one for service in found for one in service.get("status", {}).get("conditions", ())]
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    said = [
        f"{one['type']}: {one.get('message') or one.get('reason', '')}"
        for one in conditions
        if one["status"] == "False"
    ]
    notes = [] if is_ready else [*said, *troubles(cluster, name)]
    return Standing(name, bool(found), int(is_ready), 1, image, tuple(notes))
