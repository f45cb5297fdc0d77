"""What `[targets.NAME]` takes for Kubernetes."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ferryman.core.target import TargetSection

Whole = Annotated[int, Field(ge=1)]
Seconds = Annotated[int, Field(ge=1, le=3600)]


class Part(BaseModel):
    """Be a table within the section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Autoscale(Part):
    """Say by what, and how far, the number of copies follows the load."""

    by: Literal["cpu", "waiting", "keda"] = Field(
        "cpu",
        description="cpu: HorizontalPodAutoscaler on CPU; waiting: on CPU and on requests in the queue "
        "(needs a metrics adapter); keda: KEDA's ScaledObject on the same, asked of Prometheus.",
    )
    least: Whole = Field(2, description="Fewest copies.")
    most: Whole = Field(10, description="Most copies.")
    cpu_percent: Annotated[int, Field(ge=1, le=100)] = Field(70, description="CPU to keep, in percent of `cpus`.")
    waiting: Whole = Field(4, description="Requests in the queue of each copy, above which there are more copies.")
    p99_ms: Annotated[float, Field(gt=0)] | None = Field(
        None, description="With keda: also add copies while the 99th percentile is over it."
    )
    prometheus: str = Field("", description="With keda: Prometheus' address as the cluster sees it.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least = {self.least} is over most = {self.most}")
        if self.by == "keda" and not self.prometheus:
            raise ValueError('by = "keda" needs prometheus = "http://...", where the figures are asked')
        if self.by != "keda" and (self.prometheus or self.p99_ms):
            raise ValueError('prometheus and p99_ms are for by = "keda"')
        return self


class Gateway(Part):
    """Name the gateway (Gateway API) that lets callers in."""

    gateway: str = Field(description="The Gateway's name.")
    namespace: str = Field("", description="The Gateway's namespace; the model's own by default.")
    hostnames: tuple[str, ...] = Field((), description="Host names to answer to; all by default.")


class Canary(Part):
    """Run a second image beside, and send it a share of the requests."""

    image: str = Field(description="Its image, by digest.")
    percent: Annotated[int, Field(ge=0, le=100)] = Field(5, description="Share of the requests that it answers.")
    replicas: Whole = Field(1, description="Its copies.")


class Shadow(Part):
    """Run a second image beside, and send it a copy of every request; nobody sees its answers."""

    image: str = Field(description="Its image, by digest.")
    replicas: Whole = Field(1, description="Its copies.")


class Model(Part):
    """Take the bundle from an image of its own rather than from the image that runs."""

    image: str = Field(description="The image, or OCI artifact, that holds the bundle, by digest.")
    by: Literal["volume", "copy"] = Field(
        "volume",
        description="volume: mounted as an image volume (Kubernetes 1.35, or a feature gate from 1.31 on); copy: an "
        "init container of that image copies it, where it has a Python.",
    )
    path: str = Field("bundle", description="Where the bundle lies in it.")


class ClusterSection(TargetSection):
    """Hold what every kind of target on a cluster takes."""

    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] = Field(
        "default", description="The namespace; it must be there."
    )
    context: str = Field("", description="The kubeconfig's context; the current one by default.")
    wait_s: Annotated[float, Field(gt=0)] = Field(300.0, description="How long `apply` waits until all copies answer.")
    force_conflicts: bool = Field(False, description="Take over fields that somebody else has set.")
    pull_secrets: tuple[str, ...] = Field((), description="Secrets for the image's registry.")
    gpus: Annotated[int, Field(ge=0)] = Field(0, description="GPUs of each copy.")
    gpu_resource: str = Field("nvidia.com/gpu", description="What the device plug-in calls a GPU.")
    cpu_limit: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Cores that a copy may not go beyond; none by default, as a limit stops all threads at once."
    )
    options: tuple[str, ...] = Field((), description="More options of `ferryman serve`.")
    env: dict[str, str] = Field(default_factory=dict, description="More environment variables.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that a node must have.")


class KubernetesSection(ClusterSection):
    """Hold what a plain cluster takes."""

    form: Literal["kustomize", "helm", "podman"] = Field(
        "kustomize",
        description="What is rendered: a kustomization, a chart, or one pod's file for `podman play kube` on one host.",
    )
    replicas: Whole = Field(2, description="Copies, where nothing scales them.")
    unready_s: Seconds = Field(5, description="After SIGTERM, still answer while the cluster's routes change.")
    drain_s: Seconds = Field(25, description="After that, the time to finish what was taken.")
    start_s: Whole = Field(120, description="Longest time until a copy's process answers at all.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(80, description="The Service's port for HTTP.")
    grpc_port: Annotated[int, Field(ge=1, le=65535)] = Field(9000, description="The Service's port for gRPC (h2c).")
    headless: bool = Field(False, description="Add a headless Service, for clients that balance by themselves.")
    network_policy: bool = Field(True, description="Let in only `allow_from`, and nothing out.")
    allow_from: tuple[str, ...] = Field((), description="Namespaces that may ask, beside its own.")
    allow_out: bool = Field(False, description="Let it out: traces, keys from a URL.")
    service_monitor: bool = Field(False, description="Add a ServiceMonitor, for the Prometheus operator.")
    autoscale: Autoscale | None = Field(None, description="Follow the load.")
    gateway: Gateway | None = Field(None, description="Add an HTTPRoute.")
    canary: Canary | None = Field(None, description="Send a share of the requests to another image.")
    shadow: Shadow | None = Field(None, description="Send a copy of the requests to another image.")
    model: Model | None = Field(None, description="Take the bundle from another image.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.gateway is None and (self.canary or self.shadow):
            raise ValueError("canary and shadow need a gateway table: an HTTPRoute divides the requests")
        if self.port == self.grpc_port:
            raise ValueError(f"port and grpc_port are both {self.port}")
        return self
