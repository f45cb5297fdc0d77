"""LitServe: an API, and so a worker process, for each route."""

import os
from typing import Any

import litserve
import nets
import numpy as np
from litserve import Request


class Tabular(litserve.LitAPI):
    """Answer T."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self._net = nets.Plain("T")

    def decode_request(self, request: Request) -> Any:
        """Read the rows."""
        return np.array(request["rows"], np.float32)

    def predict(self, values: Any) -> Any:
        """Infer."""
        return self._net(values)

    def encode_response(self, output: Any) -> Any:
        """Write the scores."""
        return {"scores": output.tolist()}


class Values(Tabular):
    """Answer M as JSON."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self._net = nets.Plain("M")

    def decode_request(self, request: Request) -> Any:
        """Read the values."""
        return np.array(request["values"], np.float32).reshape(1, 3, 224, 224)


class Tensor(Values):
    """Answer M from a file of a form."""

    def decode_request(self, request: Request) -> Any:
        """Read the raw floats."""
        return np.frombuffer(request["file"].file.read(), np.float32).reshape(1, 3, 224, 224)


class Picture(litserve.LitAPI):
    """Answer D from a file of a form."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self._net = nets.Detector()

    def decode_request(self, request: Request) -> bytes:
        """Read the JPEG."""
        jpeg: bytes = request["file"].file.read()
        return jpeg

    def predict(self, jpeg: bytes) -> Any:
        """Infer."""
        return self._net(jpeg)

    def encode_response(self, output: Any) -> Any:
        """Give the boxes as they are."""
        return output


if __name__ == "__main__":
    apis = [Tabular(api_path="/T"), Tensor(api_path="/M"), Values(api_path="/Mjson"), Picture(api_path="/D")]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="warning", generate_client_file=False)
