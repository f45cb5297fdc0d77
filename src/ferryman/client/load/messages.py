"""Whole HTTP requests for one item of a model, ready to be sent again and again."""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ferryman.client._tensors import encode_tensor
from ferryman.core.errors import InputError
from ferryman.core.task import Item

_JSON = "application/json"
_BYTES = "application/octet-stream"


def infer_request(model: str, item: Item, *, host: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Give the bytes that ask `model` about a picture, a table's row, or named arrays (as binary tensors)."""
    content_type, json_bytes, body = _body_of(item)
    lines = {"Host": host, "Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
    if json_bytes:
        lines["Inference-Header-Content-Length"] = str(json_bytes)
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /v2/models/{quote(model, safe='')}/infer HTTP/1.1\r\n{head}\r\n".encode() + body


def _body_of(item: Item) -> tuple[str, int, bytes]:
    if isinstance(item, Path):
        item = item.read_bytes()
    if isinstance(item, bytes):
        return _BYTES, 0, item
    if isinstance(item, np.ndarray):
        raise InputError("a decoded picture can't be sent", hint="give its file's bytes")
    if not item or not all(isinstance(value, np.ndarray) for value in item.values()):
        return _JSON, 0, json.dumps({"rows": [dict(item)]}).encode()
    encoded = [encode_tensor(name, array) for name, array in item.items()]
    request = {"inputs": [entry for entry, _ in encoded], "parameters": {"binary_data_output": True}}
    head = json.dumps(request).encode()
    return _BYTES, len(head), b"".join((head, *(payload for _, payload in encoded)))
