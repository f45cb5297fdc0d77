"""Pictures of a folder as a camera's frames, in the order of their names."""

import glob
import re
import time
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ferryman.core.camera import CameraSection, Frame
from ferryman.core.errors import ConfigError, InputError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_DIGITS = re.compile(r"(\d+)")


class PicturesCamera(CameraSection):
    """Read the pictures of a folder or a glob, one a frame: 2.png comes before 10.png."""

    name: ClassVar[str] = "pictures"
    needs: ClassVar[tuple[str, ...]] = ("cv2",)
    extra: ClassVar[str] = ""

    kind: Literal["pictures"] = "pictures"
    source: str = Field(min_length=1, description="A folder, a 'glob/*.png', or one picture.")
    fps: float = Field(25.0, gt=0, description="Frames a second.")
    pace: Literal["fast", "real"] = Field(
        "fast", description="As fast as frames are asked for, or so many a second as `fps` says, as a live camera."
    )
    loop: bool = Field(False, description="Begin again after the last.")

    @property
    def is_live(self) -> bool:
        """Tell whether time goes on while nobody reads."""
        return self.pace == "real"

    def open(self) -> "PicturesReader":
        """List them; raises ConfigError where there is none."""
        place = Path(self.source)
        found = place.iterdir() if place.is_dir() else map(Path, glob.glob(self.source, recursive=True))
        files = sorted((file for file in found if file.suffix.lower() in _SUFFIXES), key=_in_order)
        if not files:
            raise ConfigError(f"there is no picture in {self.source}", hint=f"it needs files {', '.join(_SUFFIXES)}")
        return PicturesReader(self, files)


class PicturesReader:
    """Give one picture after the other."""

    def __init__(self, camera: PicturesCamera, files: list[Path]) -> None:
        self._camera, self._files = camera, files
        self._number = 0
        self._begun_s = 0.0
        self.fps = camera.fps

    def read(self) -> Frame | None:
        """Give the next picture, None after the last; raises InputError for a file that is none."""
        import cv2

        if self._number >= len(self._files) and not self._camera.loop:
            return None
        file = self._files[self._number % len(self._files)]
        picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if picture is None:
            raise InputError(f"{file} can't be read as a picture", hint="take it away, or write it anew")
        media_s = self._number / self.fps
        frame = Frame(picture, self._number, self._captured_s(media_s), media_s)
        self._number += 1
        return frame

    def close(self) -> None:
        """Leave nothing open."""

    def _captured_s(self, media_s: float) -> float:
        if not self._camera.is_live:
            return time.monotonic()
        if self._number == 0:
            self._begun_s = time.monotonic()
        due_s = self._begun_s + media_s
        time.sleep(max(due_s - time.monotonic(), 0.0))
        return due_s


def _in_order(file: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(str(file))]
