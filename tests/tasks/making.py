"""Make signatures, models' answers and picture files for the tests of tasks."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ferryman.core.signature import Signature, TensorSpec

Shape = Sequence[int | str]

# A 32 x 32 picture of pure cyan ink, as Adobe programs write it (CMYK, inverted).
CMYK_JPEG = (
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwACAQEBAQECAQEBAgICAgIEAwICAgIFBAQDBAYFBgYGBQYGBgcJCAYHCQcGBggLCAkKCgoK"
    "CgYICwwLCgwJCgoK/8AAFAgAIAAgBEMRAE0RAFkRAEsRAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAgMEBQYHCAkKC//EALUQAAIB"
    "AwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZH"
    "SElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV"
    "1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/aAA4EQwBNAFkASwAAPwD+f+v38r9/K/fyiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"
    "iiiiiiiiiiiiiiiiiiiiiiiiiiiiv//Z"
)


def signature(inputs: Mapping[str, tuple[str, Shape]], outputs: Mapping[str, tuple[str, Shape]]) -> Signature:
    """Describe a model by {name: (dtype, shape)} of its inputs and outputs."""
    return Signature(
        inputs=tuple(TensorSpec(name=name, dtype=dtype, shape=tuple(shape)) for name, (dtype, shape) in inputs.items()),
        outputs=tuple(
            TensorSpec(name=name, dtype=dtype, shape=tuple(shape)) for name, (dtype, shape) in outputs.items()
        ),
    )


def picture_model(size: tuple[int, int], outputs: Mapping[str, Shape]) -> Signature:
    """Describe a model that takes one float picture NCHW and gives floats."""
    return signature(
        {"images": ("float32", (1, 3, *size))}, {name: ("float32", shape) for name, shape in outputs.items()}
    )


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Make a picture of random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encode(suffix: str, picture: NDArray[np.generic], parameters: Sequence[int] = ()) -> bytes:
    """Encode a picture as a file of this suffix."""
    is_done, content = cv2.imencode(suffix, picture, list(parameters))
    assert is_done
    return bytes(content.tobytes())


def write_picture(path: Path, height: int = 20, width: int = 30, seed: int = 0) -> Path:
    """Write a picture of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(path.suffix, noise(height, width, seed)))
    return path


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Write one chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: Sequence[bytes] = ()) -> bytes:
    """Write a PNG file by hand; `rows` has a filter byte before each row."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = b"".join(extra) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body


def exif_jpeg(picture: NDArray[np.uint8], orientation: int) -> bytes:
    """Write a JPEG that asks to be turned."""
    entry = struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
    block = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    content = encode(".jpg", picture)
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:]
