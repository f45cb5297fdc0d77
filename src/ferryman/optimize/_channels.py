"""Reduce tensors to one number a channel over calibration samples, within the engine itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferryman.core.step import StepContext
from ferryman.optimize._onnx import Model, open_engine, serialize

SAMPLES = 16
"""Calibration samples that are enough for a mean or a largest value of a channel."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Name a tensor, its axis of channels and its number of dimensions."""

    tensor: str
    axis: int
    rank: int
    is_rectified: bool = False
    """Whether only what is over zero counts, as behind a ReLU."""


def reduce_channels(
    model: Model, wanted: Sequence[Wanted], context: StepContext, *, by: str
) -> dict[str, NDArray[np.float64]]:
    """Give each tensor's "mean", share over zero ("active") or largest magnitude ("peak"), by channel, [channels]."""
    import onnx

    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    del augmented.graph.output[:]
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for index, one in enumerate(wanted):
        axes = [axis for axis in range(one.rank) if axis != one.axis % one.rank]
        source = _shape_values(augmented, one, f"ferryman_part_{index}", by=by)
        _reduce(augmented, source, axes, f"ferryman_channels_{index}", by=by, opset=opset)
    found: dict[str, NDArray[np.float64]] = {}
    step = max(1, len(context.calibration) // SAMPLES)
    picked = range(0, len(context.calibration), step)[:SAMPLES]
    engine = open_engine(serialize(augmented, "int8"), context.threads)
    for index in picked:
        answers = engine.run(None, dict(context.calibration[index]))
        for one, value in zip(wanted, answers, strict=True):
            values = np.asarray(value, np.float64)
            before = found.get(one.tensor)
            if before is None:
                found[one.tensor] = values
            else:
                found[one.tensor] = before + values if by != "peak" else np.maximum(before, values)
    return {name: values / len(picked) if by != "peak" else values for name, values in found.items()}


def _shape_values(model: Model, one: Wanted, prefix: str, *, by: str) -> str:
    """Append what has to be done to each value first, and name the result."""
    import onnx

    ops = {"peak": ["Abs"], "active": ["Sign", "Relu"], "mean": ["Relu"] if one.is_rectified else []}[by]
    source = one.tensor
    for op in ops:
        made = f"{prefix}_{op}"
        model.graph.node.append(onnx.helper.make_node(op, [source], [made], name=made))
        source = made
    return source


def _reduce(model: Model, tensor: str, axes: Sequence[int], output: str, *, by: str, opset: int) -> None:
    """Append the nodes that reduce `tensor` over `axes`, and the output that shows the result."""
    import onnx

    op = "ReduceMax" if by == "peak" else "ReduceMean"
    if opset >= 18:  # from here on axes are an input
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(axes, np.int64), f"{output}_axes"))
        node = onnx.helper.make_node(op, [tensor, f"{output}_axes"], [output], name=output, keepdims=0)
    else:
        node = onnx.helper.make_node(op, [tensor], [output], name=output, keepdims=0, axes=list(axes))
    model.graph.node.append(node)
    model.graph.output.append(onnx.ValueInfoProto(name=output))
