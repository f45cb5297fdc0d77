"""Tell what a file is from its first bytes, without a framework and without running anything in it."""

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

_HEAD_BYTES = 65536
_PICKLE_BYTES = 16 << 20
_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com/spec/", "a git LFS pointer (run: git lfs pull)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras or older PyTables)"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive (unpack it first)"),
    (b"\xfd7zXZ", "an xz archive (unpack it first)"),
    (b"7z\xbc\xaf", "a 7z archive (unpack it first)"),
    (b"\x93NUMPY", "a numpy array"),
    (b"CBM1", "a CatBoost model"),
    (b"GGUF", "a GGUF language model"),
    (b"\x7fELF", "a compiled program"),
)


def read_head(path: Path, size_bytes: int = _HEAD_BYTES) -> bytes:
    """Give a file's first bytes; nothing for what can't be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(size_bytes)
    except OSError:
        return b""


def zip_names(path: Path) -> list[str]:
    """Give the names in a zip archive; none for anything else."""
    if not read_head(path, 4).startswith(b"PK\x03\x04"):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def is_pickle(path: Path) -> bool:
    """Tell whether a file starts like a pickle of protocol 2 or later, or like a compressed joblib dump."""
    head = read_head(path, 2)
    compressed_joblib = path.suffix.lower() in (".joblib", ".pkl", ".pickle") and head[:2] in (b"\x78\x9c", b"\x78\x01")
    return (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or compressed_joblib


def is_torch_legacy_pickle(path: Path) -> bool:
    """Tell whether a pickle starts with the magic number of torch.save before version 1.6."""
    return is_pickle(path) and b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in read_head(path, 64)


def is_ultralytics(path: Path) -> bool:
    """Tell whether this is a zip of torch.save whose pickle names classes of Ultralytics; nothing is unpickled."""
    pickles = [name for name in zip_names(path) if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        return False
    try:
        with zipfile.ZipFile(path) as archive, archive.open(pickles[0]) as stream:
            return re.search(rb"(c|\x8c.)ultralytics\.[\w.]+", stream.read(_PICKLE_BYTES), re.DOTALL) is not None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, zlib.error):
        return False


def safetensors_header_bytes(path: Path) -> int | None:
    """Give the length that a file's first 8 bytes claim for a safetensors header; None if it isn't one."""
    head = read_head(path, 9)
    if len(head) < 9 or head[8:9] != b"{":
        return None
    return int(struct.unpack("<Q", head[:8])[0])


def onnx_fields(path: Path) -> list[tuple[int, int, int]]:
    """Give (field number, wire type, end offset or value) of a protobuf message's top level, up to the file's end.

    Empty for what is no protobuf. A field that ends beyond the file is listed: the file was cut short.
    """
    fields: list[tuple[int, int, int]] = []
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        while stream.tell() < size_bytes and len(fields) < 1000:
            key = _varint(stream.read(10), stream)
            if key is None or key >> 3 == 0 or key & 7 not in (0, 2):
                return []
            value = _varint(stream.read(10), stream)
            if value is None:
                return []
            if key & 7 == 2:
                value = stream.tell() + value
                stream.seek(value)
            fields.append((key >> 3, key & 7, value))
    return fields


def _varint(buffer: bytes, stream: BinaryIO) -> int | None:
    value = 0
    for index, byte in enumerate(buffer):
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            stream.seek(index + 1 - len(buffer), 1)
            return value
    return None


def looks_like(path: Path) -> str:
    """Say in a few words what a file seems to be, for an error message."""
    if path.is_dir():
        return "a folder"
    head = read_head(path)
    if not head:
        return "an empty file"
    for magic, words in _MAGICS:
        if head.startswith(magic):
            return words
    start = head.lstrip()[:200].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (a login or error page, saved instead of the model)"
    return _looks_like_container(path, head, start)


def _looks_like_container(path: Path, head: bytes, start: bytes) -> str:
    if head.startswith(b"PK"):
        names = zip_names(path)
        return f"a zip archive with {', '.join(names[:3])}" if names else "a zip archive that is damaged or cut short"
    if is_pickle(path):
        return "a Python pickle"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if start.startswith((b"{", b"[")):
        return "a JSON document"
    if start.startswith(b"<?xml"):
        return "an XML document"
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "a text file" if printable > 0.95 * len(head) else f"binary data that starts with {head[:8].hex(' ')}"
