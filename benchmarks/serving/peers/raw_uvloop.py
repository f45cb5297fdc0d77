"""The floor: one protocol class on uvloop and httptools; no routing, no limits, no metrics, one request at a time."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import httptools
import nets
import numpy as np
import orjson
import uvloop

_JSON = b"application/json"
_BYTES = b"application/octet-stream"


def _answers() -> dict[bytes, Callable[[bytes], tuple[bytes, bytes]]]:
    tabular, mobile, detector = nets.Plain("T"), nets.Plain("M"), nets.Detector()

    def rows(body: bytes) -> tuple[bytes, bytes]:
        scores = tabular(np.array(orjson.loads(body)["rows"], np.float32))
        return _JSON, orjson.dumps({"scores": scores}, option=orjson.OPT_SERIALIZE_NUMPY)

    def tensor(body: bytes) -> tuple[bytes, bytes]:
        return _BYTES, mobile(np.frombuffer(body, np.float32).reshape(1, 3, 224, 224)).tobytes()

    def listed(body: bytes) -> tuple[bytes, bytes]:
        values = np.array(orjson.loads(body)["values"], np.float32).reshape(1, 3, 224, 224)
        return _JSON, orjson.dumps({"scores": mobile(values)}, option=orjson.OPT_SERIALIZE_NUMPY)

    return {b"/T": rows, b"/M": tensor, b"/Mjson": listed, b"/D": lambda body: (_JSON, orjson.dumps(detector(body)))}


class Connection(asyncio.Protocol):
    """Answer one connection."""

    def __init__(self, answers: dict[bytes, Callable[[bytes], tuple[bytes, bytes]]]) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._parts: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._path = url
        self._parts = []

    def on_body(self, body: bytes) -> None:
        """Collect."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        kind, body = self._answers[self._path](b"".join(self._parts))
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body)
        )


async def _serve() -> None:
    answers = _answers()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", int(os.environ["BENCH_PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
