"""What Ray Serve is told: its configuration, and KubeRay's RayService around it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.target import Landing, TargetSection

APPLICATION = "ferryman.targets.rayserve.application:application"
DEPLOYMENT = "ferryman"

Config = dict[str, Any]  # JSON
Whole = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Cores = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Part(BaseModel):
    """Be a table within the section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RayAutoscale(Part):
    """Say how far the number of replicas follows the load."""

    least: Annotated[int, Field(ge=0)] = Field(1, description="Fewest replicas; 0 lets an idle model go.")
    most: Whole = Field(8, description="Most replicas.")
    ongoing: Annotated[float, Field(gt=0)] = Field(4.0, description="Requests in work in each replica to aim at.")
    up_delay_s: Annotated[float, Field(ge=0)] = Field(10.0, description="How long there must be too much before more.")
    down_delay_s: Annotated[float, Field(ge=0)] = Field(120.0, description="How long too little, before fewer.")


class RayNodes(Part):
    """Say of which pods KubeRay makes the cluster, in the rendered RayService."""

    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] = Field(
        "default", description="Its namespace."
    )
    version: str = Field("2.60.0", description="The Ray in the image.")
    least: Annotated[int, Field(ge=0)] = Field(1, description="Fewest worker pods.")
    most: Whole = Field(4, description="Most worker pods.")
    cpus: Cores = Field(4.0, description="Cores of a worker pod; several replicas share one.")
    memory_mb: Whole = Field(8192, description="Memory of a worker pod, in MiB.")
    head_cpus: Cores = Field(2.0, description="Cores of the head pod; no replicas run there.")
    head_memory_mb: Whole = Field(4096, description="Memory of the head pod, in MiB.")


class RaySection(TargetSection):
    """Hold what a Ray cluster takes."""

    address: str = Field("http://127.0.0.1:8265", description="The address of the cluster's dashboard.")
    token_file: str = Field("", description="File with the token of a cluster that asks for one (RAY_AUTH_TOKEN).")
    bundle: str = Field(
        "",
        description="Where each node finds the bundle: a path there, or oci://REGISTRY/NAME@sha256:...; from the image "
        "by default, or where it lies now if there is none.",
    )
    models: dict[str, str] = Field(
        default_factory=dict, description="More models that the same replicas answer for, and where nodes find them."
    )
    loaded: Whole = Field(3, description="With `models`: the most of them that a replica holds at once.")
    replicas: Whole = Field(2, description="Copies, where nothing scales them.")
    autoscale: RayAutoscale | None = Field(None, description="Follow the load.")
    per_node: Annotated[int, Field(ge=1, le=100)] | None = Field(None, description="Most copies on a node.")
    gpus: Annotated[float, Field(ge=0)] = Field(0.0, description="GPUs of each copy; a share of one works, too.")
    ongoing: Whole = Field(32, description="Most requests in work in a copy: they form its batches.")
    queued: Whole = Field(1024, description="Most requests that wait at each node's door; more get 503.")
    surge_percent: Annotated[int, Field(ge=0, le=100)] = Field(
        25,
        description="Share of copies that a new version may have in addition; 0 ends an old one before each new one.",
    )
    health_s: Seconds = Field(5.0, description="How often Ray asks each copy for its health.")
    start_s: Seconds = Field(120.0, description="Longest time until a copy answers its golden samples.")
    drain_s: Seconds = Field(60.0, description="Longest time for a copy that leaves to finish what it has.")
    route: Annotated[str, Field(pattern=r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$")] = Field(
        "/", description="The path that it answers below; one application of a cluster can have /."
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="Port of every node's door, if Serve is new.")
    host: str = Field("0.0.0.0", description="Address of every node's door, if Serve is new.")  # noqa: S104
    request_s: Seconds = Field(120.0, description="Longest time for a request, with its wait, if Serve is new.")
    python: str = Field("", description="Python on the nodes that has ferryman and its runtime; Ray's own by default.")
    options: tuple[str, ...] = Field((), description="More options of `ferryman serve`.")
    env: dict[str, str] = Field(default_factory=dict, description="More environment variables.")
    wait_s: Seconds = Field(300.0, description="How long `apply` waits until all copies answer.")
    nodes: RayNodes = Field(RayNodes(), description="The cluster that the rendered RayService makes.")


def application(landing: Landing, section: RaySection) -> Config:
    """Give one application of Ray Serve's configuration (its ServeApplicationSchema)."""
    threads = ("--threads", str(landing.threads)) if landing.threads else ()
    place = section.bundle or ("" if landing.image else str(landing.folder or ""))
    models = {landing.model: {"bundle": place, "digest": landing.digest}}
    arguments: Config = {
        "models": models | {name: {"bundle": path} for name, path in sorted(section.models.items())},
        "options": [*threads, *section.options],
        "start_s": section.start_s,
    }
    if section.models:
        arguments["loaded"] = section.loaded
    if section.python:
        arguments["python"] = section.python
    return {
        "name": landing.name,
        "route_prefix": section.route,
        "import_path": APPLICATION,
        **({"runtime_env": {"env_vars": dict(sorted(section.env.items()))}} if section.env else {}),
        "args": arguments,
        "deployments": [_deployment(landing, section)],
    }


def _deployment(landing: Landing, section: RaySection) -> Config:
    scale = section.autoscale
    copies: Config = {"num_replicas": section.replicas}
    if scale is not None:
        copies = {
            "autoscaling_config": {
                "min_replicas": scale.least,
                "max_replicas": max(scale.most, scale.least),
                "target_ongoing_requests": scale.ongoing,
                "upscale_delay_s": scale.up_delay_s,
                "downscale_delay_s": scale.down_delay_s,
            }
        }
    actor: Config = {"num_cpus": landing.cpus, "memory": copy_mb(landing, section) * 1024.0 * 1024.0}
    if section.gpus:
        actor["num_gpus"] = section.gpus
    return {
        "name": DEPLOYMENT,
        **copies,
        "max_ongoing_requests": section.ongoing,
        "max_queued_requests": section.queued,
        "max_surge_percent": section.surge_percent,
        "health_check_period_s": section.health_s,
        "graceful_shutdown_timeout_s": section.drain_s,
        "ray_actor_options": actor,
        **({"max_replicas_per_node": section.per_node} if section.per_node else {}),
    }


def copy_mb(landing: Landing, section: RaySection) -> int:
    """Give a copy's memory in MiB: that of as many models as it holds at once."""
    return landing.memory_mb * min(section.loaded, len(section.models) + 1)


def doors(section: RaySection) -> Config:
    """Give what is said of every node's door; a Serve that already runs keeps its own."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": section.host, "port": section.port, "request_timeout_s": section.request_s},
    }


def serve_config(landing: Landing, section: RaySection) -> Config:
    """Give what `serve deploy FILE` takes (Ray's ServeDeploySchema)."""
    return {**doors(section), "applications": [application(landing, section)]}
