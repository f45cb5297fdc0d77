"""Post JSON over HTTP: within a time limit, following no redirect, and with no address in what goes wrong."""

import contextlib
import json
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ferryman.monitor.notify.receiver import Undelivered, limited

_MOST_READ = 65536
_FINAL = frozenset({400, 413, 415, 422})  # about what was sent; others may be set right without it changing
_LONGEST_WAIT_S = 3600.0


def post(address: str, body: Any, headers: Mapping[str, str], timeout_s: float) -> None:  # JSON
    """Return where the answer is 2xx; raises Undelivered else, which names the host only: an address may be secret."""
    send(address, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}, timeout_s)


def send(address: str, payload: bytes, headers: Mapping[str, str], timeout_s: float) -> None:
    """Post bytes; else as `post`."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise Undelivered("its address is no http(s) address")
    connection = _connection(parts, host, timeout_s)
    try:
        with limited(timeout_s, lambda: connection.sock):
            target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
            connection.request("POST", target, payload, {"User-Agent": "ferryman", **headers})
            answer = connection.getresponse()
            with contextlib.suppress(OSError, HTTPException):  # the status has said it
                answer.read(_MOST_READ)
    except (OSError, HTTPException, ValueError) as error:
        raise Undelivered(f"{host} can't be reached: {_reason(error)}") from None
    finally:
        connection.close()
    _judge(host, answer)


def _connection(parts: SplitResult, host: str, timeout_s: float) -> HTTPConnection:
    try:
        port = parts.port
    except ValueError:
        raise Undelivered(f"the port of {host} is no port") from None
    if parts.scheme == "https":
        return HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
    return HTTPConnection(host, port, timeout=timeout_s)


def _judge(host: str, answer: HTTPResponse) -> None:
    if 200 <= answer.status < 300:
        return
    if 300 <= answer.status < 400:
        raise Undelivered(f"{host} answers {answer.status}, another address; name that one: none is followed")
    waits = answer.headers.get("Retry-After", "")
    wait_s = min(float(waits), _LONGEST_WAIT_S) if waits.isascii() and waits.isdigit() else 0.0
    raise Undelivered(f"{host} answers {answer.status}", is_final=answer.status in _FINAL, retry_after_s=wait_s)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed ({error.verify_message})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__  # its text may hold what was sent
