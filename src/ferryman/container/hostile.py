"""Send a container what no client should: it must refuse each with 4xx, stay ready, and answer right afterwards."""

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from ferryman.container.outcome import Fails, Figure, Finding
from ferryman.container.visit import Visit

_WAIT_S = 5.0
_MOST_NAMED = 3
_HUGE = 10**15


@dataclass(frozen=True, slots=True)
class Bad:
    """Hold one bad request; `may_hang_up` where closing the connection is a fair answer, too."""

    name: str
    payload: bytes
    may_hang_up: bool = False


def bad_input(visit: Visit) -> Finding:
    """Send every bad request on a connection of its own."""
    asker, container = visit.questions, visit.live
    cases = _bad_requests(asker.model, asker.requests(container.url)[0])
    wrong = []
    for bad in cases:
        status = _send(container.port, bad)
        if status is None and not bad.may_hang_up:
            wrong.append(f"{bad.name}: no answer")
        elif status is not None and not 400 <= status < 500:
            wrong.append(f"{bad.name}: {status}, not 4xx")
        if reason := visit.is_well():
            wrong.append(f"after {bad.name}: {reason}")
            break
    figures: dict[str, Figure] = {"sent": len(cases), "wrong": len(wrong)}
    if wrong:
        raise Fails("; ".join(wrong[:_MOST_NAMED]), hint="refuse it before it reaches the model", figures=figures)
    return Finding(f"{len(cases)} bad requests refused; ready and right after each", figures)


def _bad_requests(model: str, good: bytes) -> list[Bad]:
    path = f"/v2/models/{quote(model, safe='')}/infer"
    tensor = {"name": "no-such-input", "shape": [1], "datatype": "FP32", "data": [0]}
    ask: Callable[..., bytes] = lambda body, **headers: _post(path, body, **headers)  # noqa: E731 - short for the table
    head, _, body = good.partition(b"\r\n\r\n")
    return [
        Bad("malformed JSON", ask(b'{"inputs": [')),
        Bad("JSON that is no object", ask(b"[1, 2, 3]")),
        Bad("no inputs", ask(b"{}")),
        Bad("an unknown input", ask(json.dumps({"inputs": [tensor]}).encode())),
        Bad("a shape that its data don't fill", ask(json.dumps({"inputs": [{**tensor, "shape": [7, 7]}]}).encode())),
        Bad("a huge shape", ask(json.dumps({"inputs": [{**tensor, "shape": [_HUGE, _HUGE]}]}).encode())),
        Bad("deep JSON", ask(b'{"inputs":' + b"[" * 50_000)),
        Bad("a huge header length", ask(b"{}", Inference_Header_Content_Length=str(_HUGE))),
        Bad("a negative header length", ask(b"{}", Inference_Header_Content_Length="-1")),
        Bad("an unknown model", _post("/v2/models/no-such-model/infer", b"{}")),
        Bad("a huge body announced", _head(path, str(_HUGE)), may_hang_up=True),
        Bad("a length that is none", _head(path, "many"), may_hang_up=True),
        Bad("a body that ends early", head + b"\r\n\r\n" + body[: len(body) // 2], may_hang_up=True),
        Bad("an endless header", b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 500_000, may_hang_up=True),
        Bad("no HTTP at all", bytes(range(256)) * 8, may_hang_up=True),
    ]


def _post(path: str, body: bytes, **headers: str) -> bytes:
    lines = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    told = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{told}\r\n".encode() + body


def _head(path: str, length: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def _send(port: int, bad: Bad) -> int | None:
    """Send it and give the answer's status, None where the connection closed without one, or nothing came in time."""
    received = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=_WAIT_S) as link:
        link.settimeout(_WAIT_S)
        with suppress(OSError):  # refused before it was read: its answer may be there all the same
            link.sendall(bad.payload)
            if bad.may_hang_up:
                link.shutdown(socket.SHUT_WR)
        while b"\r\n" not in received and (more := link.recv(4096)):
            received += more
    words = received.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else None
