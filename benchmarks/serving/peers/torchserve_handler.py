"""TorchServe: one handler for T, M, Mjson and D; which one is told by the name of the model."""

from typing import Any

import nets
import numpy as np


class Handler:
    """Answer what TorchServe gathered."""

    def initialize(self, context: Any) -> None:
        """Load the model."""
        self._name = context.manifest["model"]["modelName"]
        self._net = nets.Detector() if self._name == "D" else nets.Plain(self._name[0])

    def handle(self, requests: list[Any], context: Any) -> list[Any]:
        """Answer each."""
        return [self._answer(request.get("body") or request.get("data")) for request in requests]

    def _answer(self, body: Any) -> Any:
        if self._name == "D":
            return self._net(bytes(body))
        if self._name == "M":
            return self._net(np.frombuffer(bytes(body), np.float32).reshape(1, 3, 224, 224)).tobytes()
        if self._name == "T":
            return {"scores": self._net(np.array(body["rows"], np.float32)).tolist()}
        values = np.array(body["values"], np.float32).reshape(1, 3, 224, 224)
        return {"scores": self._net(values).tolist()}
