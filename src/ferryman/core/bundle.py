"""What is shipped: the chosen artifact with everything that others need to rely on it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import Deployment
from ferryman.core.proof import Proof
from ferryman.core.runtime import available_cores
from ferryman.core.task import Answer, Item

SPEC_VERSION = 1
TUNING = "tuning.json"
SIGNATURE = "model.sig"
BOM = "bom.cdx.json"
PROVENANCE = "provenance.json"
ATTACHED = (BOM, SIGNATURE, PROVENANCE)
"""Files that may lie beside a bundle's own: about it, no part of it, and so not in its manifest."""


class FileEntry(BaseModel):
    """Hold one file's digest and size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


class Manifest(BaseModel):
    """Be `bundle.json`: the list of every other file.

    `digest` names what the bundle *is*: it covers each file but those that hold timings (`measured`), so that the
    same inputs give the same digest on every build.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec_version: int
    name: str
    digest: str
    format: str = Field(description="the model's format: which runtime loads it")
    precision: str
    model: str = Field(description="path of the model's file or folder in the bundle")
    files: dict[str, FileEntry]
    measured: tuple[str, ...] = Field(description="files with timings, left out of `digest`")
    exports: dict[str, str] = Field(
        default_factory=dict, description="candidates in other formats: the path of each one's folder in the bundle"
    )


class Choice(BaseModel):
    """Say how a bundle is served: `threads` cores for one inference, so many at once, so many requests in a call."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(ge=1)
    instances: int = Field(ge=1)
    max_batch: int = Field(ge=1)


class CurvePoint(BaseModel):
    """Hold what came of Poisson arrivals at one rate; latencies count from the scheduled arrival.

    `p99_low_ms` and `p99_high_ms` are where the true one lies with 95 % probability; None stands for "not bounded",
    because too few requests were sent or too many went unanswered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate_rps: float
    achieved_rps: float
    sent: int
    answered: int
    refused: int
    failed: int
    lost: int
    p50_ms: float | None
    p99_ms: float | None
    p99_low_ms: float | None
    p99_high_ms: float | None


class Trial(BaseModel):
    """Hold one way to serve that was tried, and the highest rate at which it kept the limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choice: Choice
    rate_rps: float
    rounds: int
    error: str = ""


class Tuning(BaseModel):
    """Be `tuning.json`: the best way to serve this bundle on one machine, and how it does there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choice: Choice
    cores: int
    machine: dict[str, str]
    limit_p99_ms: float
    limit_from: str
    rate_rps: float = Field(description="the highest rate at which the limit was kept")
    curve: tuple[CurvePoint, ...]
    trials: tuple[Trial, ...]
    seconds: float
    doubts: tuple[str, ...] = Field((), description="signs that the machine was disturbed, and the choice means little")


@dataclass(frozen=True, slots=True)
class Golden:
    """Hold one sample and the answer that the verified model gave for it."""

    name: str
    item: Item
    answer: Answer


@dataclass(frozen=True, slots=True)
class Bundle:
    """Hold a verified model and its evidence, as read from a folder or .ferry file whose digests were checked."""

    path: Path
    manifest: Manifest
    deployment: Deployment
    artifact: Artifact
    proof: Proof
    golden: tuple[Golden, ...]
    tolerance: dict[str, float]
    baseline: dict[str, Any]  # JSON statistics, each task's own
    versions: dict[str, str]
    tuning: Tuning | None = None
    exports: dict[str, Artifact] = field(default_factory=dict)

    def threads(self, asked: int = 0) -> int:
        """Give the cores of one inference: as asked, else as the bundle was built, else all there are."""
        return asked or self.deployment.build.threads or available_cores()
