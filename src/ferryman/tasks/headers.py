"""Read a picture file's format, size and completeness from its bytes, without decoding it."""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BMP_HEADERS = tuple(struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124))
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class BadPicture(Exception):
    """Say in the message what is wrong with a picture's bytes; the reader of pictures adds which one it was."""


@dataclass(frozen=True, slots=True)
class Header:
    """Hold what a file says of itself: its size in pixels as stored, and whether EXIF turns it by 90 degrees.

    `turned` is None where only decoding tells. `end` is where the pixels' data end, where that is known.
    """

    format: str
    width: int
    height: int
    turned: bool | None = False
    end: int | None = None


def read_header(content: bytes) -> Header:
    """Recognise a picture's format by its first bytes and walk its structure; raises BadPicture."""
    if not content:
        raise BadPicture("is empty (0 bytes)")
    for recognise, read in _READERS:
        if recognise(content):
            try:
                return read(content)
            except (struct.error, IndexError):
                raise BadPicture("is cut off: its header is incomplete") from None
    raise BadPicture(f"is not a picture that can be read: it looks like {_describe(content)}")


def _read_jpeg(content: bytes) -> Header:
    segments = _JpegSegments(content)
    position = 2
    while True:
        found = _JPEG_MARKER.search(content, position)
        if not found:
            raise BadPicture("is a JPEG that is cut off: its end marker is missing")
        marker = content[found.end() - 1]
        position = found.end()
        if marker == 0xD9:
            return segments.header(position - 2)
        if marker in (0x01, 0xD8):
            continue
        (length,) = struct.unpack_from(">H", content, position)
        segments.take(marker, position, length)
        position += length


