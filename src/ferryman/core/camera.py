"""Where pictures come from: a camera, what it is opened as, and the frames it gives."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.errors import FerrymanError

Policy = Literal["latest", "every"]
"""What happens to frames that come faster than they are asked about: old ones are dropped, or the camera waits."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CameraLost(FerrymanError):
    """Say that a camera gives no frames now: it is opened again."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Hold one picture of a camera.

    `picture` is uint8 [height, width, 3], blue first, and belongs to whoever holds the frame. `number` counts from 0
    over all reconnections; `captured_s` is `time.monotonic()` when it was taken (or read, where the source doesn't
    tell); `media_s` is the source's own time, in seconds from its start.
    """

    picture: NDArray[np.uint8]
    number: int
    captured_s: float
    media_s: float


class CameraSection(BaseModel):
    """Be a `[camera.NAME]` section of ferryman.toml; each kind of camera is a subclass with its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field("video", description="What kind of camera it is.")
    policy: Policy | None = Field(
        None,
        description="What to do when late: latest drops old frames, every never drops; by default latest for what is "
        "live, every for files.",
    )
    stale_s: Seconds = Field(5.0, description="Without a frame for so long, the camera counts as stale.")
    frozen_s: Seconds = Field(
        10.0, description="With one and the same picture for so long, a live camera counts as frozen."
    )
    frozen_levels: Annotated[int, Field(ge=0, le=64)] = Field(
        0,
        description="Pixels that differ by so many of 255 levels are the same: an encoder that repeats a picture may "
        "change it a little; a sensor that works changes it, too.",
    )
    retry_s: Seconds = Field(10.0, description="Longest pause between two tries to open a camera that was lost.")


class Reader(Protocol):
    """Give a camera's frames, one after the other; one thread reads."""

    @property
    def fps(self) -> float:
        """Give the frames of a second as the source states them, 0 where it doesn't."""

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end of what has one. Raises CameraLost."""

    def close(self) -> None:
        """Give everything back; a `read` that waits in another thread ends soon."""


class Camera(Protocol):
    """Open one kind of source: a frozen CameraSection whose fields are its options."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]

    @property
    def is_live(self) -> bool:
        """Tell whether time goes on while nobody reads, and the source is to be opened again when it ends."""

    def open(self) -> Reader:
        """Open it; raises CameraLost where it can't be reached now, ConfigError where it never can."""
