"""Read a request's JSON: small ones with orjson, long lists of numbers without a Python object for each."""

from typing import Any

import numpy as np
import orjson
import simdjson

from ferryman.core.errors import InputError
from ferryman.server.data.wording import show

_LARGE_BYTES = 16_384
_BEGINNINGS = {
    b"\xef\xbb\xbf": "send UTF-8 without a byte order mark",
    b"\xff\xfe": "this looks like UTF-16: send UTF-8",
    b"\x1f\x8b": "this is gzip: say so with Content-Encoding: gzip",
    b"\xff\xd8\xff": "this is a JPEG: say so with Content-Type: image/jpeg",
    b"\x89PNG": "this is a PNG: say so with Content-Type: image/png",
    b"{'": 'names and texts stand in double quotes: {"inputs": ...}',
}
_LAYOUT = {  # simdjson's letter for the widest type, and numpy's name for what it gives
    **dict.fromkeys(("FP16", "FP32", "FP64"), ("d", "f8")),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), ("i", "i8")),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64"), ("u", "u8")),
}


def parse_json(payload: bytes | bytearray | memoryview) -> dict[str, Any]:  # from outside
    """Read a JSON object; raises InputError for anything else. A long flat list of numbers comes as a numpy array."""
    if len(payload) > _LARGE_BYTES:
        raw = _parse_large(bytes(payload))
        if raw is not None:
            return raw
    try:
        raw = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        if "depth" in error.msg or "recursion" in error.msg.lower():
            raise InputError("the request is nested too deeply", hint="send flat data with a shape") from None
        raise InputError(f"the request is not valid JSON: {_reason(payload, error)}", hint=_hint_of(payload)) from None
    if not isinstance(raw, dict):
        found = "JSON within a JSON text: encoded twice" if isinstance(raw, str) and raw[:1] == "{" else show(raw)
        raise InputError(f"the request is not a JSON object but {found}", hint='send {"inputs": [...]}')
    return raw


def _parse_large(payload: bytes) -> dict[str, Any] | None:  # from outside
    """Read a request whose data are flat lists of numbers; None for any other, which orjson then reads or refuses."""
    try:
        document: Any = simdjson.Parser().parse(payload)  # its stub can't know what is in the JSON
        inputs = document["inputs"]
        # Nested lists would come out flat, ragged or not: only orjson's lists show how they were nested.
        if payload.count(b"[") != 1 + 2 * len(inputs) + ("outputs" in document):
            return None
        raw = {key: _plain(document[key]) for key in document if key != "inputs"}
        raw["inputs"] = [_tensor(entry) for entry in inputs]
    except (ValueError, TypeError, KeyError, RuntimeError, IndexError):
        return None
    return raw


def _tensor(entry: Any) -> dict[str, Any]:  # simdjson.Object
    tensor = {key: _plain(entry[key]) for key in entry if key != "data"}
    if "data" in entry:
        letter, dtype = _LAYOUT[tensor["datatype"]]
        tensor["data"] = np.frombuffer(entry["data"].as_buffer(of_type=letter), dtype)
    return tensor


def _plain(value: Any) -> Any:  # simdjson's proxies, or a plain value
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _reason(payload: bytes | bytearray | memoryview, error: orjson.JSONDecodeError) -> str:
    if not len(payload):
        return "it is empty"
    return "it is not UTF-8 text" if "UTF-8: " in error.msg else str(error)


def _hint_of(payload: bytes | bytearray | memoryview) -> str:
    """Give the way out of the mistakes that are made most."""
    start = bytes(payload[:4])
    if not start:
        return 'send {"inputs": [...]}'
    for beginning, hint in _BEGINNINGS.items():
        if start.startswith(beginning):
            return hint
    text = bytes(payload[:1_000_000])
    if b"\0" in text:
        return "where tensors follow as bytes, Inference-Header-Content-Length says how long the JSON before them is"
    if b"NaN" in text or b"Infinity" in text:
        return 'NaN and Infinity are not JSON; send them as the texts "NaN", "Infinity", "-Infinity"'
    return ""