class _JpegSegments:
    """Hold what a JPEG's segments told until now, and what its scans still owe: a progressive one's bring ever more."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._size: tuple[int, int] | None = None
        self._is_turned = False
        self._bits_missing: dict[int, bytearray] = {}  # of each component, in each of its 64 coefficients

    def take(self, marker: int, position: int, length: int) -> None:
        """Read a segment, where it is of a kind that matters here."""
        if marker in _JPEG_SIZES:
            self._begin(position)
        elif marker == 0xDA:
            self._scan(position)
        elif marker == 0xE1 and self._content[position + 2 : position + 8] == b"Exif\0\0":
            block = self._content[position + 8 : position + length]
            self._is_turned = self._is_turned or _exif_orientation(block) in _TURNED

    def header(self, end: int) -> Header:
        """Give the header of a file whose data end there; raises BadPicture where something is missing."""
        if self._size is None:
            raise BadPicture("is a JPEG without a picture in it")
        if any(map(any, self._bits_missing.values())):
            raise BadPicture("is a JPEG that is cut off: some of its scans are missing")
        return Header("JPEG", *self._size, turned=self._is_turned, end=end)

    def _begin(self, position: int) -> None:
        height, width, components = struct.unpack_from(">HHB", self._content, position + 3)
        self._size = (width, height)
        ids = self._content[position + 8 : position + 8 + 3 * components : 3]
        # Each owes at least its mean, the first coefficient; the others may be left out.
        self._bits_missing = {component: bytearray((1,)) + bytearray(63) for component in ids}

    def _scan(self, position: int) -> None:
        components = self._content[position + 2]
        parameters = position + 3 + 2 * components
        first, last, bits = struct.unpack_from("BBB", self._content, parameters)
        for component in self._content[position + 3 : parameters : 2]:
            if component in self._bits_missing and first <= last < 64:
                self._bits_missing[component][first : last + 1] = bytes((bits & 15,)) * (last + 1 - first)


def _exif_orientation(block: bytes) -> int:
    try:
        values = _tiff_entries(block)
    except (struct.error, BadPicture):
        return 1
    return values.get(274, 1)


def _read_png(content: bytes) -> Header:
    width, height = struct.unpack_from(">II", content, 16)
    position, kinds = 8, set[bytes]()
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            raise BadPicture("is a PNG that is cut off")
        (checksum,) = struct.unpack_from(">I", content, end - 4)
        if kind[:1].isupper() and zlib.crc32(content[position + 4 : end - 4]) != checksum:
            raise BadPicture(f"is a damaged PNG: the checksum of its {kind.decode('latin-1')} chunk is wrong")
        kinds.add(kind)
        position = end
        if kind == b"IEND":
            return Header("PNG", width, height, turned=None if b"eXIf" in kinds else False)
    raise BadPicture("is a PNG that is cut off")


def _read_gif(content: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while content[position] == 0x21:
        position = _after_gif_blocks(content, position + 2)
    if content[position] != 0x2C:
        raise BadPicture("is a GIF without a picture in it")
    frame_width, frame_height, local = struct.unpack_from("<HHB", content, position + 5)
    position += 10 + (3 << ((local & 7) + 1) if local & 0x80 else 0)
    _after_gif_blocks(content, position + 1)
    return Header("GIF", max(width, frame_width), max(height, frame_height))


def _after_gif_blocks(content: bytes, position: int) -> int:
    while content[position]:
        position += content[position] + 1
    return position + 1


def _read_bmp(content: bytes) -> Header:
    start, header_size = struct.unpack_from("<II", content, 10)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    width, height = abs(width), abs(height)
    if compression == 0 and start + (width * bits + 31) // 32 * 4 * height > len(content):
        raise BadPicture("is a BMP that is cut off")
    return Header("BMP", width, height)


def _read_webp(content: bytes) -> Header:
    (size,) = struct.unpack_from("<I", content, 4)
    if len(content) < size + 8:
        raise BadPicture("is a WebP that is cut off")
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return Header("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind != b"VP8X":
        raise BadPicture(f"is a WebP of an unknown kind {kind!r}")
    width = int.from_bytes(content[24:27], "little") + 1
    height = int.from_bytes(content[27:30], "little") + 1
    return Header("WebP", width, height, turned=None if content[20] & 8 else False)


def _read_tiff(content: bytes) -> Header:
    values = _tiff_entries(content)
    if 256 not in values or 257 not in values:
        raise BadPicture("is a TIFF without a size")
    return Header("TIFF", values[256], values[257], turned=values.get(274, 1) in _TURNED)


def _tiff_entries(content: bytes) -> dict[int, int]:
    order = "<" if content[:2] == b"II" else ">"
    (magic,) = struct.unpack_from(order + "H", content, 2)
    if magic == 43:
        raise BadPicture("is a BigTIFF, which can't be read; convert it to PNG")
    (position,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, position)
    values = {}
    for index in range(count):
        place = position + 2 + 12 * index
        tag, kind = struct.unpack_from(order + "HH", content, place)
        (values[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), content, place + 8)
    return values


def _read_avif(content: bytes) -> Header:
    # Each picture, tile and thumbnail has its own 'ispe' box; the largest bounds what decoding takes.
    sizes = [struct.unpack_from(">II", content, found.end() + 4) for found in re.finditer(b"ispe", content[:65536])]
    if not sizes:
        raise BadPicture("is an AVIF without a size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header("AVIF", width, height, turned=None)


_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Header]], ...] = (
    (lambda content: content.startswith(b"\xff\xd8\xff"), _read_jpeg),
    (lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"), _read_png),
    (lambda content: content.startswith((b"GIF87a", b"GIF89a")), _read_gif),
    (lambda content: content.startswith(b"BM") and content[14:18] in _BMP_HEADERS, _read_bmp),
    (lambda content: content.startswith(b"RIFF") and content[8:12] == b"WEBP", _read_webp),
    (lambda content: content.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")), _read_tiff),
    (lambda content: content[4:12] in (b"ftypavif", b"ftypavis"), _read_avif),
)

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 picture; convert it to PNG or JPEG"),
    (b"\xff\x0a", "a JPEG XL picture; convert it to PNG or JPEG"),
    (b"\0\0\0\x0cJXL", "a JPEG XL picture; convert it to PNG or JPEG"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"#?RADIANCE", "an HDR picture; convert it to PNG or JPEG"),
    (b"RIFF", "an AVI video or a WAV sound"),
    (b"\x1aE\xdf\xa3", "a WebM or Matroska video"),
)

_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "a web page (was a download answered with an error page?)"),
    (b"<html", "a web page (was a download answered with an error page?)"),
    (b"<svg", "SVG; convert it to PNG"),
    (b"<?xml", "SVG or XML; convert it to PNG"),
    (b"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
)


def _describe(content: bytes) -> str:
    for start, meaning in _OTHERS:
        if content.startswith(start):
            return meaning
    if content[4:8] == b"ftyp":
        brand = content[8:12].decode("latin-1")
        heic = brand in ("heic", "heix", "mif1", "msf1", "hevc")
        return "a HEIC picture; convert it to JPEG" if heic else f"a video (MP4 family, brand {brand!r})"
    start = content[:512].lstrip().lower()
    for beginning, meaning in _TEXTS:
        if start.startswith(beginning):
            return meaning
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in content[:256]):
        return f"text: {content[:40].decode('ascii')!r}"
    return f"unknown bytes: {content[:8].hex(' ')}"
