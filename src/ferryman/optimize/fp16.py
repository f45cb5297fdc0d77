"""Store and compute an ONNX model in half precision."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import StepError
from ferryman.core.step import StepContext
from ferryman.optimize._graph import layers_of, tail_of
from ferryman.optimize._onnx import Model, infer_shapes, load, name_nodes, reason_of, write

_LARGEST = 65504.0  # of a float16


@dataclass(frozen=True)
class HalfPrecision:
    """Turn weights and arithmetic of an ONNX model to float16; inputs and outputs stay float32.

    Layers whose weights don't fit float16 stay in float32, and so does the tail behind the last weighted layer unless
    `exclude_tail` is False: a float16 can't tell pixel 1000 from 1000.4.
    """

    name: ClassVar[str] = "fp16"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "fp16"
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = ""

    exclude_nodes: tuple[str, ...] = ()
    exclude_tail: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude_nodes", tuple(self.exclude_nodes))  # a list in TOML and JSON

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write model.onnx; raises StepError where there is nothing to convert or the converter fails."""
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

        model = infer_shapes(load(source.path))
        name_nodes(model)
        layers = layers_of(model)
        if not any(layer.is_weighted for layer in layers):
            raise StepError(
                "fp16: nothing to convert: the model has no convolutions or matrix products",
                hint="trees and linear ML operators compute in float32 only",
            )
        blocked = {*self.exclude_nodes, *_too_large(model), *(tail_of(layers) if self.exclude_tail else ())}
        try:
            half = convert_float_to_float16(
                model,
                keep_io_types=True,
                disable_shape_infer=True,
                op_block_list=sorted(DEFAULT_OP_BLOCK_LIST),
                node_block_list=sorted(blocked),
            )
        except Exception as error:  # noqa: BLE001 - the converter raises whatever its graph walk meets
            raise StepError(f"fp16: the converter failed: {reason_of(error)}") from error
        return write(half, source, context.workspace, step=self.name, precision=self.precision)


def _too_large(model: Model) -> set[str]:
    """Name the nodes with a constant that float16 would cut off."""
    import onnx

    large = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and np.abs(np.nan_to_num(onnx.numpy_helper.to_array(tensor))).max(initial=0.0) > _LARGEST
    }
    return {node.name for node in model.graph.node if large.intersection(node.input)}
