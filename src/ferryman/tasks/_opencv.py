"""Decode and resize pictures with OpenCV."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from ferryman.tasks.headers import BadPicture, Header

Pixels = NDArray[np.uint8]

RESIZES = frozenset({"bilinear", "area", "bicubic", "lanczos", "nearest"})


def decode(content: bytes, header: Header) -> Pixels:
    """Give the pixels of a whole file, blue first and upright; raises BadPicture."""
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadPicture(f"the {header.format} can't be decoded: {error.err or error}") from None
    if pixels is None:
        raise BadPicture(f"the {header.format} is damaged, or of a kind that OpenCV {cv2.__version__} can't decode")
    return cast(Pixels, pixels)


def resize(picture: Pixels, height: int, width: int, how: str) -> Pixels:
    """Give the picture in another size."""
    import cv2

    ways = {
        "bilinear": cv2.INTER_LINEAR,
        "area": cv2.INTER_AREA,
        "bicubic": cv2.INTER_CUBIC,
        "lanczos": cv2.INTER_LANCZOS4,
        "nearest": cv2.INTER_NEAREST,
    }
    return cast(Pixels, cv2.resize(picture, (width, height), interpolation=ways[how]))


def grey(picture: Pixels) -> Pixels:
    """Give its brightness."""
    import cv2

    return cast(Pixels, cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
