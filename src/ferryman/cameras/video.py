"""Video through PyAV (FFmpeg's libraries): files, RTSP, HTTP, UDP, and cameras of this machine."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ferryman.cameras._address import is_address, redact
from ferryman.cameras._clock import CaptureClock
from ferryman.core.camera import CameraLost, CameraSection, Frame, Seconds
from ferryman.core.errors import ConfigError

_DEVICE = "/dev/video"
_MOST_BROKEN = 500
"""Packets in a row that can't be decoded before the stream counts as lost."""


class VideoCamera(CameraSection):
    """Read a video file, an RTSP, HTTP(-MJPEG), RTMP or UDP stream, or a camera of this machine.

    What the source's codec is, FFmpeg finds. Damaged packets are left out and counted.
    """

    name: ClassVar[str] = "video"
    needs: ClassVar[tuple[str, ...]] = ("av",)
    extra: ClassVar[str] = "video"

    kind: Literal["video"] = "video"
    source: str = Field(min_length=1, description="A file, rtsp://, http:// or other address, or /dev/video0.")
    transport: Literal["tcp", "udp"] = Field("tcp", description="What RTSP carries frames over.")
    open_timeout_s: Seconds = Field(10.0, description="Longest wait for a stream to open.")
    listen: bool = Field(False, description="Wait for a sender that pushes to this rtsp:// address.")
    pace: Literal["fast", "real"] = Field(
        "fast", description="Of a file: as fast as frames are asked for, or at its own pace, as a live camera."
    )
    loop: bool = Field(False, description="Begin a file again at its end.")
    hardware: str = Field(
        "none", description="What decodes: none (this machine's cores), or cuda, vaapi, qsv, videotoolbox ..."
    )
    size: tuple[int, int] | None = Field(None, description="Of a camera of this machine: width and height to ask for.")
    fps: float | None = Field(None, gt=0, description="Of a camera of this machine: frames a second to ask for.")

    @property
    def is_live(self) -> bool:
        """Tell whether time goes on while nobody reads."""
        return self.pace == "real" or self._is_stream

    @property
    def _is_stream(self) -> bool:
        return self.source.startswith(_DEVICE) or (is_address(self.source) and not self.source.startswith("file:"))

    def open(self) -> "VideoReader":
        """Open it; raises CameraLost, or ConfigError for a file that isn't there or isn't a video."""
        if not self._is_stream and not Path(self.source.removeprefix("file:")).is_file():
            raise ConfigError(f"there is no video {self.source}", hint="name a file, an address or /dev/video0")
        return VideoReader(self)

    def options(self) -> tuple[str | None, dict[str, str]]:
        """Give FFmpeg's name of the format (None: found by itself) and its options."""
        if self.source.startswith(_DEVICE):
            asked = {"video_size": "x".join(map(str, self.size))} if self.size else {}
            return "v4l2", {**asked, **({"framerate": str(self.fps)} if self.fps else {})}
        if self.source.startswith("rtsp"):
            if self.listen:
                return None, {"rtsp_flags": "listen", "listen_timeout": str(math.ceil(self.open_timeout_s))}
            wait_us = str(int(self.open_timeout_s * 1e6))
            return None, {"rtsp_transport": self.transport, "timeout": wait_us, "fflags": "nobuffer"}
        return None, {"fflags": "nobuffer"} if self._is_stream else {}


