"""Requests of real clients: tritonclient's, and grpcio's with the messages of this package."""

from typing import Any

import numpy as np
import tritonclient.grpc as triton

from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse

ROWS = np.arange(60, dtype=np.float32).reshape(2, 30)


def asked(rows: Any = ROWS, name: str = "x", datatype: str = "FP32") -> list[Any]:  # tritonclient has no types
    tensor = triton.InferInput(name, list(rows.shape), datatype)
    tensor.set_data_from_numpy(rows)
    return [tensor]


def infer(channel: Any) -> Any:  # a callable of grpcio
    return channel.unary_unary(f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString)


def request(rows: Any = ROWS, model: str = "double", **more: Any) -> Any:
    built = InferRequest(model_name=model, raw_input_contents=[rows.tobytes()], **more)
    built.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    return built
