"""Store and compute an ONNX model in half precision."""

from dataclasses import dataclass
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import NotApplicable
from ferryman.core.step import StepContext
from ferryman.optimize._graph import layers_of, tail_of
from ferryman.optimize._half import can_be_half, to_half
from ferryman.optimize._onnx import fold, infer_shapes, load, name_nodes, raise_opset, write

_OPSET_OF_HALF = 11  # before, some operators take no float16


@dataclass(frozen=True)
class HalfPrecision:
    """Turn weights and arithmetic of an ONNX model to float16; inputs and outputs stay float32.

    What would overflow stays in float32: constants beyond 65504, exponentials, sums, norms. So does the tail behind the
    last weighted layer unless `exclude_tail` is False: a float16 can't tell pixel 1000 from 1000.4.
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
        """Write model.onnx; raises StepError where no layer with weights can be float16."""
        model = infer_shapes(fold(raise_opset(load(source.path), _OPSET_OF_HALF, self.name)))
        name_nodes(model)
        layers = layers_of(model)
        kept = {*self.exclude_nodes, *(tail_of(layers) if self.exclude_tail else ())}
        chosen = can_be_half(model) - kept
        if not any(layer.is_weighted and layer.name in chosen for layer in layers):
            raise NotApplicable(
                "fp16: nothing to convert: no convolution or matrix product of the model can be float16",
                hint="trees and linear ML operators compute in float32 only",
            )
        to_half(model, chosen)
        return write(model, source, context.workspace, step=self.name, precision=self.precision)
