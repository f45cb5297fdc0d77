"""A model for a small honest V2 server, without HTTP or gRPC: rows of three, and the sum of each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME, VERSION = "sum", "1"
METADATA = {
    "name": NAME,
    "versions": [VERSION],
    "platform": "none",
    "inputs": [{"name": "rows", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "total", "datatype": "FP32", "shape": [-1, 1]}],
}


class Wrong(Exception):
    """Refuse a request."""


def need(is_so: bool, message: str) -> None:
    if not is_so:
        raise Wrong(message)


def answer(name: str, datatype: str, shape: list[int], values: NDArray[Any]) -> NDArray[np.float32]:
    need(name == "rows", f"no input is called {name}")
    need(datatype == "FP32", f"datatype {datatype} is not taken")
    need(len(shape) == 2 and shape[1] == 3 and shape[0] >= 0, f"shape {shape} is not taken")
    need(values.size == shape[0] * 3, f"{values.size} values for {shape}")
    total: NDArray[np.float32] = values.astype(np.float32).reshape(shape).sum(axis=1, keepdims=True)
    return total
