"""Where a bundle is carried to: what is to run there, what would change, how it stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.progress import Progress

Files = Mapping[str, str]
"""What a target renders: the text of each file by its path, with / between folders."""

Move = Literal["create", "change", "remove", "keep"]


@dataclass(frozen=True, slots=True)
class Landing:
    """Say what is to run: a model in an image, and what it needs.

    `name` is a DNS label; `image` a reference, by digest where it comes from a registry ("" where none is needed);
    `folder` is the bundle's, where it lies on this machine. `memory_mb` is the most that the container may take.
    `threads` is what the server must be told, 0 where the bundle says it.
    """

    name: str
    model: str
    image: str
    digest: str
    format: str
    memory_mb: int
    cpus: float
    threads: int = 0
    folder: Path | None = None
    cold_start_s: float | None = None
    p99_ms: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """Say what happens, or would, to one thing of a target; `diff` shows a change line by line."""

    move: Move
    what: str
    diff: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Say how a deployed model stands: `ready` of `wanted` copies, of which image; `notes` say why it isn't ready."""

    name: str
    is_there: bool
    ready: int
    wanted: int
    image: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Tell whether every copy that is wanted answers."""
        return self.is_there and self.ready >= self.wanted


class TargetSection(BaseModel):
    """Be a `[targets.NAME]` section of ferryman.toml; each kind of target is a subclass with its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="What kind of place it is; NAME by default.")
    image: str = Field(
        "", description="The image to run: REPOSITORY@sha256:..., or REPOSITORY:TAG, whose digest is looked up."
    )
    service: Annotated[str, Field(pattern=r"^([a-z]([a-z0-9-]{0,38}[a-z0-9])?)?$")] = Field(
        "", description="What it is called there: a DNS label of at most 40 signs; the model's name by default."
    )
    memory_mb: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Most memory of a copy, in MiB; from the contract's max_rss_mb by default, with head room."
    )
    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Cores of a copy; as many as the bundle was built for by default."
    )


class Target(Protocol):
    """Carry a landing to one kind of place: a frozen TargetSection whose fields are its options.

    `render` is pure: equal landings and options give equal text, with no clock, network or file read. The others talk
    to the place; what they need is imported inside of them, so that rendering needs nothing.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]

    def render(self, landing: Landing) -> Files:
        """Give the files that describe the landing to this kind of place."""

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Make it so and wait until it answers; gives what was changed. With `dry_run` only tell what would be."""

    def status(self, name: str) -> Standing:
        """Tell how it stands."""

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines that each copy has written, begun with the copy's name."""

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Take away what was put there under this name, and nothing else."""
