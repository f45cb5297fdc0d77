"""Run cameras through a model: preparing, asking and finishing overlap, each in a thread of its own."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ferryman.cameras.keep import Health, KeptCamera
from ferryman.core.camera import Camera, CameraSection, Frame
from ferryman.core.errors import FerrymanError
from ferryman.core.task import Answer
from ferryman.vision.engine import Engine
from ferryman.vision.figures import Figures
from ferryman.vision.handover import Handover

_STOP_S = 15.0
_log = logging.getLogger("ferryman.vision")


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold a frame with its answer, and how long each stage took, in seconds."""

    camera: str
    frame: Frame
    answer: Answer
    stage_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Work:
    """Carry frames of one call from stage to stage."""

    frames: list[tuple[str, Frame]]
    cargo: Any = None  # what the engine's next step takes
    stage_s: dict[str, float] = field(default_factory=dict)


class Pipeline:
    """Read cameras, ask the engine about their frames, and tell every answer to `tell`, in each camera's order.

    Hand-overs are bounded, so memory is, too. A frame that the engine fails at is counted and left out; the pipeline
    goes on.
    """

    def __init__(
        self,
        cameras: Mapping[str, Camera],
        engine: Engine,
        tell: Callable[[Seen], object],
        *,
        batch: int = 1,
    ) -> None:
        self.figures = Figures(list(cameras))
        self._engine = engine
        self._tell = tell
        most = getattr(engine, "most", 0)
        self._batch = min(batch, most) if most else batch
        self._handover = Handover()
        self._prepared: queue.Queue[_Work | None] = queue.Queue(maxsize=1)
        self._answered: queue.Queue[_Work | None] = queue.Queue(maxsize=1)
        self._stopping = threading.Event()
        self._cameras = {name: self._kept(name, camera) for name, camera in cameras.items()}
        self._threads = [
            threading.Thread(target=self._guarded, args=(step,), name=f"pipeline-{step.__name__}", daemon=True)
            for step in (self._prepare, self._infer, self._finish)
        ]
        self._fault: Exception | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()
        for camera in self._cameras.values():
            camera.start()

    def stop(self) -> None:
        """End reading; what is on its way is still answered. `join` waits for it."""
        for camera in self._cameras.values():
            camera.stop()
        self._stopping.set()
        self._handover.close()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until every camera has ended and every frame is answered; tells whether it is so. Raises the fault."""
        self._threads[-1].join(timeout_s)
        if self._threads[-1].is_alive():
            return False
        for camera in self._cameras.values():
            camera.stop()
        ended = [camera.join(_STOP_S) for camera in self._cameras.values()]
        if self._fault:
            raise self._fault
        return all(ended)

    def __enter__(self) -> "Pipeline":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join(_STOP_S)

    @property
    def health(self) -> dict[str, Health]:
        """Say how each camera stands."""
        return {name: camera.health for name, camera in self._cameras.items()}

    @property
    def is_well(self) -> bool:
        """Tell whether every camera gives frames and every stage runs."""
        return (
            self._fault is None
            and all(health.is_well for health in self.health.values())
            and not self.figures.is_stuck(time.monotonic())
        )

    def dropped(self, camera: str) -> int:
        """Count the frames of a camera that were left out because newer ones came."""
        return self._handover.dropped(camera)

    def _kept(self, name: str, camera: Camera) -> KeptCamera:
        section = camera if isinstance(camera, CameraSection) else CameraSection()
        self._handover.add(name, section.policy or ("latest" if camera.is_live else "every"))
        return KeptCamera(name, camera, lambda frame: self._handover.put(name, frame), lambda: self._handover.end(name))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a fault of ours must end the pipeline, not leave it hanging
            _log.exception("the pipeline failed")
            self._fault = error
            self.stop()
            for line in (self._prepared, self._answered):
                _push_end(line)

    def _prepare(self) -> None:
        while frames := self._handover.take(self._batch):
            work = _Work(frames)
            pictures = [frame.picture for _, frame in frames]
            if self._step(work, "prepare", lambda _, pictures=pictures: self._engine.prepare(pictures)):
                self._prepared.put(work)
        self._prepared.put(None)

    def _infer(self) -> None:
        while (work := self._prepared.get()) is not None:
            if self._step(work, "infer", self._engine.infer):
                self._answered.put(work)
        self._answered.put(None)

    def _finish(self) -> None:
        while (work := self._answered.get()) is not None:
            if not self._step(work, "finish", self._engine.finish):
                continue
            for (camera, frame), answer in zip(work.frames, work.cargo, strict=True):
                self._tell(Seen(camera, frame, answer, work.stage_s))
                self.figures.answered(camera, time.monotonic() - frame.captured_s)

    def _step(self, work: _Work, stage: str, act: Callable[..., Any]) -> bool:  # an engine's step
        """Run one step on a call; False where the engine failed at it, which is counted."""
        begun_s = time.monotonic()
        self.figures.begin(stage, begun_s)
        try:
            work.cargo = act(work.cargo)
        except FerrymanError as error:
            for camera, _ in work.frames:
                self.figures.failed(camera, str(error))
            _log.error("%s failed: %s", stage, error)
            return False
        finally:
            work.stage_s[stage] = time.monotonic() - begun_s
            self.figures.end(stage, work.stage_s[stage])
        return True


def _push_end(line: "queue.Queue[_Work | None]") -> None:
    """Put the end into a hand-over, whatever is in it."""
    while True:
        try:
            line.put_nowait(None)
            return
        except queue.Full:
            try:
                line.get_nowait()
            except queue.Empty:
                continue
