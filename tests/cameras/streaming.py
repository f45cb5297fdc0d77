"""Send real videos as streams with ffmpeg, and read cameras as a pipeline does."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ferryman.cameras.keep import KeptCamera
from ferryman.core.camera import Camera, Frame

DEADLINE_S = 90.0


def wait_for(is_so: Callable[[], object], what: str | Callable[[], str], deadline_s: float = DEADLINE_S) -> None:
    end_s = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < end_s, f"waited {deadline_s} s for {what() if callable(what) else what}"
        time.sleep(0.01)


@contextmanager
def ffmpeg(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ffmpeg; it is killed in the end."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def udp_sender(video: str, port: int, *filters: str) -> Sequence[str]:
    """Give ffmpeg's words that send a video to a UDP port at its own pace, over and over."""
    return (
        "-re", "-stream_loop", "-1", "-i", video, *filters, "-c:v", "mpeg4", "-g", "5", "-f", "mpegts",
        f"udp://127.0.0.1:{port}?pkt_size=1316",
    )  # fmt: skip


class Kept:
    """Keep a camera and the numbers, times and sizes of its frames."""

    def __init__(self, camera: Camera) -> None:
        self.frames: list[tuple[int, float, float, tuple[int, ...]]] = []
        self.ended = threading.Event()
        self.camera = KeptCamera("one", camera, self._take, self.ended.set)

    def _take(self, frame: Frame) -> None:
        self.frames.append((frame.number, frame.captured_s, frame.media_s, frame.picture.shape))

    def __enter__(self) -> "Kept":
        self.camera.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.camera.stop()
        assert self.camera.join(DEADLINE_S)

    def has(self, count: int) -> None:
        """Wait for so many more frames."""
        wanted = len(self.frames) + count
        wait_for(lambda: len(self.frames) >= wanted, lambda: f"{count} frames ({self.camera.health})")

    def is_in(self, *states: str) -> None:
        """Wait for a state."""
        wait_for(lambda: self.camera.health.state in states, lambda: f"{states} ({self.camera.health})")
