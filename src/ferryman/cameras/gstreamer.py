"""Any GStreamer pipeline as a camera, through gst-launch-1.0 in a process of its own."""

import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from ferryman.cameras._clock import CaptureClock
from ferryman.core.camera import CameraLost, CameraSection, Frame
from ferryman.core.errors import ConfigError, MissingExtra

_PROGRAM = "gst-launch-1.0"
_TAIL = "videoconvert ! video/x-raw,format=I420 ! matroskamux streamable=true ! fdsink fd=1"
_END_S = 2.0


class GStreamerCamera(CameraSection):
    """Read what a GStreamer pipeline gives: `v4l2src ! image/jpeg ! jpegdec`, up to its raw video.

    It runs as gst-launch-1.0 does, in a process of its own, which can hang or crash without harm; frames keep their
    time stamps.
    """

    name: ClassVar[str] = "gstreamer"
    needs: ClassVar[tuple[str, ...]] = ("av",)
    extra: ClassVar[str] = "video"

    kind: Literal["gstreamer"] = "gstreamer"
    source: str = Field(min_length=1, description="The pipeline, without a sink, as gst-launch-1.0 takes it.")
    live: bool = Field(True, description="Whether it is a live source, opened again when it ends.")

    @property
    def is_live(self) -> bool:
        """Tell whether time goes on while nobody reads."""
        return self.live

    def open(self) -> "GStreamerReader":
        """Start it; raises CameraLost where it ends at once, MissingExtra where GStreamer isn't installed."""
        program = shutil.which(_PROGRAM)
        if program is None:
            raise MissingExtra(f"{_PROGRAM} is not installed", hint="apt-get install gstreamer1.0-tools")
        try:
            words = shlex.split(self.source)
        except ValueError as error:
            raise ConfigError(f"source = '{self.source}': {error}", hint="close every quote") from None
        return GStreamerReader(self, [program, "-q", "-e", *words, "!", *shlex.split(_TAIL)])


class GStreamerReader:
    """Give the frames of one running pipeline."""

    def __init__(self, camera: GStreamerCamera, command: list[str]) -> None:
        import av

        self._camera = camera
        self._clock = CaptureClock()
        self._number = 0
        self._last_s = time.monotonic()
        self._said = b""
        self._process = subprocess.Popen(  # noqa: S603 - the user's own pipeline, no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._hearing = threading.Thread(target=self._hear, name="gstreamer-errors", daemon=True)
        self._hearing.start()
        threading.Thread(target=self._watch, name="gstreamer-watch", daemon=True).start()
        try:
            self._container = av.open(self._process.stdout, format="matroska")
            self._frames: Iterator[Any] = self._container.decode(video=0)  # av.VideoFrame
        except (av.FFmpegError, OSError, IndexError):
            self._end_process()
            raise CameraLost(self._why(), hint="try the same pipeline with gst-launch-1.0") from None

    @property
    def fps(self) -> float:
        """Give the frames of a second as the pipeline states them, 0 where it doesn't."""
        return float(self._container.streams.video[0].average_rate or 0)

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end. Raises CameraLost."""
        import av

        try:
            found = next(self._frames, None)
        except (av.FFmpegError, OSError, ValueError):
            found = None
        if found is None:
            if self._camera.live or self._process.wait(_END_S):
                raise CameraLost(self._why(), hint="look whether the camera is up")
            return None
        self._last_s = time.monotonic()
        media_s = float(found.time or 0.0)
        captured_s = self._clock.captured_s(media_s, self._last_s) if self._camera.live else self._last_s
        frame = Frame(found.to_ndarray(format="bgr24"), self._number, captured_s, media_s)
        self._number += 1
        return frame

    def close(self) -> None:
        """Stop the process."""
        self._container.close()
        self._end_process()

    def _hear(self) -> None:
        """Keep the last that it said of errors."""
        for line in self._process.stderr or ():
            self._said = (self._said + line)[-2000:]

    def _watch(self) -> None:
        """Kill a pipeline that hangs, so that a `read` that waits for it ends."""
        while self._process.poll() is None:
            if time.monotonic() - self._last_s > max(self._camera.stale_s, 2.0) + 3.0:
                self._process.kill()
            time.sleep(0.2)

    def _end_process(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._hearing.join(_END_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def _why(self) -> str:
        lines = [line for line in self._said.decode(errors="replace").splitlines() if line.strip()]
        told = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "it gave no frame")
        return f"the pipeline has ended: {told}"
