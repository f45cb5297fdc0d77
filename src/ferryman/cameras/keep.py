"""Keep a camera open: open it again when it is lost, and say how it stands."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ferryman.cameras._address import redact
from ferryman.core.camera import Camera, CameraLost, CameraSection, Frame, Reader
from ferryman.core.errors import FerrymanError

State = Literal["opening", "live", "stale", "frozen", "lost", "ended", "failed"]
FIRST_PAUSE_S = 0.1
_STEP = 16
"""Every so many pixels are looked at to tell a frozen picture."""

_log = logging.getLogger("ferryman.cameras")


@dataclass(frozen=True, slots=True)
class Health:
    """Say how a camera stands: frames read, times that it was lost, damaged packets, the last frame's age in s."""

    state: State
    frames: int
    losses: int
    damaged: int
    fps: float
    age_s: float | None
    error: str = ""
    recovered_s: float | None = None

    @property
    def is_well(self) -> bool:
        """Tell whether its frames can be relied on, or it has ended as files do."""
        return self.state in ("live", "ended")


class KeptCamera:
    """Read one camera in a thread of its own and hand each frame over, over all losses.

    `take` gets each frame in that thread and may block; `end` is called once, when no frame comes any more.
    """

    def __init__(
        self, name: str, camera: Camera, take: Callable[[Frame], object], end: Callable[[], object] = lambda: None
    ) -> None:
        if not isinstance(camera, CameraSection):
            raise TypeError(f"camera {name} is no CameraSection")
        self.name = name
        self._camera, self._section = camera, camera
        self._take, self._end = take, end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{name}", daemon=True)
        self._frames = self._losses = self._damaged = 0
        self._fps = 0.0
        self._last_s: float | None = None
        self._changed_s = 0.0
        self._lost_s: float | None = None
        self._recovered_s: float | None = None
        self._seen: NDArray[np.uint8] | None = None
        self._state: State = "opening"
        self._error = ""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; `join` waits."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait until it has ended; tells whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def health(self) -> Health:
        """Say how it stands now."""
        now_s = time.monotonic()
        last_s = self._last_s
        return Health(
            state=self._state_at(now_s), frames=self._frames, losses=self._losses, damaged=self._damaged,
            fps=self._fps, age_s=None if last_s is None else now_s - last_s, error=self._error,
            recovered_s=self._recovered_s,
        )  # fmt: skip

    def _state_at(self, now_s: float) -> State:
        if self._state != "live" or not self._camera.is_live:
            return self._state
        if self._last_s is not None and now_s - self._last_s > self._section.stale_s:
            return "stale"
        return "frozen" if now_s - self._changed_s > self._section.frozen_s else "live"

    def _run(self) -> None:
        try:
            self._keep()
        except FerrymanError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way; the other cameras go on
            _log.exception("camera %s failed", self.name)
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            self._end()

    def _fail(self, why: str) -> None:
        self._state, self._error = "failed", why
        _log.error("camera %s failed for good: %s", self.name, why)

    def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            frames = self._frames
            try:
                if self._read_all():
                    self._state = "ended"
                    return
            except CameraLost as error:
                if self._state != "lost":
                    self._losses += 1
                    self._lost_s = time.monotonic()
                    _log.warning("camera %s is lost: %s", self.name, error)
                self._state, self._error = "lost", str(error)
            pause_s = FIRST_PAUSE_S if self._frames > frames else min(pause_s * 2, self._section.retry_s)
            if self._stop.is_set() and self._state == "live":
                self._state = "ended"
            self._stop.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret: cameras don't come together

    def _read_all(self) -> bool:
        """Read until the end; False where it was asked to stop. Raises CameraLost."""
        reader = self._camera.open()
        first = self._frames
        try:
            self._fps = reader.fps
            while not self._stop.is_set():
                frame = reader.read()
                if frame is None:
                    return True
                self._look(frame, reader)
                self._take(Frame(frame.picture, first + frame.number, frame.captured_s, frame.media_s))
            return False
        finally:
            reader.close()

    def _look(self, frame: Frame, reader: Reader) -> None:
        now_s = time.monotonic()
        self._frames += 1
        self._damaged = max(self._damaged, getattr(reader, "damaged", 0))
        if self._state != "live":
            if self._lost_s is not None:
                self._recovered_s = now_s - self._lost_s
                _log.info("camera %s gives frames again after %.1f s", self.name, self._recovered_s)
                self._lost_s = None
            self._changed_s = now_s
            self._state, self._error = "live", ""
        seen = frame.picture[::_STEP, ::_STEP]
        if self._has_changed(seen):
            self._seen = seen.copy()
            self._changed_s = now_s
        self._last_s = now_s

    def _has_changed(self, seen: NDArray[np.uint8]) -> bool:
        before = self._seen
        if before is None or before.shape != seen.shape:
            return True
        levels = self._section.frozen_levels
        return bool((np.maximum(before, seen) - np.minimum(before, seen) > levels).any())


def shown_source(camera: CameraSection) -> str:
    """Give where a camera is, without secrets."""
    return redact(str(getattr(camera, "source", "")))
