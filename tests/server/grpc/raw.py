"""A client that speaks frames, also wrong ones."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from struct import pack, unpack_from

import hpack

from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.messages import INFERENCE, InferRequest

HELLO = frames.PREFACE + frames.settings_frame({})
INFER = f"/{INFERENCE}/ModelInfer"
LIVE = f"/{INFERENCE}/ServerLive"


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a GOAWAY or RST_STREAM."""
        return int(unpack_from(">L", self.payload, 4 if self.kind == frames.GOAWAY else 0)[0])


class RawClient:
    """Be one connection."""

    def __init__(self, port: int, hello: bytes = HELLO) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = hpack.Decoder()
        self._rest = b""
        self.send(hello)

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def frames(self) -> Iterator[Frame]:
        """Give what comes until the server closes."""
        while True:
            while len(self._rest) < 9 or len(self._rest) < 9 + int.from_bytes(self._rest[:3], "big"):
                try:
                    more = self.socket.recv(65536)
                except ConnectionResetError:
                    return
                if not more:
                    return
                self._rest += more
            size = int.from_bytes(self._rest[:3], "big")
            kind, flags, stream = unpack_from(">BBL", self._rest, 3)
            payload, self._rest = self._rest[9 : 9 + size], self._rest[9 + size :]
            yield Frame(kind, flags, stream, payload)

    def next(self, *kinds: int, stream: int | None = None) -> Frame:
        """Give the next frame of some kinds."""
        for frame in self.frames():
            if frame.kind in kinds and stream in (None, frame.stream):
                return frame
        raise AssertionError(f"the connection ended before a frame of {kinds}")

    def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        """Give a call's trailers and its messages' bytes."""
        body = b""
        for frame in self.frames():
            if frame.stream != stream:
                continue
            if frame.kind == frames.DATA:
                body += frame.payload
            elif frame.kind == frames.HEADERS:
                headers = {str(name): str(value) for name, value in self.decoder.decode(frame.payload)}
                if frame.flags & frames.END_STREAM:
                    return headers, body
            elif frame.kind == frames.RST_STREAM:
                raise AssertionError(f"stream {stream} was reset with {frame.code}")
        raise AssertionError("the connection ended before the answer")


def block(path: str = INFER, *more: tuple[str, str], **changes: str) -> bytes:
    """Give a block of headers that no table remembers."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "here"}
    headers = [(name, changes.get(name.strip(":"), value)) for name, value in fields.items()]
    headers += [("content-type", changes.get("content_type", "application/grpc")), ("te", "trailers"), *more]
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    encoded: bytes = encoder.encode(headers)
    return encoded


def headers(stream: int, path: str = INFER, flags: int = frames.END_HEADERS, **changes: str) -> bytes:
    return frames.frame(frames.HEADERS, flags, stream, block(path, **changes))


def data(stream: int, payload: bytes, flags: int = frames.END_STREAM) -> bytes:
    return frames.frame(frames.DATA, flags, stream, payload)


def message(values: int = 30, model: str = "double", rows: int = 1) -> bytes:
    """Give a request's message with its prefix."""
    request = InferRequest(model_name=model, raw_input_contents=[pack("<f", 1.0) * values * rows])
    request.inputs.add(name="x", datatype="FP32", shape=[rows, values])
    payload: bytes = request.SerializeToString()
    return pack(">BL", 0, len(payload)) + payload


def call(stream: int, path: str = LIVE, body: bytes = b"\0\0\0\0\0") -> bytes:
    return headers(stream, path) + data(stream, body)
