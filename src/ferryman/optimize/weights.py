"""Make an ONNX model smaller by its weights alone: no calibration data, and arithmetic as it was."""

from dataclasses import dataclass
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import NotApplicable
from ferryman.core.step import StepContext
from ferryman.optimize._graph import last_weighted, layers_of
from ferryman.optimize._onnx import fold, infer_shapes, load, name_nodes, raise_opset, write
from ferryman.optimize._weights import compress_weights

_OPSET = {8: 13, 4: 21}
_IR_VERSION_OF_4_BITS = 10


@dataclass(frozen=True)
class Weights8:
    """Store the weights of an ONNX model in 8 bits, a scale for each channel; activations stay in float.

    A quarter of the size without calibration data. Not faster: weights become floats again as the model runs.
    """

    name: ClassVar[str] = "w8"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "w8"
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = ""
    bits: ClassVar[int] = 8
    on_request: ClassVar[bool] = True

    exclude_nodes: tuple[str, ...] = ()
    exclude_head: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclude_nodes", tuple(self.exclude_nodes))  # a list in TOML and JSON

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write model.onnx; raises NotApplicable where no layer has weights enough to pay for it."""
        model = infer_shapes(fold(raise_opset(load(source.path), _OPSET[self.bits], self.name)))
        name_nodes(model)
        if self.bits == 4:
            model.ir_version = max(model.ir_version, _IR_VERSION_OF_4_BITS)
        layers = layers_of(model)
        kept = {*self.exclude_nodes, *(last_weighted(layers) if self.exclude_head else ())}
        chosen = [layer for layer in layers if layer.is_weighted and layer.name not in kept]
        stored = compress_weights(model, chosen, bits=self.bits)
        if self.bits not in stored.values():
            raise NotApplicable(
                f"{self.name}: nothing to store in {self.bits} bits: no layer has weights enough",
                hint="trees, linear ML operators and tiny models have nothing to gain",
            )
        context.progress("store weights", note=f"{len(stored)} layers")
        return write(model, source, context.workspace, step=self.name, precision=self.precision)


@dataclass(frozen=True)
class Weights4(Weights8):
    """Store the weights of an ONNX model in 4 bits, a scale for each block of 32; activations stay in float.

    An eighth to a sixth of the size. Layers that sum up fewer than 16 products (depthwise convolutions) take 8 bits.
    """

    name: ClassVar[str] = "w4"
    precision: ClassVar[str | None] = "w4"
    bits: ClassVar[int] = 4
