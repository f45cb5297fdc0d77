"""What `[targets.NAME]` takes for Container Apps and Azure Machine Learning."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ferryman.core.target import TargetSection

Percent = Annotated[int, Field(ge=1, le=100)]
_ID = r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$"


class AzureSection(TargetSection):
    """Hold what both take."""

    subscription: Annotated[str, Field(pattern=_ID)] = Field("", description="The subscription's id.")
    resource_group: str = Field("", description="The resource group; it must be there.")
    location: str = Field("westeurope", description="The region.")
    identity: str = Field(
        "", description="Resource id of the user-assigned identity that the server runs as and pulls its image as."
    )
    percent: Percent = Field(
        100, description="Share of the requests that a new version gets; the one before keeps the rest."
    )
    wait_s: Annotated[float, Field(gt=0)] = Field(1800.0, description="How long `apply` waits for each step.")
    options: tuple[str, ...] = Field((), description="More options of `ferryman serve`.")
    env: dict[str, str] = Field(default_factory=dict, description="More environment variables.")
    api: Annotated[str, Field(pattern=r"^https://[^/]+$")] = Field(
        "https://management.azure.com", description="The Resource Manager's address; another one in sovereign clouds."
    )


class ContainerAppsSection(AzureSection):
    """Hold what Container Apps takes."""

    environment: str = Field("", description="The managed environment: its name in the group, or its resource id.")
    least: Annotated[int, Field(ge=0)] = Field(0, description="Fewest copies; 0 lets it sleep.")
    most: Annotated[int, Field(ge=1, le=1000)] = Field(10, description="Most copies.")
    concurrency: Annotated[int, Field(ge=1)] = Field(16, description="Requests at a time, over which there are more.")
    start_s: Annotated[int, Field(ge=10, le=2400)] = Field(120, description="Longest time until a new copy answers.")
    external: bool = Field(True, description="Let callers in from outside of the environment.")
    http2: bool = Field(False, description="HTTP/2 end to end, for gRPC; then there is no HTTP/1.1.")
    profile: str = Field("", description="The environment's workload profile; Consumption by default.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least = {self.least} is over most = {self.most}")
        return self


class MachineLearningSection(AzureSection):
    """Hold what an online endpoint of Azure Machine Learning takes."""

    workspace: str = Field("", description="The workspace; it must be there.")
    instance_type: str = Field("Standard_DS2_v2", description="The machines' type.")
    instances: Annotated[int, Field(ge=1)] = Field(1, description="How many machines there are.")
    auth: Literal["key", "aad_token"] = Field("key", description="How callers prove who they are.")
    concurrency: Annotated[int, Field(ge=1)] = Field(16, description="Requests at a time for a machine.")
    timeout_s: Annotated[int, Field(ge=1, le=180)] = Field(60, description="Longest time of a request.")
    start_s: Annotated[int, Field(ge=10, le=3600)] = Field(600, description="Longest time until a new copy answers.")
    public: bool = Field(True, description="Let callers in from outside of the workspace's network.")
