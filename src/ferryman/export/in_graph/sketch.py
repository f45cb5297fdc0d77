"""Write ONNX graphs operator by operator."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Model = Any  # onnx.ModelProto: onnx isn't imported at module level
Shape = Sequence[int | str]
Port = tuple[str, str, Shape]
"""A tensor's name, numpy dtype and shape."""

OPSET = 13
"""The first in which the operators used here have the form that they have to this day (but for `reduce`)."""


class Sketch:
    """Gather operators and constants under a prefix of their own; tensors are known by their names."""

    def __init__(self, prefix: str, opset: int) -> None:
        self._prefix = prefix
        self._opset = opset
        self._nodes: list[Any] = []  # onnx.NodeProto
        self._constants: list[Any] = []  # onnx.TensorProto
        self._count = 0

    def constant(self, value: Any, dtype: str) -> str:  # what numpy makes an array of
        """Add a constant."""
        from onnx import numpy_helper

        name = self._next("constant")
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:  # what the operator takes
        """Add an operator of one output."""
        return self.several(op, *inputs, count=1, **attributes)[0]

    def several(self, op: str, *inputs: str, count: int, **attributes: Any) -> list[str]:  # what the operator takes
        """Add an operator of several outputs."""
        from onnx import helper

        outputs = [self._next(op) for _ in range(count)]
        self._nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def cast(self, tensor: str, dtype: str) -> str:
        """Convert a tensor to a numpy dtype."""
        return self("Cast", tensor, to=element_type(dtype))

    def reduce(self, op: str, tensor: str, axis: int, *, keepdims: int = 0) -> str:
        """Add ReduceMax or ReduceMin over one axis."""
        if self._opset < 18:
            return self(op, tensor, axes=[axis], keepdims=keepdims)
        return self(op, tensor, self.constant([axis], "int64"), keepdims=keepdims)

    def name(self, tensor: str, wanted: str) -> None:
        """Give a tensor a name that is not under the prefix."""
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [tensor], [wanted], name=f"{self._prefix}{wanted}"))

    def model(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> Model:
        """Make a whole model of all that was added."""
        from onnx import helper

        def ports(described: Sequence[Port]) -> list[Any]:  # onnx.ValueInfoProto
            return [
                helper.make_tensor_value_info(name, element_type(dtype), list(shape))
                for name, dtype, shape in described
            ]

        graph = helper.make_graph(self._nodes, "ferryman", ports(inputs), ports(outputs), self._constants)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self._opset)], ir_version=8, producer_name="ferryman"
        )

    def _next(self, op: str) -> str:
        self._count += 1
        return f"{self._prefix}{op}_{self._count}"


def element_type(dtype: str) -> int:
    """Give ONNX's number of a numpy dtype."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
