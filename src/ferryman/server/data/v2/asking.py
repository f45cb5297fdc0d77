"""Make an ask of an HTTP body: tensors, a picture, rows or instances, told apart by its headers and content."""

import re
from collections.abc import Mapping
from typing import Any

from ferryman.core.errors import InputError
from ferryman.core.task import Item
from ferryman.server.data.models import Served
from ferryman.server.data.v2.errors import Unsupported
from ferryman.server.data.v2.examples import how_to_ask
from ferryman.server.data.v2.instances import decode_csv, decode_instances
from ferryman.server.data.v2.messages import (
    ItemsRequest,
    TensorRequest,
    decode_rows,
    decode_tensors,
    id_of,
    priority_of,
    refuse_sequence,
    timeout_of,
)
from ferryman.server.data.v2.parse import parse_json
from ferryman.server.data.v2.template import Templates
from ferryman.server.data.v2.texts import texts_as_rows
from ferryman.server.data.wording import count, show

_JSON_LENGTH = b"inference-header-content-length"
_BYTES = b"application/octet-stream"
_JSON = b"application/json"
_CSV = b"text/csv"
_PICTURES = (b"image/", b"application/x-image")  # the latter is SageMaker's own
_FORM = b"application/x-www-form-urlencoded"  # what curl -d says where it is told nothing
_JSON_VALUE = re.compile(rb'\s*([\[{"]|(null|true|false|-?\d[\d.eE+-]*)\s*$)')
Headers = Mapping[bytes, bytes]


Asked = TensorRequest | ItemsRequest


def check_content_type(headers: Headers, served: Served) -> None:
    """Raise Unsupported for a body that can't be read here, before it is."""
    content_type = headers.get(b"content-type", b"")
    if content_type in (_JSON, b"", _BYTES):
        return
    content_type = _plain(content_type)
    if _JSON_LENGTH in headers:
        is_readable = content_type in (b"", _BYTES, _JSON)
    else:
        is_readable = content_type in (b"", _JSON, _FORM, _BYTES, _CSV) or content_type.startswith(_PICTURES)
    if not is_readable:
        raise _unreadable(content_type, served)


def decode(headers: Headers, body: bytes | bytearray, served: Served) -> Asked:
    """Decode a whole request for a model; raises InputError, and Unsupported for what this model doesn't take."""
    length = headers.get(_JSON_LENGTH)
    if length is None:
        content_type = headers.get(b"content-type", b"")
        if content_type != _JSON and _is_picture(content_type) and not _looks_like_json(content_type, body):
            return _picture(body, served)
        if _plain(content_type) == _FORM and not _JSON_VALUE.match(body):
            raise _unreadable(_FORM, served)
        if _plain(content_type) == _CSV:
            return decode_csv(body, served)
        return _json(parse_json(body), served)
    split = _split_at(length, len(body))
    view = memoryview(body)
    try:
        raw = parse_json(view[:split])
    except InputError as error:
        hint = f"Inference-Header-Content-Length says that the first {count(split, 'byte')} of the body are JSON"
        raise InputError(str(error), hint=hint) from None
    return _rows(raw, served) if "rows" in raw else decode_tensors(raw, view[split:])


def _json(raw: dict[str, Any], served: Served) -> Asked:  # from outside
    if "instances" in raw and "inputs" not in raw:
        return decode_instances(raw, served)
    raw = texts_as_rows(raw, served)
    return _rows(raw, served) if "rows" in raw else decode_tensors(raw, memoryview(b""))


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
        raise Unsupported(f"model '{served.name}' doesn't take pictures", hint=how_to_ask(served))
    return ItemsRequest([bytes(body)])


def _rows(raw: Mapping[str, Any], served: Served) -> ItemsRequest:  # from outside
    if served.loaded.takes != "row":
        raise InputError(f"model '{served.name}' doesn't take rows", hint=how_to_ask(served))
    parameters = raw.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InputError(f"the request: 'parameters' is {show(parameters)}", hint="it must be an object")
    refuse_sequence(parameters)
    rows: list[Item] = list(decode_rows(raw))
    return ItemsRequest(rows, id_of(raw), timeout_of(parameters), priority_of(parameters))


def _is_picture(content_type: bytes) -> bool:
    plain = _plain(content_type)
    return plain == _BYTES or plain.startswith(_PICTURES)


def _looks_like_json(content_type: bytes, body: bytes | bytearray) -> bool:
    """Tell that bytes of no named kind are JSON, as tritonclient's asyncio client sends it; no picture begins so."""
    return _plain(content_type) == _BYTES and body.lstrip().startswith(b"{")


def _plain(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()


def _split_at(length: bytes, whole: int) -> int:
    """Give the length of the JSON at the start of the body."""
    if not length.isdigit() or len(length) > 18 or int(length) > whole:
        raise InputError(
            f"Inference-Header-Content-Length is '{length.decode('latin-1'):.40}'; the body has {count(whole, 'byte')}",
            hint="it is the length in bytes of the JSON with which the body begins",
        )
    return int(length)


def _unreadable(content_type: bytes, served: Served) -> Unsupported:
    why = " (curl -d sends it unless told otherwise)" if content_type == _FORM else ""
    return Unsupported(
        f"content-type '{content_type.decode('latin-1'):.60}'{why} is nothing that model '{served.name}' takes",
        hint=how_to_ask(served),
    )
