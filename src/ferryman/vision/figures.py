"""Count what a pipeline does, and how long its stages take."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

STAGES = ("prepare", "infer", "finish")
BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_WINDOW = 512
STUCK_S = 30.0


@dataclass(slots=True)
class Histogram:
    """Count durations in seconds, under each of BOUNDS_S."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        place = sum(seconds > bound for bound in BOUNDS_S)
        self.counts[place] += 1
        self.total_s += seconds


@dataclass(slots=True)
class CameraFigures:
    """Hold one camera's counts: frames answered, frames that the engine failed at, and ages from capture to answer."""

    answered: int = 0
    failed: int = 0
    error: str = ""
    ages: Histogram = field(default_factory=Histogram)
    recent_s: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def fps(self, now_s: float) -> float:
        """Give the answers of a second, over the last ten seconds."""
        recent = [at for at, _ in self.recent_s if now_s - at <= 10.0]
        return len(recent) / max(now_s - recent[0], 1e-3) if len(recent) > 1 else 0.0

    def age_ms(self, share: float) -> float | None:
        """Give a quantile of the time from capture to answer, of the last answers, in milliseconds."""
        return float(np.quantile([age for _, age in self.recent_s], share)) * 1e3 if self.recent_s else None


class Figures:
    """Gather figures from the pipeline's threads."""

    def __init__(self, cameras: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self.cameras = {name: CameraFigures() for name in cameras}
        self.stages = {stage: Histogram() for stage in STAGES}
        self._begun: dict[str, float] = {}

    def begin(self, stage: str, now_s: float) -> None:
        """Say that a stage has begun with a call."""
        self._begun[stage] = now_s

    def end(self, stage: str, seconds: float) -> None:
        """Say that it is done with it."""
        with self._lock:
            self._begun.pop(stage, None)
            self.stages[stage].add(seconds)

    def is_stuck(self, now_s: float) -> bool:
        """Tell whether a stage hangs over one call."""
        return any(now_s - begun_s > STUCK_S for begun_s in list(self._begun.values()))

    def answered(self, camera: str, age_s: float) -> None:
        """Count an answer that came `age_s` after its frame's capture."""
        with self._lock:
            figures = self.cameras[camera]
            figures.answered += 1
            figures.ages.add(age_s)
            figures.recent_s.append((time.monotonic(), age_s))

    def failed(self, camera: str, why: str) -> None:
        """Count a frame that got no answer."""
        with self._lock:
            self.cameras[camera].failed += 1
            self.cameras[camera].error = why
