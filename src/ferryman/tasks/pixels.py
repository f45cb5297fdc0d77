"""Choose what decodes and resizes pictures: OpenCV where it is installed, else Pillow with numpy."""

import os
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ferryman.core.errors import ConfigError, MissingExtra
from ferryman.tasks import _opencv, _pillow
from ferryman.tasks.headers import Header

Pixels = NDArray[np.uint8]

VARIABLE = "FERRYMAN_PICTURES"
PACKAGES = {"opencv": "opencv-python-headless", "pillow": "pillow"}
_MODULES = {"opencv": "cv2", "pillow": "PIL"}


class PictureEngine(Protocol):
    """Decode and change pictures, uint8 [height, width, 3] with blue first; all give the same pixels."""

    RESIZES: frozenset[str]

    def decode(self, content: bytes, header: Header) -> Pixels:
        """Give the pixels of a whole file, upright; raises BadPicture."""

    def resize(self, picture: Pixels, height: int, width: int, how: str) -> Pixels:
        """Give the picture in another size; `how` is one of RESIZES."""

    def grey(self, picture: Pixels) -> Pixels:
        """Give its brightness, [height, width]."""


ENGINES: dict[str, PictureEngine] = {"opencv": _opencv, "pillow": _pillow}


@cache
def picture_engine() -> PictureEngine:
    """Give what this process decodes and resizes pictures with, as FERRYMAN_PICTURES or what is installed has it."""
    return ENGINES[_choose(os.environ.get(VARIABLE, ""))]


def _choose(asked: str) -> str:
    if asked and asked not in ENGINES:
        raise ConfigError(f"{VARIABLE} is '{asked}'", hint=f"give {' or '.join(ENGINES)}, or unset it")
    for name in (asked,) if asked else ENGINES:
        if find_spec(_MODULES[name]) is not None:
            return name
    raise MissingExtra(
        f"pictures need {PACKAGES.get(asked, 'pillow or opencv-python-headless')}, which is not installed",
        hint=f"pip install {PACKAGES.get(asked, 'pillow')}",
    )
