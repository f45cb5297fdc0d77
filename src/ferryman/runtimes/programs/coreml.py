"""Answer with a Core ML package: through Apple's runtime on macOS, elsewhere by evaluating the saved program in torch.

The evaluation reads what the package holds, weights and graph, and not what the converter meant to write. It computes
in float32, and rounds to float16 wherever the program does, so that what overflows on a phone overflows here.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import torch
from coremltools.converters.mil.mil.types import builtin_to_string

sys.path.append(str(Path(__file__).parent))  # the launcher imports this file by its path

from mil_operations import OPERATIONS

Value = Any  # torch.Tensor, or what a constant holds: numpy values, text
Call = Any  # a function of one operation's inputs


class Model:
    """Hold a package; `path` is its folder, `threads` the cores that one answer may use."""

    def __init__(self, request: dict[str, Any], tell: Any) -> None:
        torch.set_num_threads(max(int(request["threads"]), 1))
        self._names = [request["inputs"], request["outputs"]]
        self._dtypes = dict(zip(request["outputs"], request["output_dtypes"], strict=True))
        self._folder = tempfile.TemporaryDirectory(prefix="ferryman-coreml-")  # opening a package writes into it
        path = shutil.copytree(request["path"], os.path.join(self._folder.name, "model.mlpackage"))
        self._answer = _on_apple(path) if sys.platform == "darwin" else _elsewhere(path)

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Give the outputs by the signature's names, in its order."""
        outputs = self._answer([inputs[name] for name in self._names[0]])
        return {
            name: np.asarray(value).astype(self._dtypes[name])
            for name, value in zip(self._names[1], outputs, strict=True)
        }


def _on_apple(path: str) -> Call:
    model = coremltools.models.MLModel(path)
    description = model.get_spec().description
    takes, gives = [port.name for port in description.input], [port.name for port in description.output]

    def answer(values: list[Any]) -> list[Any]:
        fitting = [value.astype(np.int32) if value.dtype == np.int64 else value for value in values]
        found = model.predict(dict(zip(takes, fitting, strict=True)))
        return [found[name] for name in gives]

    return answer


def _elsewhere(path: str) -> Call:
    from coremltools.converters.mil.frontend.milproto.load import load

    saved = coremltools.models.MLModel(path, skip_model_load=True)
    spec = saved.get_spec()
    program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=saved.weights_dir)
    function = program.functions["main"]
    operations = list(function.operations)
    for operation in operations:
        if operation.op_type not in OPERATIONS and operation.op_type != "const":
            raise Refused(
                f"this package can't be verified here: there is no evaluation of the operation '{operation.op_type}' "
                f"('{operation.name}')",
                hint="verify it on macOS, where Apple's own runtime answers",
            )
    gives = [port.name for port in spec.description.output]

    def answer(values: list[Any]) -> list[Any]:
        held = {
            name: _rounded(torch.from_numpy(np.array(value)), variable)
            for (name, variable), value in zip(function.inputs.items(), values, strict=True)
        }
        with torch.inference_mode():
            for operation in operations:
                if operation.op_type != "const":
                    _evaluate(operation, held)
        return [held[name].numpy() for name in gives]

    return answer


def _evaluate(operation: Any, held: dict[str, Value]) -> None:
    given = {name: _value(variable, held) for name, variable in operation.inputs.items() if variable is not None}
    try:
        found = OPERATIONS[operation.op_type](**given)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise Refused(
            f"this package can't be verified here: '{operation.op_type}' ('{operation.name}') is refused: {error}",
            hint="verify it on macOS, where Apple's own runtime answers",
        ) from error
    several = found if isinstance(found, tuple | list) else (found,)
    for variable, value in zip(operation.outputs, several, strict=True):
        held[variable.name] = _rounded(torch.as_tensor(value), variable)


def _value(variable: Any, held: dict[str, Value]) -> Value:
    if isinstance(variable, list | tuple):
        return [_value(part, held) for part in variable]
    return held.get(variable.name, variable.val)


def _rounded(value: Value, variable: Any) -> Value:
    """Give what the program would hold: 16 bits where it says so, kept as float32 to compute with."""
    if not value.dtype.is_floating_point:
        return value
    is_half = builtin_to_string(variable.dtype) == "fp16"
    return value.half().float() if is_half else value.float()
