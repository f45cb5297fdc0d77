"""Make an ask of an HTTP request's body: tensors, a picture or rows, told apart by its headers and content."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from ferryman.core.errors import InputError
from ferryman.core.task import Item
from ferryman.server.data.ask import Priority
from ferryman.server.data.models import Served
from ferryman.server.data.v2.errors import Unsupported
from ferryman.server.data.v2.messages import TensorRequest, decode_rows, decode_tensors, priority_of, timeout_of
from ferryman.server.data.v2.parse import parse_json
from ferryman.server.data.v2.template import Templates

_JSON_LENGTH = b"inference-header-content-length"
_BYTES = b"application/octet-stream"
_JSON = b"application/json"
_FORM = b"application/x-www-form-urlencoded"  # what curl -d says where it is told nothing
Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class ItemsRequest:
    """Hold what a task is asked about, in its own words."""

    items: list[Item]
    timeout_s: float = inf
    priority: Priority = Priority.NORMAL


Asked = TensorRequest | ItemsRequest


def check_content_type(headers: Headers) -> None:
    """Raise Unsupported for a body that can't be read here, before it is."""
    content_type = headers.get(b"content-type", b"")
    if content_type in (_JSON, b"", _BYTES):
        return
    content_type = _plain(content_type)
    if _JSON_LENGTH in headers:
        is_readable = content_type in (b"", _BYTES, _JSON)
    else:
        is_readable = content_type in (b"", _JSON, _FORM, _BYTES) or content_type.startswith(b"image/")
    if not is_readable:
        raise _unreadable(content_type)


def decode(headers: Headers, body: bytes | bytearray, served: Served) -> Asked:
    """Decode a whole request for a model; raises InputError, and Unsupported for what this model doesn't take."""
    length = headers.get(_JSON_LENGTH)
    if length is None:
        content_type = headers.get(b"content-type", b"")
        if content_type != _JSON and _is_picture(content_type) and not _looks_like_json(content_type, body):
            return _picture(body, served)
        if _plain(content_type) == _FORM and not body.lstrip().startswith(b"{"):
            raise _unreadable(_FORM)
        raw = parse_json(body)
        if "rows" in raw:
            return _rows(raw, served)
        return decode_tensors(raw, memoryview(b""))
    split = _split_at(length, len(body))
    view = memoryview(body)
    raw = parse_json(view[:split])
    return _rows(raw, served) if "rows" in raw else decode_tensors(raw, view[split:])


class Decoder:
    """Decode requests as `decode` does, and faster those whose form it knows."""

    def __init__(self) -> None:
        self._templates = Templates()

    def decode(self, headers: Headers, body: bytes | bytearray, served: Served) -> Asked:
        """Decode a whole request; raises what `decode` raises."""
        if type(body) is not bytes or headers.get(b"content-type") != _JSON or _JSON_LENGTH in headers:
            return decode(headers, body, served)
        known = self._templates.decode(body)
        if known is not None:
            return known
        asked = decode(headers, body, served)
        if type(asked) is TensorRequest:
            self._templates.learn(body, asked)
        return asked


def _picture(body: bytes | bytearray, served: Served) -> ItemsRequest:
    if served.loaded.takes != "picture":
        raise Unsupported(f"model '{served.name}' doesn't take pictures", hint="see /docs for what it takes")
    return ItemsRequest([bytes(body)])


def _rows(raw: Mapping[str, Any], served: Served) -> ItemsRequest:  # from outside
    if served.loaded.takes != "row":
        raise InputError(f"model '{served.name}' doesn't take rows", hint="see /docs for what it takes")
    parameters = raw.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InputError("the request: 'parameters' is not an object")
    rows: list[Item] = list(decode_rows(raw))
    return ItemsRequest(rows, timeout_of(parameters), priority_of(parameters))


def _is_picture(content_type: bytes) -> bool:
    plain = _plain(content_type)
    return plain == _BYTES or plain.startswith(b"image/")


def _looks_like_json(content_type: bytes, body: bytes | bytearray) -> bool:
    """Tell that bytes of no named kind are JSON, as tritonclient's asyncio client sends it; no picture begins so."""
    return _plain(content_type) == _BYTES and body.lstrip().startswith(b"{")


def _plain(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()


def _split_at(length: bytes, whole: int) -> int:
    """Give the length of the JSON at the start of the body."""
    if not length.isdigit() or len(length) > 18 or int(length) > whole:
        raise InputError(
            f"inference-header-content-length {length.decode('latin-1')!r:.40} with a body of {whole} bytes"
        )
    return int(length)


def _unreadable(content_type: bytes) -> Unsupported:
    shown = content_type.decode("latin-1")
    return Unsupported(
        f"content-type {shown!r:.60} can't be read", hint="send application/json, or a picture as image/jpeg"
    )
