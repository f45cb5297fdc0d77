"""Decode pictures from untrusted files and bytes."""

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ferryman.core.errors import InputError
from ferryman.core.task import Item
from ferryman.tasks.given import describe_given
from ferryman.tasks.headers import BadPicture, Header, read_header
from ferryman.tasks.pixels import picture_engine

Picture = NDArray[np.uint8]
"""Pixels as uint8 [height, width, 3], blue first."""

_MOST_BYTES = 512 * 1024 * 1024
_NO_DATA_GREY = 128
_DATA = b"\0" + bytes(range(1, 255))  # begins with 0, so that after a cut within a pair of FF and 00 it is no marker
_MORE_DATA = _DATA + b"".join(b"\xff%c%b" % (restart, _DATA) for restart in range(0xD0, 0xD8))


def read_picture(item: Item, *, name: str, max_pixels: int = 100_000_000) -> Picture:
    """Give a picture's pixels as uint8 [height, width, 3] BGR; raises InputError that starts with `name`.

    JPEG, PNG, WebP, GIF, BMP, TIFF and (where the decoder has it) AVIF. Turned upright by its EXIF orientation; CMYK
    and grey become BGR; 16-bit samples keep their high byte; alpha is dropped, not blended, as training code does
    (PIL's convert("RGB"), cv2.imread); of an animation the first frame is taken. Refused: headers of more than
    `max_pixels`, before anything is decoded, and files that are cut off. A JPEG has no checksum: one that is damaged
    but has as much data as its pixels take is decoded to what is left of it.
    """
    if isinstance(item, np.ndarray):
        return _check_pixels(item, name)
    content = _read_bytes(item, name)
    header = _read_checked_header(content, name, max_pixels)
    pixels = _decode(content, header, name)
    if header.format == "JPEG" and _may_lack_data(pixels) and _lacks_data(content, header, pixels, name):
        raise InputError(
            f"{name} is a JPEG that is cut off or damaged: its data end before its last pixels",
            hint="send the whole file",
        )
    return pixels


def read_picture_size(path: Path, *, name: str) -> tuple[int, int]:
    """Give a picture file's upright height and width in pixels, decoding only where its header doesn't tell."""
    content = _read_bytes(path, name)
    header = _read_checked_header(content, name, 100_000_000)
    if header.turned is None:
        height, width = _decode(content, header, name).shape[:2]
        return height, width
    return (header.width, header.height) if header.turned else (header.height, header.width)


def _check_pixels(pixels: NDArray[np.generic], name: str) -> Picture:
    is_picture = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
    if pixels.dtype != np.uint8 or not is_picture:
        raise InputError(
            f"{name}: an array of {pixels.dtype} {list(pixels.shape)} is not a picture",
            hint="decoded pictures are uint8 [height, width, 3], blue first",
        )
    return cast(Picture, pixels)


def _read_bytes(item: Item, name: str) -> bytes:
    if isinstance(item, bytes):
        return item
    if not isinstance(item, Path):
        raise InputError(
            f"{name}: {describe_given(item)} is not a picture", hint="this model takes pictures: name a picture's file"
        )
    try:
        if item.stat().st_size > _MOST_BYTES:
            raise InputError(f"{name}: the file has {item.stat().st_size} bytes; at most {_MOST_BYTES} are read")
        return item.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: {item} can't be read: {error.strerror or error}") from None


def _read_checked_header(content: bytes, name: str, max_pixels: int) -> Header:
    try:
        header = read_header(content)
    except BadPicture as error:
        raise InputError(f"{name} {error}", hint="JPEG, PNG, WebP, GIF, BMP and TIFF files can be read") from None
    if header.width < 1 or header.height < 1:
        raise InputError(f"{name}: its {header.format} header says {header.width} x {header.height} pixels")
    if header.width * header.height > max_pixels:
        raise InputError(
            f"{name}: {header.width} x {header.height} pixels are over the limit of {max_pixels}",
            hint="scale the picture down before sending it",
        )
    return header


def _decode(content: bytes, header: Header, name: str) -> Picture:
    try:
        return picture_engine().decode(content, header)
    except BadPicture as error:
        raise InputError(f"{name}: {error}", hint="save it again as an 8-bit PNG or JPEG") from None


def _may_lack_data(pixels: Picture) -> bool:
    """Tell that a corner has the grey with which the decoder goes on where a JPEG's data have run out."""
    return bool((pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == _NO_DATA_GREY).all(axis=1).any())


def _lacks_data(content: bytes, header: Header, pixels: Picture, name: str) -> bool:
    """Tell that data added at the end would still become pixels: behind a whole picture they have no meaning."""
    more = content[: header.end] + _MORE_DATA + content[header.end :]
    return not np.array_equal(_decode(more, header, name), pixels)


def name_picture(item: Item, place: int) -> str:
    """Name a picture for messages: its file, or its place in the batch."""
    return item.name if isinstance(item, Path) else f"picture {place + 1}"
