"""mosec: a front in Rust, a process for each route, T in batches of up to 128 gathered for at most 2 ms."""

from typing import Any

import nets
import numpy as np
import orjson
from mosec import Runtime, Server, Worker


class Tabular(Worker):
    """Answer T, a batch at a time."""

    def __init__(self) -> None:
        self._net = nets.Plain("T")

    def deserialize(self, data: bytes) -> Any:
        """Read one question."""
        return orjson.loads(data)["rows"]

    def forward(self, data: list[Any]) -> list[Any]:
        """Answer each with its own part."""
        scores = self._net(np.array(data, np.float32).reshape(-1, 30))
        return [{"scores": scores[place : place + 1]} for place in range(len(data))]

    def serialize(self, data: Any) -> bytes:
        """Write one answer."""
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


class Tensor(Worker):
    """Answer M, raw in and out."""

    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        self._net = nets.Plain("M")

    def deserialize(self, data: bytes) -> Any:
        """Read one question."""
        return np.frombuffer(data, np.float32).reshape(1, 3, 224, 224)

    def forward(self, data: Any) -> bytes:
        """Answer it."""
        scores: bytes = self._net(data).tobytes()
        return scores

    def serialize(self, data: Any) -> bytes:
        """Give the bytes as they are."""
        return bytes(data)


class Values(Worker):
    """Answer M as JSON."""

    def __init__(self) -> None:
        self._net = nets.Plain("M")

    def deserialize(self, data: bytes) -> Any:
        """Read one question."""
        return np.array(orjson.loads(data)["values"], np.float32).reshape(1, 3, 224, 224)

    def forward(self, data: Any) -> Any:
        """Answer it."""
        return {"scores": self._net(data)}

    def serialize(self, data: Any) -> bytes:
        """Write one answer."""
        return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


class Picture(Worker):
    """Answer D."""

    def __init__(self) -> None:
        self._net = nets.Detector()

    def deserialize(self, data: bytes) -> bytes:
        """Give the JPEG as it is."""
        return data

    def forward(self, data: bytes) -> Any:
        """Answer it."""
        return self._net(data)

    def serialize(self, data: Any) -> bytes:
        """Write one answer."""
        return orjson.dumps(data)


if __name__ == "__main__":
    server = Server()
    server.register_runtime(
        {
            "/T": [Runtime(Tabular, max_batch_size=128, max_wait_time=2)],
            "/M": [Runtime(Tensor)],
            "/Mjson": [Runtime(Values)],
            "/D": [Runtime(Picture)],
        }
    )
    server.run()
