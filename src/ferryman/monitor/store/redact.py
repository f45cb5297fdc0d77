"""Make a payload unreadable where the settings say so, before it touches the disk."""

import hmac
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ferryman.core.durable import write_whole
from ferryman.core.recording import PayloadsSection

MAX_BYTES = 32 << 20
MAX_PIXELS = 60_000_000
_KEY = ".key"
_KEY_BYTES = 32
_DEPTH = 64
_BLUR = 24  # the longest side is so many radii: a face or a plate in the picture can't be read


class Unredactable(Exception):
    """Say why a payload can't be made safe, and is not kept."""


class Redactor:
    """Drop and hash fields of rows and answers, shrink and blur pictures."""

    def __init__(self, section: PayloadsSection, key: bytes) -> None:
        """Take the folder's key: equal values give equal digests in one folder, and others in another."""
        self._section, self._key = section, key
        self._drop = frozenset(field.casefold() for field in section.drop)
        self._hash = frozenset(field.casefold() for field in section.hash)

    def redact(self, kind: str, payload: bytes) -> tuple[bytes, str]:
        """Give what may be written, and the file's suffix; raises Unredactable. Kinds: picture, row, tensors, answer,
        text."""
        if len(payload) > MAX_BYTES:
            raise Unredactable("too large")
        if kind == "picture":
            return self._picture(payload)
        if kind == "text":
            return self._text(payload)
        if kind in ("row", "answer", "tensors"):
            try:
                return orjson.dumps(self._fields(orjson.loads(payload))), ".json"
            except (orjson.JSONDecodeError, TypeError, RecursionError):
                raise Unredactable("no JSON") from None
        raise Unredactable("of no known kind")

    def _text(self, payload: bytes) -> tuple[bytes, str]:
        if "text" in self._drop:
            raise Unredactable("dropped")
        return (self._digest(payload).encode() if "text" in self._hash else payload), ".txt"

    def _fields(self, value: Any, depth: int = 0) -> Any:  # JSON
        if depth > _DEPTH:
            raise Unredactable("too deep")
        if isinstance(value, list):
            return [self._fields(inner, depth + 1) for inner in value if not self._is_dropped_tensor(inner)]
        if not isinstance(value, dict):
            return value
        if _name(value) in self._hash and "data" in value:  # a tensor of the V2 protocol
            return {**value, "data": self._hashed(value["data"])}
        return {
            field: self._hashed(inner) if field.casefold() in self._hash else self._fields(inner, depth + 1)
            for field, inner in value.items()
            if field.casefold() not in self._drop
        }

    def _is_dropped_tensor(self, value: Any) -> bool:  # JSON
        return isinstance(value, dict) and _name(value) in self._drop

    def _hashed(self, value: Any) -> Any:  # JSON
        if isinstance(value, list):
            return [self._hashed(inner) for inner in value]
        return None if value is None else self._digest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))

    def _digest(self, value: bytes) -> str:
        return hmac.digest(self._key, value, "sha256").hex()[:32]

    def _picture(self, payload: bytes) -> tuple[bytes, str]:
        if self._section.pictures == "none":
            raise Unredactable("dropped")
        from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

        side = self._section.picture_side
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture = Image.open(io.BytesIO(payload))
                if picture.width * picture.height > MAX_PIXELS:
                    raise Unredactable("too large")
                if self._section.pictures != "whole":
                    picture.draft("RGB", (side, side))
                shown = ImageOps.exif_transpose(picture.convert("RGB"))
                if self._section.pictures != "whole":
                    shown.thumbnail((side, side))
                if self._section.pictures == "blurred":
                    shown = shown.filter(ImageFilter.GaussianBlur(max(2.0, max(shown.size) / _BLUR)))
                written = io.BytesIO()
                # A fresh picture: none of the metadata that the old one carries (place, camera, thumbnail).
                Image.frombytes("RGB", shown.size, shown.tobytes()).save(written, "JPEG", quality=90)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            raise Unredactable("no picture") from None
        return written.getvalue(), ".jpg"


def folder_key(folder: Path) -> bytes:
    """Give the key of a folder of records, made at first; only its owner can read it."""
    path = folder / _KEY
    try:
        held = path.read_bytes()
    except FileNotFoundError:
        held = b""
    if len(held) == _KEY_BYTES:
        return held
    made = os.urandom(_KEY_BYTES)
    write_whole(path, made, mode=0o600)
    return made


def _name(value: Mapping[str, Any]) -> str:  # JSON
    name = value.get("name")
    return name.casefold() if isinstance(name, str) else ""
