"""What `[targets.NAME]` takes for Cloud Run and Vertex AI."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ferryman.core.target import TargetSection

Percent = Annotated[int, Field(ge=1, le=100)]
Seconds = Annotated[int, Field(ge=1, le=3600)]


class GoogleSection(TargetSection):
    """Hold what both take."""

    project: Annotated[str, Field(pattern=r"^(([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9])?$")] = Field(
        "", description="The project's id; that of the credentials by default."
    )
    region: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d+$")] = Field("us-central1", description="The region.")
    service_account: str = Field(
        "", description="Email address of the account that the server runs as; the project's default one by default."
    )
    percent: Percent = Field(
        100, description="Share of the requests that a new version gets; the one before keeps the rest."
    )
    wait_s: Annotated[float, Field(gt=0)] = Field(1800.0, description="How long `apply` waits for each step.")
    options: tuple[str, ...] = Field((), description="More options of `ferryman serve`.")
    env: dict[str, str] = Field(default_factory=dict, description="More environment variables.")
    api: Annotated[str, Field(pattern=r"^(https?://[^/]+)?$")] = Field(
        "",
        description="The APIs' address, as https://{service}-NAME.p.googleapis.com of Private Service Connect; "
        "Google's own by default.",
    )


class CloudRunSection(GoogleSection):
    """Hold what Cloud Run takes."""

    least: Annotated[int, Field(ge=0)] = Field(0, description="Fewest instances; 0 lets it sleep.")
    most: Annotated[int, Field(ge=1)] = Field(10, description="Most instances.")
    concurrency: Annotated[int, Field(ge=1, le=1000)] = Field(16, description="Requests at a time for an instance.")
    timeout_s: Seconds = Field(60, description="Longest time of a request.")
    start_s: Annotated[int, Field(ge=10, le=240)] = Field(120, description="Longest time until a new instance answers.")
    always_cpu: bool = Field(False, description="Keep the cores between requests, too (golden probe, traces).")
    ingress: Literal["all", "internal", "load-balancer"] = Field("all", description="Who reaches it at all.")
    public: bool = Field(False, description="Let in callers without an identity token.")
    http2: bool = Field(False, description="HTTP/2 end to end, for gRPC; then there is no HTTP/1.1.")
    generation: Literal[1, 2] = Field(2, description="The execution environment.")
    gpu: str = Field("", description='A GPU for each instance, as "nvidia-l4".')
    network: str = Field("", description="The VPC network that it may reach (direct egress).")
    subnetwork: str = Field("", description="The subnetwork for that.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least = {self.least} is over most = {self.most}")
        return self


class VertexSection(GoogleSection):
    """Hold what Vertex AI takes."""

    least: Annotated[int, Field(ge=1)] = Field(1, description="Fewest machines.")
    most: Annotated[int, Field(ge=1)] = Field(1, description="Most machines.")
    cpu_percent: Percent = Field(60, description="CPU to keep, in percent; above it there are more machines.")
    machine: str = Field("", description="The machine's type; the least n1-standard that has the room by default.")
    accelerator: str = Field("", description='Its accelerator, as "NVIDIA_TESLA_T4".')
    accelerators: Annotated[int, Field(ge=0)] = Field(0, description="How many of them.")
    spot: bool = Field(False, description="Spot machines: cheaper, and taken away at any time.")
    dedicated: bool = Field(True, description="An address of its own, for requests over 1.5 MB; never changed later.")
    start_s: Annotated[int, Field(ge=10, le=7200)] = Field(600, description="Longest time until a new copy answers.")
    access_log: bool = Field(False, description="Log each request (it costs).")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least = {self.least} is over most = {self.most}")
        if bool(self.accelerator) != bool(self.accelerators):
            raise ValueError("accelerator and accelerators belong together")
        return self
