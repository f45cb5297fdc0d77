"""Hand frames of several cameras to one model: bounded, fair, and with a stated policy when late."""

import threading
from collections import deque
from dataclasses import dataclass, field

from ferryman.core.camera import Frame, Policy

_DEPTH = 2
"""Frames of a camera that wait where none may be dropped."""


@dataclass(slots=True)
class _Lane:
    policy: Policy
    frames: deque[Frame] = field(default_factory=deque)
    dropped: int = 0
    has_ended: bool = False


class Handover:
    """Hold at most a few frames of each camera; cameras take turns, one frame each."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._lanes: dict[str, _Lane] = {}
        self._turn: deque[str] = deque()
        self._is_closed = False

    def add(self, camera: str, policy: Policy) -> None:
        """Add a camera, before its first frame."""
        with self._change:
            self._lanes[camera] = _Lane(policy)
            self._turn.append(camera)

    def put(self, camera: str, frame: Frame) -> None:
        """Bring a frame: with `latest` it takes the place of one that waits, with `every` this waits for a place."""
        with self._change:
            lane = self._lanes[camera]
            if lane.policy == "latest":
                lane.dropped += len(lane.frames)
                lane.frames.clear()
            else:
                self._change.wait_for(lambda: len(lane.frames) < _DEPTH or self._is_closed)
            if not self._is_closed:
                lane.frames.append(frame)
            self._change.notify_all()

    def end(self, camera: str) -> None:
        """Say that a camera gives no more frames."""
        with self._change:
            self._lanes[camera].has_ended = True
            self._change.notify_all()

    def close(self) -> None:
        """Let everyone go who waits; frames that wait are given up."""
        with self._change:
            self._is_closed = True
            self._change.notify_all()

    def take(self, most: int) -> list[tuple[str, Frame]]:
        """Wait for frames and give up to `most`, one a camera, cameras in turn; [] when no more will come."""
        with self._change:
            self._change.wait_for(lambda: self._is_closed or self._is_over() or self._has_some())
            taken: list[tuple[str, Frame]] = []
            for camera in [] if self._is_closed else list(self._turn):
                lane = self._lanes[camera]
                if lane.frames and len(taken) < most:
                    taken.append((camera, lane.frames.popleft()))
                    self._turn.remove(camera)
                    self._turn.append(camera)
            self._change.notify_all()
            return taken

    def dropped(self, camera: str) -> int:
        """Count the camera's frames that nobody was asked about, because newer ones came."""
        with self._change:
            return self._lanes[camera].dropped

    def _has_some(self) -> bool:
        return any(lane.frames for lane in self._lanes.values())

    def _is_over(self) -> bool:
        return all(lane.has_ended for lane in self._lanes.values()) and not self._has_some()
