"""What is asked under load: each question has its own answer, so that a mixed-up one shows."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferryman.server.data.grpc.messages import InferRequest

_SPREAD = 4096


@dataclass(frozen=True)
class Question:
    """Hold one tensor for one model and what its answer must be, by the version that gave it."""

    model: str
    name: str
    values: tuple[float, ...]
    expected: Callable[[str], tuple[float, ...]]

    def body(self) -> dict[str, object]:
        """Give the request's JSON."""
        tensor = {"name": self.name, "shape": [1, len(self.values)], "datatype": "FP32", "data": self.values}
        return {"inputs": [tensor]}

    def http(self, headers: str = "") -> bytes:
        """Give the whole HTTP request."""
        body = json.dumps(self.body())
        head = f"POST /v2/models/{self.model}/infer HTTP/1.1\r\nHost: chaos\r\nContent-Type: application/json\r\n"
        return f"{head}{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def grpc(self) -> Any:  # a message made at run time
        """Give the gRPC message."""
        raw = np.array([self.values], np.float32).tobytes()
        request = InferRequest(model_name=self.model, raw_input_contents=[raw])
        request.inputs.add(name=self.name, datatype="FP32", shape=[1, len(self.values)])
        return request

    def is_right(self, version: str, values: list[float]) -> bool:
        """Tell whether these are the values that this version gives."""
        return bool(np.allclose(values, self.expected(version), rtol=1e-5, atol=1e-5))


def affine(factor: Callable[[str], float] = lambda version: 2.0) -> Callable[[int], Question]:
    """Ask `affine` bundles, whose answer is values * factor + 1; the factor may be each version's own."""

    def question(number: int) -> Question:
        values = (float(number % _SPREAD), 1.0, -2.0)
        return Question(
            "affine", "values", values, lambda version: tuple(value * factor(version) + 1 for value in values)
        )

    return question


def order(code: int = 0, argument: float | None = None, *, model: str = "misbehaving") -> Callable[[int], Question]:
    """Ask the model that does as it is told; where it does no harm the argument is each question's own."""

    def question(number: int) -> Question:
        values = (float(code), number % _SPREAD if argument is None else argument)
        return Question(model, "order", values, lambda version: tuple(value + 1 for value in values))

    return question
