"""The other side of the LiteRT source: opens one file in a process of its own, calls it once and reports as JSON."""

import json
import resource
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import FerrymanError
from ferryman.core.limits import Limits
from ferryman.core.plugins import find
from ferryman.core.signature import Signature

_OPERATORS = {"SOFTMAX": "Softmax", "LOGISTIC": "Sigmoid"}


def probe(path: Path) -> dict[str, Any]:  # JSON
    """Load a file with the runtime, answer zeros, and tell what it is."""
    artifact = Artifact(path, "litert", Signature(inputs=(), outputs=()), digest="")
    runtime = find("runtimes", "litert").require()()
    with closing(runtime.load(artifact, threads=1)) as session:
        shapes = {
            spec.name: [size if isinstance(size, int) else 1 for size in spec.shape]
            for spec in session.signature.inputs
        }
        session.infer({spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in session.signature.inputs})
    last = {stage.tensor: stage.op for stage in runtime.stages(artifact)}
    return {
        "signature": session.signature.model_dump(mode="json"),
        "scaling": session.scaling,
        "precision": runtime.precision(artifact),
        "last_operators": {
            spec.name: _OPERATORS[last[spec.name]]
            for spec in session.signature.outputs
            if last.get(spec.name) in _OPERATORS
        },
    }


def _limit_memory() -> None:
    """Have a file that asks for endless memory refused, and not this machine's other processes killed."""
    most = Limits().memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _limit_memory()
    try:
        report = probe(Path(sys.argv[1]))
    except FerrymanError as error:
        report = {"error": str(error), "hint": error.hint}
    sys.stdout.write(json.dumps(report) + "\n")
