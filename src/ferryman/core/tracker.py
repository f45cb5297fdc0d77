"""Which boxes of following frames are the same thing."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

UNTRACKED = -1
"""The identity of a box that belongs to no track, or not yet."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Hold the boxes of one frame: corners x1, y1, x2, y2 float32 [N, 4] in its pixels, scores float32 [N], classes
    int64 [N], and ids int64 [N], UNTRACKED where there is none.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Detections":
        """Give some of them: a mask or places."""
        return Detections(self.boxes[chosen], self.scores[chosen], self.classes[chosen], self.ids[chosen])


class TrackerSection(BaseModel):
    """Be the `[pipeline.track]` section; each kind of tracker is a subclass with its own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="Which tracker.")


class Tracker(Protocol):
    """Follow the things of one camera."""

    def update(self, found: Detections, picture: NDArray[np.uint8]) -> Detections:
        """Give this frame's boxes with their identities; called once for every frame, in order."""


class TrackerFactory(Protocol):
    """Start trackers of one kind: a frozen TrackerSection whose fields are its options."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]

    def start(self, fps: float) -> Tracker:
        """Start one for a camera of so many frames a second; raises MissingExtra."""
