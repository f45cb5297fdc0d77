"""What `[targets.NAME]` takes for SageMaker."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ferryman.core.target import TargetSection

MEMORY_SIZES_MB = (
    1024,
    2048,
    3072,
    4096,
    5120,
    6144,
)  # of a serverless endpoint (API_ProductionVariantServerlessConfig)
_LONGEST_ROLLOUT_S = 28800  # API_BlueGreenUpdatePolicy
_START_S = 1800  # for the new instances to start, beside all that is waited for
Whole = Annotated[int, Field(ge=1)]
Pause = Annotated[int, Field(ge=0, le=3600)]


class Part(BaseModel):
    """Be a table within the section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Serverless(Part):
    """Run without instances of one's own: AWS starts copies as requests come, and none where none do."""

    memory_mb: Annotated[int, Field(ge=1024, le=6144, multiple_of=1024)] | None = Field(
        None, description="Memory of a copy, in MB; the smallest that the contract's memory fits into by default."
    )
    concurrency: Annotated[int, Field(ge=1, le=200)] = Field(20, description="Most requests at once.")
    provisioned: Annotated[int, Field(ge=1, le=200)] | None = Field(
        None, description="Requests at once for which copies are kept warm, and paid for."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.provisioned and self.provisioned > self.concurrency:
            raise ValueError(f"provisioned = {self.provisioned} is over concurrency = {self.concurrency}")
        return self


class Autoscale(Part):
    """Say by what, and how far, the number of instances follows the load."""

    by: Literal["invocations", "cpu"] = Field("invocations", description="What is held steady.")
    least: Whole = Field(1, description="Fewest instances.")
    most: Whole = Field(4, description="Most instances.")
    per_minute: Annotated[float, Field(gt=0)] = Field(
        600.0, description="With invocations: requests a minute that each instance is to have."
    )
    cpu_percent: Annotated[float, Field(gt=0)] = Field(
        70.0, description="With cpu: what each instance is to use; AWS adds cores up, so that 4 cores go up to 400."
    )
    in_s: Pause = Field(300, description="After a change, the time until instances are taken away.")
    out_s: Pause = Field(60, description="After a change, the time until more are added.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least = {self.least} is over most = {self.most}")
        return self


class Rollout(Part):
    """Say how requests go over from the old instances to new ones, beside which those stay until all is well."""

    by: Literal["all-at-once", "canary", "linear"] = Field(
        "all-at-once", description="all-at-once; canary: `percent` first, then all; linear: `percent` at each step."
    )
    percent: Annotated[int, Field(ge=1, le=50)] = Field(
        25, description="Of the new instances, that take requests at a step (10 to 50 with linear)."
    )
    wait_s: Pause = Field(300, description="After each step, the time in which an alarm brings the old ones back.")
    keep_old_s: Pause = Field(0, description="After the last step, how long the old instances are kept besides.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.by == "linear" and self.percent < 10:
            raise ValueError(f"percent = {self.percent}: linear takes 10 to 50")
        if self.limit_s > _LONGEST_ROLLOUT_S:
            raise ValueError(
                f"{self.steps} steps of {self.wait_s} s are over {_LONGEST_ROLLOUT_S} s with all that goes with them"
            )
        return self

    @property
    def steps(self) -> int:
        """Count the steps in which requests go over."""
        return {"all-at-once": 1, "canary": 2, "linear": math.ceil(100 / self.percent)}[self.by]

    @property
    def limit_s(self) -> int:
        """Give the longest time of the whole change, in seconds."""
        return self.steps * self.wait_s + self.keep_old_s + _START_S


class Alarms(Part):
    """Say what brings the old instances back: alarms that `apply` makes, and others that are there."""

    errors_percent: Annotated[float, Field(gt=0, lt=100)] | None = Field(
        1.0, description="Answers of 5xx over this, of all in a minute."
    )
    p99_ms: Annotated[float, Field(gt=0)] | None = Field(
        None, description="The model's latency over this, 99th percentile of a minute; the contract's by default."
    )
    minutes: Annotated[int, Field(ge=1, le=60)] = Field(2, description="That many minutes one after the other.")
    others: tuple[str, ...] = Field((), description="Alarms of CloudWatch that are there already, by name.")


class Network(Part):
    """Name the part of a VPC in which the container runs."""

    subnets: tuple[str, ...] = Field(min_length=1, max_length=16, description="Subnets.")
    security_groups: tuple[str, ...] = Field(min_length=1, max_length=5, description="Security groups.")


class Capture(Part):
    """Keep requests and answers in a bucket; without this table nothing is kept."""

    to: Annotated[str, Field(pattern=r"^s3://[^/]+(/.*)?$")] = Field(description="Where: s3://BUCKET/PREFIX.")
    percent: Annotated[int, Field(ge=1, le=100)] = Field(10, description="How many of them.")
    kms_key: str = Field("", description="The key that encrypts them; the bucket's own by default.")


class SageMakerSection(TargetSection):
    """Hold what SageMaker takes."""

    region: Annotated[str, Field(pattern=r"^([a-z]{2,4}(-[a-z]+)+-\d+)?$")] = Field(
        "", description="AWS region, as eu-central-1; the one of an image that is in ECR by default."
    )
    profile: str = Field("", description="Profile of ~/.aws/config; as AWS_PROFILE and its like say by default.")
    role: Annotated[str, Field(pattern=r"^(arn:aws[a-z-]*:iam::\d{12}:role/.+)?$")] = Field(
        "", description="ARN of the role that SageMaker takes on to pull the image and write its logs."
    )
    repository: str = Field(
        "", description="ECR repository that `apply` copies the image into, and makes where there is none; the image's "
        "own, where that is in ECR, by default.",
    )  # fmt: skip
    instance_type: Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$")] = Field(
        "ml.m5.large", description="What each instance is."
    )
    instances: Whole = Field(1, description="Instances, where nothing scales them.")
    serverless: Serverless | None = Field(None, description="Without instances of one's own.")
    autoscale: Autoscale | None = Field(None, description="Follow the load.")
    rollout: Rollout = Field(default=Rollout(), description="How a new version takes over.")
    alarms: Alarms = Field(default=Alarms(), description="What brings the old version back.")
    network: Network | None = Field(None, description="Within a VPC.")
    allow_out: bool = Field(False, description="Let the container out: traces, keys from a URL.")
    capture: Capture | None = Field(None, description="Keep requests and answers.")
    kms_key: str = Field("", description="The key that encrypts the instances' disks.")
    start_s: Annotated[int, Field(ge=60, le=3600)] | None = Field(
        None, description="Longest time until a new container answers; SageMaker's own by default."
    )
    env: dict[str, str] = Field(default_factory=dict, description="More environment variables.")
    tags: dict[str, str] = Field(default_factory=dict, description="More tags, on all that is made.")
    wait_s: Annotated[float, Field(gt=0)] = Field(3600.0, description="How long `apply` and `remove` wait for AWS.")
    output: Literal["cloudformation", "terraform"] = Field("cloudformation", description="What is rendered.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.serverless is None:
            return self
        # developer guide, "Feature exclusions" of serverless inference
        said = {"autoscale": self.autoscale, "network": self.network, "capture": self.capture, "start_s": self.start_s}
        if unfit := [key for key, value in said.items() if value is not None]:
            raise ValueError(f"serverless endpoints take no {', '.join(unfit)}")
        return self
