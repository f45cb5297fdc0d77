"""Triton: one model of its Python backend; which one is told by the folder that it lies in."""

import json
from typing import Any

import nets
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answer T, M or D."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model."""
        self._name = args["model_name"]
        self._net = nets.Detector() if self._name == "D" else nets.Plain(self._name)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton gathered; T's in one call of the engine."""
        if self._name == "D":
            return [self._answer(self._detect(request)) for request in requests]
        name = "rows" if self._name == "T" else "picture"
        given = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
        if self._name == "M":
            return [self._answer(pb_utils.Tensor("scores", self._net(values))) for values in given]
        ends = np.cumsum([len(values) for values in given])[:-1]
        parts = np.split(self._net(np.concatenate(given)), ends)
        return [self._answer(pb_utils.Tensor("scores", part)) for part in parts]

    def _detect(self, request: Any) -> Any:
        jpeg = pb_utils.get_input_tensor_by_name(request, "jpeg").as_numpy()[0]
        return pb_utils.Tensor("found", np.array([json.dumps(self._net(jpeg)).encode()], np.object_))

    def _answer(self, tensor: Any) -> Any:
        return pb_utils.InferenceResponse(output_tensors=[tensor])