class VideoReader:
    """Give the frames of one opened video."""

    def __init__(self, camera: VideoCamera) -> None:
        import av

        self._camera = camera
        self._shown = redact(camera.source)
        self._clock = CaptureClock()
        self._number = 0
        self._broken = 0
        self.damaged = 0
        self._round_s = 0.0  # what all earlier rounds of a loop took
        self._last_s = 0.0
        self._is_closed = False
        form, options = camera.options()
        read_s = camera.stale_s
        hardware = _hardware(camera.hardware)
        try:
            self._container = av.open(
                camera.source, format=form, options=options, timeout=(camera.open_timeout_s, read_s), hwaccel=hardware
            )
        except (av.FFmpegError, OSError) as error:
            raise self._lost(error) from None
        if not self._container.streams.video:
            self._container.close()
            raise ConfigError(f"{self._shown} holds no video", hint="name one that does")
        self._stream = self._container.streams.video[0]
        # Slices need no frames ahead, whole frames do: cores against delay.
        self._stream.thread_type = "SLICE" if camera.is_live else "AUTO"
        self._frames = self._decoded()
        self._begun_s = 0.0

    @property
    def fps(self) -> float:
        """Give the frames of a second as the stream states them, 0 where it doesn't."""
        return float(self._stream.average_rate or self._stream.guessed_rate or 0)

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end of a file. Raises CameraLost."""
        import av

        while True:
            try:
                found = next(self._frames)
            except StopIteration:
                if not self._goes_on():
                    return None
                continue
            except (av.FFmpegError, OSError) as error:
                raise self._lost(error) from None
            return self._framed(found)

    def close(self) -> None:
        """End what is read; call it in the thread that reads."""
        if not self._is_closed:
            self._is_closed = True
            self._container.close()

    def _framed(self, found: Any) -> Frame:  # an av.VideoFrame
        arrived_s = time.monotonic()
        stated = found.time
        media_s = self._round_s + (float(stated) if stated is not None else self._last_s + 1 / (self.fps or 25.0))
        self._last_s = media_s
        if self._camera.pace == "real" and not self._camera._is_stream:
            captured_s = self._keep_pace(media_s)
        elif self._camera.is_live:
            captured_s = self._clock.captured_s(media_s, arrived_s)
        else:
            captured_s = arrived_s
        frame = Frame(found.to_ndarray(format="bgr24"), self._number, captured_s, media_s)
        self._number += 1
        return frame

    def _keep_pace(self, media_s: float) -> float:
        """Wait until a frame's time has come; gives that time, which is past where the reader is late."""
        if self._number == 0:
            self._begun_s = time.monotonic() - media_s
        due_s = self._begun_s + media_s
        time.sleep(max(due_s - time.monotonic(), 0.0))
        return due_s

    def _goes_on(self) -> bool:
        if self._camera._is_stream:
            raise CameraLost(f"{self._shown} has ended", hint="look whether the camera or its sender is up")
        if not self._camera.loop or not self._number:
            return False
        self._round_s = self._last_s + 1 / (self.fps or 25.0)
        self._container.seek(0)
        self._frames = self._decoded()
        return True

    def _decoded(self) -> Iterator[Any]:  # av.VideoFrame
        for packet in self._container.demux(self._stream):
            yield from self._unpacked(packet)

    def _unpacked(self, packet: Any) -> list[Any]:  # an av.Packet; av.VideoFrame
        import av

        try:
            frames = [frame for frame in packet.decode() if not frame.is_corrupt]
        except av.error.InvalidDataError as error:
            self.damaged += 1
            self._broken += 1
            if self._broken > _MOST_BROKEN:
                raise self._lost(error) from None
            return []
        self._broken = 0
        return frames

    def _lost(self, error: Exception) -> CameraLost | ConfigError:
        import av

        why = getattr(error, "strerror", None) or str(error)
        if isinstance(error, av.error.ProtocolNotFoundError):
            scheme = self._camera.source.partition("://")[0]
            return ConfigError(f"{self._shown}: PyAV's FFmpeg doesn't speak {scheme}", hint="a gstreamer camera may")
        if isinstance(error, FileNotFoundError | PermissionError) or not self._camera._is_stream:
            return ConfigError(f"{self._shown} can't be read: {why}", hint="name a video that can be read")
        return CameraLost(f"{self._shown} can't be read: {why}", hint="look whether the camera is up and reachable")


def _hardware(asked: str) -> Any:  # an av.codec.hwaccel.HWAccel, or None
    """Give what decodes instead of this machine's cores; raises ConfigError for what this FFmpeg doesn't know."""
    from av.codec.hwaccel import HWAccel, hwdevices_available

    if asked == "none":
        return None
    known = hwdevices_available()
    if asked not in known:
        raise ConfigError(f"hardware = '{asked}' is not known here", hint=f"there is: none, {', '.join(known)}")
    return HWAccel(asked, allow_software_fallback=False)  # what is asked for decodes, or it is told
