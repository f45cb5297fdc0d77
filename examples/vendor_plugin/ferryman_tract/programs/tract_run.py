"""Answer with a compiled model. Runs in the toolchain's own Python."""

from typing import Any

import numpy as np
import tract


class Model:
    """Hold a compiled model; the launcher makes it at "load" and calls `infer` for each answer."""

    def __init__(self, request: dict[str, Any], tell: Any) -> None:
        model = tract.nnef().with_onnx().with_tract_extra().load(request["path"])
        self._names = (request["inputs"], request["outputs"])
        self._runnable = model.into_runnable()

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Give the outputs by the signature's names, in its order."""
        found = self._runnable.run([np.ascontiguousarray(inputs[name]) for name in self._names[0]])
        return {name: value.to_numpy() for name, value in zip(self._names[1], found, strict=True)}
