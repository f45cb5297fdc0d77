"""A watch's state as JSON that tells whether it is whole."""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

_VERSION = 1


def pack(identity: str, figures: dict[str, JsonValue], arrays: Mapping[str, NDArray[Any]]) -> dict[str, JsonValue]:
    """Give figures and arrays as JSON, with a digest of all."""
    raw = b"".join(np.ascontiguousarray(arrays[name], np.float64).tobytes() for name in sorted(arrays))
    packed = base64.b64encode(zlib.compress(raw, 1)).decode()
    return {
        "version": _VERSION,
        "of": identity,
        "figures": figures,
        "arrays": packed,
        "digest": _digest(figures, packed),
    }


def unpack(
    saved: object, identity: str, like: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Give what `pack` was given, arrays in the shapes of `like`; raises ValueError that says why not."""
    if not isinstance(saved, dict) or not {"version", "of", "figures", "arrays", "digest"} <= saved.keys():
        raise ValueError("what was saved is not a watch's state")
    if saved["version"] != _VERSION:
        raise ValueError(f"what was saved is of version {saved['version']!r:.20}, this is {_VERSION}")
    if saved["of"] != identity:
        raise ValueError("what was saved is of another baseline or policy")
    if not isinstance(saved["arrays"], str) or _digest(saved["figures"], saved["arrays"]) != saved["digest"]:
        raise ValueError("what was saved is damaged: its digest differs")
    size = sum(array.size for array in like.values()) * 8
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(saved["arrays"]), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"what was saved can't be unpacked: {error}") from None
    if len(raw) != size:
        raise ValueError("what was saved has another size")
    values = np.frombuffer(raw, np.float64)
    arrays, start = {}, 0
    for name in sorted(like):
        arrays[name] = values[start : start + like[name].size].reshape(like[name].shape)
        start += like[name].size
    return dict(saved["figures"]), arrays


def _digest(figures: object, packed: str) -> str:
    return hashlib.sha256((json.dumps(figures, sort_keys=True) + packed).encode()).hexdigest()
