"""Decode and resize pictures with Pillow and numpy: the pixels that OpenCV gives, from a seventh of its size."""

from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.tasks._resize import resize_bilinear, resize_nearest
from ferryman.tasks.headers import BadPicture, Header

Pixels = NDArray[np.uint8]

_WAYS: dict[str, Callable[[Pixels, int, int], Pixels]] = {"bilinear": resize_bilinear, "nearest": resize_nearest}
RESIZES = frozenset(_WAYS)

_READERS = {  # not Image.open, which tries every format that it knows: these are all that `headers` lets through
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
}
_ORIENTATION = 274
_TIFF_BITS = 258
_EVEN_TIFFS = {"1", "L", "P", "RGB", "I;16", "I;16B"}


def decode(content: bytes, header: Header) -> Pixels:
    """Give the pixels of a whole file, blue first and upright; raises BadPicture.

    What OpenCV turns into other pixels is refused: the GIFs and TIFFs with transparency, TIFFs of ink colours or with
    16 bits in each of several channels.
    """
    module, name = _READERS[header.format]
    try:
        picture = getattr(import_module(module), name)(BytesIO(content))
        _check_kind(picture)
        picture.load()
        pixels = _in_bgr(picture)
    except BadPicture:
        raise
    except Exception as error:  # noqa: BLE001 - a decoder of foreign bytes may fail in any way
        raise BadPicture(f"the {header.format} is damaged, or can't be decoded here: {error}") from None
    return _upright(pixels, _orientation(picture))


def resize(picture: Pixels, height: int, width: int, how: str) -> Pixels:
    """Give the picture in another size; `how` is one of RESIZES."""
    return _WAYS[how](picture, height, width)


def grey(picture: Pixels) -> Pixels:
    """Give its brightness as OpenCV does: ITU-R BT.601's weights in 15 bits."""
    total = np.full(picture.shape[:2], 1 << 14, np.int32)
    for channel, weight in enumerate((3735, 19235, 9798)):
        total += picture[:, :, channel] * np.int32(weight)
    return (total >> 15).astype(np.uint8)


def _check_kind(picture: Any) -> None:  # PIL.ImageFile.ImageFile
    kind = picture.format
    if kind == "GIF" and ("transparency" in picture.info or picture.tile[0][1] != (0, 0, *picture.size)):
        raise BadPicture("the GIF is transparent in parts, and can't be decoded without OpenCV")
    if kind == "TIFF":
        bits = picture.tag_v2.get(_TIFF_BITS, (1,))
        if picture.mode not in _EVEN_TIFFS or bits not in ((1,), (2,), (4,), (8,), (16,), (8, 8, 8)):
            raise BadPicture(
                f"the TIFF is of a kind ({picture.mode}, {bits} bits) that can't be decoded without OpenCV"
            )


def _in_bgr(picture: Any) -> Pixels:  # PIL.ImageFile.ImageFile
    mode = picture.mode
    if mode == "CMYK":
        return _from_inks(np.asarray(picture))
    if mode.startswith("I;16"):
        return _in_three((np.asarray(picture) >> 8).astype(np.uint8))
    if mode in ("L", "1", "LA"):
        return _in_three(np.asarray(picture.convert("L")))
    if mode not in ("RGB", "RGBA", "P", "PA"):
        raise BadPicture(f"the {picture.format} has colours that can't be decoded without OpenCV ({mode})")
    colours = picture.convert("RGB") if mode.startswith("P") else picture
    return np.frombuffer(colours.tobytes("raw", "BGR"), np.uint8).reshape(picture.height, picture.width, 3)


def _in_three(values: Pixels) -> Pixels:
    return np.repeat(values[:, :, None], 3, axis=2)


def _from_inks(inks: Pixels) -> Pixels:
    """Give colours of cyan, magenta, yellow and black, as OpenCV does (icvCvt_CMYK2BGR)."""
    light = 255 - inks.astype(np.int32)
    black = light[:, :, 3:]
    return (black - ((255 - light[:, :, 2::-1]) * black >> 8)).astype(np.uint8)


def _orientation(picture: Any) -> int:  # PIL.ImageFile.ImageFile
    if picture.format == "AVIF":  # which turns by a property of its own
        return 1
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged notes about a picture that is whole
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn pixels by EXIF's orientation (EXIF 3.0, 4.6.5.1.6)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
