"""Ask a server that speaks the Open Inference Protocol V2, ferryman's or another's."""

import http.client
import json
import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from ferryman.client._tensors import decode_tensors, encode_tensor
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


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    payload: bytes


class Client:
    """Ask one server over one connection; `timeout_s` bounds each wait. Use one client a thread, and close it.

    `key` is an API key, or another bearer token, for a server that wants one. Server errors come back as the errors
    that they are there: InputError, NotFound, NotReady, TooLarge, Overloaded, Unauthorized, Forbidden ...
    """

    def __init__(self, url: str, timeout_s: float = 30.0, *, key: str = "") -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigError(f"{url!r} is not a server's address", hint="http://HOST:PORT")
        self._base = parts.path.rstrip("/").removesuffix("/v2")
        if "/v2/" in f"{self._base}/" or parts.query or parts.fragment:
            raise ConfigError(
                f"{url!r} is an address inside of a server",
                hint=f"give the server's own, {parts.scheme}://{parts.netloc}, and the model's name apart (--model)",
            )
        self._url = f"{parts.scheme}://{parts.netloc}{self._base}"
        self._timeout_s = timeout_s
        self._credentials = {"Authorization": f"Bearer {key}"} if key else {}
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=timeout_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next question opens it again."""
        self._connection.close()

    def metadata(self, model: str | None = None) -> dict[str, Any]:  # JSON
        """Give what the server says of itself, or of a model."""
        return self._json(self._ask("GET", f"/v2/models/{_escape(model)}" if model else "/v2"))

    def models(self) -> list[str]:
        """Give the names of the models that the server has."""
        reply = self._ask("POST", "/v2/repository/index", b"{}", _JSON)
        try:
            return list(dict.fromkeys(str(entry["name"]) for entry in json.loads(reply.payload)))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise FerrymanError(f"{self._url} gave no list of models", hint="name the model") from None

    def is_ready(self, model: str | None = None) -> bool:
        """Tell whether the server (or one model) answers; False too where nobody listens."""
        try:
            path = f"/v2/models/{_escape(model)}/ready" if model else "/v2/health/ready"
            return self._send("GET", path, b"", {}).status == http.client.OK
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
            raise FerrymanError(f"{self._url} gave no answer for this item", hint="is it a ferryman server?")
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
        answer = self._json(_Reply(reply.status, {}, reply.payload[:split]))
        try:
            return decode_tensors(answer["outputs"], reply.payload[split:])
        except (KeyError, TypeError, ValueError) as error:
            raise FerrymanError(f"{self._url} gave an answer that can't be read: {error!r}") from None

    def _ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> _Reply:
        reply = self._send(method, path, body, headers or {})
        if reply.status == http.client.OK:
            return reply
        kind = _ERRORS.get(reply.status, FerrymanError)
        raise kind(f"{self._url} says {reply.status}: {_reason(reply.payload)}")

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> _Reply:
        is_reused = self._connection.sock is not None
        try:
            return self._exchange(method, path, body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            if not is_reused:
                raise NotReady(f"{self._url} closed the connection", hint="it may be stopping; ask again") from None
        # The server had closed an idle connection: a fresh one tells whether it still answers.
        return self._send(method, path, body, headers)

    def _exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> _Reply:
        try:
            try:
                self._connection.request(method, self._base + path, body or None, {**headers, **self._credentials})
            except BrokenPipeError:
                # It may have answered (413) before it had read everything: then that answer is there to read.
                if self._connection.sock is None:
                    raise
            response = self._connection.getresponse()
            payload = response.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            raise
        except (TimeoutError, socket.gaierror, ConnectionRefusedError) as error:
            self.close()
            raise self._unreachable(error) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NotReady(f"{self._url} can't be asked: {error!r}", hint="is it an HTTP server?") from None
        return _Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, payload)

    def _unreachable(self, error: OSError) -> NotReady:
        if isinstance(error, TimeoutError):
            return NotReady(f"{self._url} did not answer within {self._timeout_s:g} s", hint="raise timeout_s")
        if isinstance(error, ConnectionRefusedError):
            return NotReady(f"nobody listens at {self._url}", hint="is the server running? ferryman serve BUNDLE")
        return NotReady(f"{self._url} has no address: {error.strerror}", hint="check the host's name")

    def _json(self, reply: _Reply) -> dict[str, Any]:  # JSON
        try:
            answer = json.loads(reply.payload)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise FerrymanError(f"{self._url} gave no JSON object", hint="does it speak the protocol V2?")
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
