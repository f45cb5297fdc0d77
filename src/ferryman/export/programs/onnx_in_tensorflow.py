"""Compute an ONNX graph with TensorFlow's operators, one by one, each knowing which of its axes holds the channels.

Pictures stay channels-last from one operator to the next, as TensorFlow wants them; where one counts axes as ONNX
does, they are turned back. So no axis is ever guessed from its size. Runs in a Python of TensorFlow's own.
"""

from typing import Any

import tensorflow as tf
from onnx import numpy_helper
from tensorflow_operators import OPERATORS
from tensorflow_values import Node, Tensor, Unknown, Value, plain_of


class Graph:
    """Be a function of the inputs' tensors, in ONNX's order of axes."""

    def __init__(self, model: Any) -> None:
        self._model = model
        known = {"", "ai.onnx"}
        for proto in model.graph.node:
            if proto.op_type not in OPERATORS or proto.domain not in known:
                raise Unknown(f"{proto.op_type} ('{proto.name}')")

    def __call__(self, inputs: "list[Tensor]") -> "list[Tensor]":
        """Give the outputs; raises Unknown for what an operator here doesn't do."""
        graph = self._model.graph
        held: dict[str, Any] = {part.name: numpy_helper.to_array(part) for part in graph.initializer}
        ports = [port.name for port in graph.input if port.name not in held]
        held.update({name: Value(tensor) for name, tensor in zip(ports, inputs, strict=True)})
        for proto in graph.node:
            node = Node(proto)
            try:
                made = OPERATORS[node.kind](node, *(held[name] if name else None for name in proto.input))
            except (Unknown, TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
                raise Unknown(f"{node.kind} ('{node.name}'): {' '.join(str(error).split())[:200]}") from error
            held.update(zip(node.outputs, made if isinstance(made, list) else [made], strict=False))
        return [plain_of(held[port.name]) for port in graph.output]
