"""KServe's Python server with three models, over V2."""

import base64
import json
import os
from typing import Any

import kserve
import nets
import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, ModelServer


class Plain(kserve.Model):
    """Answer one tensor with one tensor."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._net = nets.Plain(name)
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """Answer."""
        scores = self._net(payload.inputs[0].as_numpy().astype(np.float32, copy=False))
        output = InferOutput(name="scores", shape=list(scores.shape), datatype="FP32")
        output.set_data_from_numpy(scores, binary_data=not payload.from_grpc and self.name == "M")
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=[output])


class Detector(kserve.Model):
    """Answer a JPEG with boxes."""

    def __init__(self) -> None:
        super().__init__("D")
        self._net = nets.Detector()
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """Answer."""
        found = json.dumps(self._net(base64.b64decode(payload.inputs[0].data[0])))
        output = InferOutput(name="found", shape=[1], datatype="BYTES")
        output.set_data_from_numpy(np.array([found.encode()], np.object_), binary_data=True)
        return InferResponse(response_id=payload.id or "", model_name="D", infer_outputs=[output])


if __name__ == "__main__":
    ports = {"http_port": int(os.environ["BENCH_PORT"]), "grpc_port": int(os.environ["BENCH_GRPC_PORT"])}
    ModelServer(**ports, workers=1, enable_docs_url=False, access_log_format=None).start(
        [Plain("T"), Plain("M"), Detector()]
    )
