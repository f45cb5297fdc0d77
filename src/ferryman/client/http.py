"""Ask a server that speaks the Open Inference Protocol V2, ferryman's or another's."""

import http.client
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import numpy as np

from ferryman.client._tensors import decode_tensors, encode_tensor
from ferryman.client.access import NOBODY, Access
from ferryman.client.link import Link, Reply, read_url, way_in
from ferryman.core.errors import (
    ConfigError,
    DeadlineExceeded,
    FerrymanError,
    Forbidden,
    InputError,
    NotFound,
    NotReady,
    Overloaded,
    TooLarge,
    Unauthorized,
)
from ferryman.core.signature import Array, Tensors
from ferryman.core.task import Answer, Item

_ERRORS: dict[int, type[FerrymanError]] = {
    400: InputError,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    415: InputError,
    429: Overloaded,
    503: NotReady,
    504: DeadlineExceeded,
}
_JSON_LENGTH = "Inference-Header-Content-Length"
_BYTES = {"Content-Type": "application/octet-stream"}
_JSON = {"Content-Type": "application/json"}


class Client:
    """Ask one server over one connection; `timeout_s` bounds each wait. Use one client a thread, and close it.

    `access` says who asks, for a server that wants to know, and whom to believe over TLS. Server errors come back as
    the errors that they are there: InputError, NotFound, NotReady, TooLarge, Overloaded, Unauthorized, Forbidden ...
    """

    def __init__(self, url: str, timeout_s: float = 30.0, *, access: Access = NOBODY) -> None:
        parts = read_url(url, "http://HOST:PORT")
        base = parts.path.rstrip("/").removesuffix("/v2")
        if "/v2/" in f"{base}/" or parts.query or parts.fragment:
            raise ConfigError(
                f"{url!r} is an address inside of a server",
                hint=f"give the server's own, {parts.scheme}://{parts.netloc}, and the model's name apart (--model)",
            )
        self._link = Link(parts._replace(path=base), timeout_s=timeout_s, access=access)
        self._has_key = bool(access.key)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next question opens it again."""
        self._link.close()

    def metadata(self, model: str | None = None) -> dict[str, Any]:  # JSON
        """Give what the server says of itself, or of a model."""
        return self._json(self._ask("GET", f"/v2/models/{_escape(model)}" if model else "/v2"))

    def models(self) -> list[str]:
        """Give the names of the models that the server has."""
        reply = self._ask("POST", "/v2/repository/index", b"{}", _JSON)
        try:
            return list(dict.fromkeys(str(entry["name"]) for entry in json.loads(reply.payload)))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise FerrymanError(f"{self._link.url} gave no list of models", hint="name the model") from None

    def is_ready(self, model: str | None = None) -> bool:
        """Tell whether the server (or one model) answers; False too where nobody listens."""
        try:
            path = f"/v2/models/{_escape(model)}/ready" if model else "/v2/health/ready"
            return self._link.ask("GET", path, b"", {}).status == http.client.OK
        except NotReady:
            return False

    def infer_item(self, model: str, item: Item) -> Answer:
        """Give the answer for a picture (a file or its bytes) or a table's row, in the task's own words."""
        if isinstance(item, Path):
            item = _read(item)
        if isinstance(item, bytes):
            reply = self._ask("POST", _infer_path(model), item, _BYTES)
        elif isinstance(item, Mapping) and not any(isinstance(cell, np.ndarray) for cell in item.values()):
            reply = self._ask("POST", _infer_path(model), _encode({"rows": [_plain_row(item)]}), _JSON)
        else:
            raise InputError(
                f"model '{model}' of this server takes no arrays", hint="give a picture's file, or a table's row"
            )
        answers = self._json(reply).get("answers")
        if not isinstance(answers, list) or len(answers) != 1 or not isinstance(answers[0], dict):
            raise FerrymanError(f"{self._link.url} gave no answer for this item", hint="is it a ferryman server?")
        answer: Answer = answers[0]
        return answer

    def infer_tensors(self, model: str, inputs: Tensors, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Give the model's outputs (those named, or all) for its inputs; both travel as bytes."""
        encoded = [encode_tensor(name, np.asarray(array)) for name, array in inputs.items()]
        request: dict[str, Any] = {"inputs": [entry for entry, _ in encoded]}  # JSON
        request["parameters"] = {"binary_data_output": True}
        if outputs is not None:
            request["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
        head = _encode(request)
        body = b"".join((head, *(payload for _, payload in encoded)))
        reply = self._ask("POST", _infer_path(model), body, {**_BYTES, _JSON_LENGTH: str(len(head))})
        split = int(reply.headers.get(_JSON_LENGTH.lower(), len(reply.payload)))
        answer = self._json(Reply(reply.status, {}, reply.payload[:split]))
        try:
            return decode_tensors(answer["outputs"], reply.payload[split:])
        except (KeyError, TypeError, ValueError) as error:
            raise FerrymanError(f"{self._link.url} gave an answer that can't be read: {error!r}") from None

    def _ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        reply = self._link.ask(method, path, body, headers or {})
        if reply.status == http.client.OK:
            return reply
        kind = _ERRORS.get(reply.status, FerrymanError)
        hint = way_in(reply.status, has_key=self._has_key) if reply.status in (401, 403) else ""
        raise kind(f"{self._link.url} says {reply.status}: {_reason(reply.payload)}", hint=hint)

    def _json(self, reply: Reply) -> dict[str, Any]:  # JSON
        try:
            answer = json.loads(reply.payload)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise FerrymanError(f"{self._link.url} gave no JSON object", hint="does it speak the protocol V2?")
        return answer


def _escape(model: str) -> str:
    return quote(model, safe="")


def _infer_path(model: str) -> str:
    return f"/v2/models/{_escape(model)}/infer"


def _encode(request: Mapping[str, Any]) -> bytes:  # JSON
    try:
        return json.dumps(request, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"this can't be sent as JSON: {error}", hint="numbers, text, booleans or None") from None


def _plain_row(row: Mapping[str, Any]) -> dict[str, Any]:  # the user's own cells
    cells = {column: cell.item() if isinstance(cell, np.generic) else cell for column, cell in row.items()}
    # A cell that is not known is NaN in tables and null in JSON.
    return {column: None if isinstance(cell, float) and math.isnan(cell) else cell for column, cell in cells.items()}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} can't be read: {error.strerror}", hint="give a picture's file") from None


def _reason(payload: bytes) -> str:
    try:
        reason = json.loads(payload)["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        reason = payload[:200].decode("utf-8", "replace")
    return str(reason)
