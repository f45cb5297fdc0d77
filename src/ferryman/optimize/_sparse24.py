"""Choose two of each four weights to leave out, as the sparse units of GPUs want it."""

from typing import Any

import numpy as np

from ferryman.core.signature import Array
from ferryman.optimize._onnx import Model

_AXIS = {"Conv": 1, "MatMul": 0, "Gemm": 0}  # of what is summed up; of Gemm with transB it is 1


def masks_of(model: Model) -> dict[str, Array]:
    """Give 1 for the two largest of each four weights that are summed up one after the other, else 0, by tensor."""
    import onnx

    arrays = {entry.name: entry for entry in model.graph.initializer}
    masks: dict[str, Array] = {}
    for node in model.graph.node:
        if node.op_type not in _AXIS or len(node.input) < 2 or node.input[1] not in arrays:
            continue
        turned = node.op_type == "Gemm" and any(entry.name == "transB" and entry.i for entry in node.attribute)
        weight = onnx.numpy_helper.to_array(arrays[node.input[1]])
        axis = 1 if turned else _AXIS[node.op_type]
        if weight.dtype == np.float32 and weight.ndim >= 2 and weight.shape[axis] % 4 == 0:
            masks[node.input[1]] = _largest_two(weight, axis)
    return masks


def _largest_two(weight: Any, axis: int) -> Array:  # an array
    by_four = np.moveaxis(np.abs(weight), axis, -1)
    groups = by_four.reshape(*by_four.shape[:-1], -1, 4)
    order = np.argsort(-groups, axis=-1, kind="stable")
    mask = np.zeros(groups.shape, np.float32)
    np.put_along_axis(mask, order[..., :2], 1.0, axis=-1)
    return np.ascontiguousarray(np.moveaxis(mask.reshape(by_four.shape), -1, axis))
