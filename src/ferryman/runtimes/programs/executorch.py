"""Answer with an ExecuTorch program, in ExecuTorch's own runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.runtime import Runtime, Verification


class Model:
    """Hold a program; its method is `forward`."""

    def __init__(self, request: dict[str, Any], tell: Any) -> None:
        path = Path(request["path"])
        if path.read_bytes()[4:6] != b"ET":
            raise Refused(f"{path.name} is no ExecuTorch program", hint="export it again")
        self._names = (request["inputs"], request["outputs"])
        self._program = Runtime.get().load_program(path, verification=Verification.InternalConsistency)
        self._method = self._program.load_method("forward")
        if self._method is None:
            raise Refused(f"{path.name} has no method 'forward'", hint="export it again")

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Give the outputs by the signature's names, in its order."""
        found = self._method.execute([torch.from_numpy(np.array(inputs[name])) for name in self._names[0]])
        # The next call writes into the same memory.
        return {name: value.numpy().copy() for name, value in zip(self._names[1], found, strict=True)}
