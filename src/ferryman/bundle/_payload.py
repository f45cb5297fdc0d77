"""A golden sample's item as a file, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.bundle._arrays import decode_arrays, encode_arrays
from ferryman.bundle.layout import decode_json, encode_json
from ferryman.core.errors import BundleError
from ferryman.core.task import Item

_SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"BM": "bmp", b"RIFF": "webp"}
_CELLS = (str, int, float, bool, type(None))


def encode_item(item: Item, *, name: str) -> tuple[str, str, bytes]:
    """Give an item's kind, file suffix and bytes; raises BundleError for an item that can't be kept."""
    if isinstance(item, Path):
        item = item.read_bytes()
    if isinstance(item, bytes):
        return "bytes", _suffix_of(item), item
    if isinstance(item, np.ndarray):
        return "array", "npz", encode_arrays({"item": item})
    if item and all(isinstance(value, np.ndarray) for value in item.values()):
        return "arrays", "npz", encode_arrays(item)
    row = {key: _plain(value, name=name, key=key) for key, value in item.items()}
    return "row", "json", encode_json(row, is_ordered=True)


def decode_item(kind: str, payload: bytes, *, origin: str) -> Item:
    """Give back the item; files that held pictures come back as their bytes."""
    if kind == "bytes":
        return payload
    if kind == "row":
        row = decode_json(payload, origin=origin)
        if not isinstance(row, dict):
            raise BundleError(f"{origin} is not a row: {row!r:.60}", hint="build the bundle again")
        return row
    arrays = decode_arrays(payload, origin=origin)
    if kind == "arrays":
        return arrays
    if kind == "array" and "item" in arrays:
        return arrays["item"]
    raise BundleError(f"{origin} holds no item of kind {kind!r}", hint="a newer ferryman may know it")


def _suffix_of(payload: bytes) -> str:
    return next((suffix for start, suffix in _SIGNATURES.items() if payload.startswith(start)), "bin")


def _plain(value: Any, *, name: str, key: Any) -> Any:  # a cell of the user's table
    cell = value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value
    if not isinstance(cell, _CELLS) or not isinstance(key, str) or isinstance(value, Mapping):
        raise BundleError(
            f"golden sample '{name}': column {key!r} holds a {type(value).__name__}, which a bundle can't keep",
            hint="give numbers, text, booleans or nothing",
        )
    return cell
