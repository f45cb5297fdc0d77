"""Read what an ELF file links, without running it, and cut off what the loader never maps.

Layouts: System V ABI, chapters 4 and 5, and the Linux extensions in elf(5).
"""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"\x7fELF"
_MACHINES = {62: "amd64", 183: "arm64"}  # e_machine: OCI's word for it
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NULL, _NEEDED, _STRINGS, _RPATH, _RUNPATH = 0, 1, 5, 15, 29
_MOST_NAMES = 65536
_GAIN_BYTES = 16 * 1024
_LARGEST_BYTES = 2**40


@dataclass(frozen=True, slots=True)
class Elf:
    """Tell of one ELF file: `needed` are sonames, `paths` its RUNPATH or RPATH, `mapped_bytes` what of it is loaded.

    `paths_at` are the places in the file of the strings behind `paths`.
    """

    machine: str
    needed: tuple[str, ...]
    paths: tuple[str, ...]
    interpreter: str
    mapped_bytes: int
    paths_at: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def read_elf(file: Path | bytes) -> Elf | None:
    """Read a 64-bit little-endian ELF file, or its bytes; None for any other file."""
    try:
        with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
            header = stream.read(64)
            if len(header) < 64 or header[:6] != _MAGIC + b"\x02\x01":
                return None
            return _read(stream, header)
    except (struct.error, UnicodeDecodeError, ValueError):
        return None  # a damaged file is copied as it is


def without_paths(payload: bytes, elf: Elf) -> bytes:
    """Give an ELF file that looks for its libraries only where the loader does: paths of one machine are of no use."""
    changed = bytearray(payload)
    for place in elf.paths_at:
        end = changed.index(0, place)
        changed[place:end] = bytes(end - place)
    return bytes(changed)


def trimmed(path: Path) -> bytes | None:
    """Give an ELF file without debug data and symbol tables: its segments, and no section table; None for no gain.

    The loader maps segments only; sections serve linkers and debuggers. Nothing that runs is changed.
    """
    elf = read_elf(path)
    if elf is None or path.stat().st_size - elf.mapped_bytes < _GAIN_BYTES:
        return None
    with path.open("rb") as stream:
        payload = bytearray(stream.read(elf.mapped_bytes))
    payload[0x28:0x30] = bytes(8)  # e_shoff
    payload[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    return bytes(payload)


def _read(stream: BinaryIO, header: bytes) -> Elf:
    (machine,) = struct.unpack_from("<H", header, 0x12)
    (table,) = struct.unpack_from("<Q", header, 0x20)
    size, count = struct.unpack_from("<HH", header, 0x36)
    segments = [_segment(_at(stream, table + index * size, 56)) for index in range(count)]
    dynamic = next((one for one in segments if one.kind == _DYNAMIC), None)
    interpreter = next((one for one in segments if one.kind == _INTERPRETER), None)
    needed, paths_at = _links(stream, dynamic, segments) if dynamic else ((), ())
    paths = tuple(part for place in paths_at for part in _text(stream, place).split(":") if part)
    return Elf(
        machine=_MACHINES.get(machine, str(machine)),
        needed=needed,
        paths=paths,
        interpreter=_at(stream, interpreter.offset, min(interpreter.size, 4096)).rstrip(b"\0").decode()
        if interpreter
        else "",
        paths_at=paths_at,
        mapped_bytes=max([one.offset + one.size for one in segments] + [table + count * size]),
    )


def _segment(row: bytes) -> _Segment:
    kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", row)
    return _Segment(kind, offset, address, size)


def _links(stream: BinaryIO, dynamic: _Segment, segments: list[_Segment]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    rows = struct.iter_unpack("<QQ", _at(stream, dynamic.offset, min(dynamic.size, 16 * _MOST_NAMES) // 16 * 16))
    found: dict[int, list[int]] = {}
    for tag, value in rows:
        if tag == _NULL:
            break
        found.setdefault(tag, []).append(value)
    if _STRINGS not in found:
        return (), ()
    names = _place(found[_STRINGS][0], segments)
    needed = tuple(_text(stream, names + offset) for offset in found.get(_NEEDED, ()))
    return needed, tuple(names + offset for offset in found.get(_RUNPATH, found.get(_RPATH, [])))


def _place(address: int, segments: list[_Segment]) -> int:
    for one in segments:
        if one.kind == _LOAD and one.address <= address < one.address + one.size:
            return address - one.address + one.offset
    raise ValueError("an address outside of every segment")


def _text(stream: BinaryIO, offset: int) -> str:
    if offset > _LARGEST_BYTES:
        raise ValueError("beyond the end of every file")
    stream.seek(offset)
    return stream.read(4096).split(b"\0", 1)[0].decode()


def _at(stream: BinaryIO, offset: int, size: int) -> bytes:
    if offset > _LARGEST_BYTES:
        raise ValueError("beyond the end of every file")
    stream.seek(offset)
    payload = stream.read(size)
    if len(payload) < size:
        raise ValueError("truncated")
    return payload
