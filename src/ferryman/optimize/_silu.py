"""Know what SiLU leaves of its input: nothing of what is far below zero, so that 8 bits needn't cover it."""

from collections.abc import Iterator

from ferryman.optimize._onnx import Model, Node

FLAT_BELOW = -8.0
"""SiLU of anything less lies between -0.003 and 0."""


def before_silu(model: Model) -> Iterator[str]:
    """Yield the tensors that go into x * sigmoid(x) and nowhere else."""
    readers: dict[str, list[Node]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "Sigmoid" and node.input[0] not in outputs:
            tensor, gate = node.input[0], node.output[0]
            others = [reader for reader in readers[tensor] if reader is not node]
            if len(others) == 1 and others[0].op_type == "Mul" and set(others[0].input) == {tensor, gate}:
                yield tensor
