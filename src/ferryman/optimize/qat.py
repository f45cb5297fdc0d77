"""Quantize an ONNX model to INT8 and let it learn, from the model itself, to answer right with the rounded numbers."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError
from ferryman.core.step import StepContext
from ferryman.optimize._atoms import Node, attributes_of
from ferryman.optimize._graph import Layer, layers_of
from ferryman.optimize._onnx import Model, load, name_nodes, write
from ferryman.optimize._options import QdqOptions, check_not_negative, check_samples, choose
from ferryman.optimize._qdq import Limits, limits_of, prepare, quantize
from ferryman.optimize._recovery import describe, learning, put_weights, settings_of

_CHANNELS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}


@dataclass(frozen=True)
class TrainedInt8(QdqOptions):
    """Quantize to INT8 as the step int8 does, with weights that were fine-tuned for it (quantization-aware training).

    Rounding is imitated in the forward pass and let through in the backward pass (Jacob et al. 2018, with the
    straight-through estimator of Bengio et al. 2013). What it learns from is the float model's own answers on the
    calibration samples, so that no labels are needed. Ranges stay those of the calibration. It ends after `steps`, or
    after `minutes` if they are over sooner: only then another run gives other weights.
    """

    name: ClassVar[str] = "int8-qat"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "int8-qat"
    calibrates: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "torch"
    on_request: ClassVar[bool] = True
    cost_s: ClassVar[float] = 300.0

    exclude_tail: bool = True
    steps: int = 300
    minutes: float = 5.0
    batch: int = 8
    rate: float = 0.0001
    noise: float = 0.1
    samples: int = 0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("steps", "batch", "minutes", "rate"):
            if getattr(self, option) <= 0:
                raise ConfigError(f"{option} = {getattr(self, option)}", hint="it must be over 0")
        check_not_negative(self, "samples", "noise")

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write model.onnx; raises DataError for too few samples, StepError where nothing can be trained."""
        original = load(source.path)
        name_nodes(original)
        model = prepare(original)
        chosen = choose(layers_of(model), self, {node.name for node in original.graph.node}, self.name)
        check_samples(context.calibration, self.min_samples, source.signature, self.name)
        limits = limits_of(model, self, context)
        rounding = _rounding(model, chosen, limits, self)
        with learning(self, source, context) as (worker, files):
            asked = {**describe(model, model, None), **settings_of(self, source.signature, context)}
            recovered = worker.ask("recover", files=files, masks={}, rounding=rounding, **asked)
        put_weights(model, recovered["weights"])
        context.progress("trained", note=f"{recovered['steps']} steps, loss {recovered['losses'][-1]:.4f}")
        quantized = quantize(model, chosen, limits, self)
        return write(quantized, source, context.workspace, step=self.name, precision=self.precision)


def _rounding(model: Model, chosen: list[Layer], limits: Limits, options: TrainedInt8) -> dict[str, Any]:  # JSON
    """Say which tensors are rounded: activations to 256 steps of their range, weights to 255 by their largest."""
    weights = {entry.name for entry in model.graph.initializer}
    operators = {node.name: node for node in model.graph.node}
    learned: dict[str, int | None] = {}
    for layer in chosen:
        node = operators[layer.name]
        for name in node.input[:2] if layer.is_weighted else ():
            if name in weights:
                learned[name] = _channels(node) if options.per_channel else None
    tensors = {name for layer in chosen for name in (*layer.inputs, *layer.outputs) if name in limits}
    return {
        "weights": learned,
        "ranges": {name: [float(np.float32(side)) for side in limits[name]] for name in sorted(tensors)},
        "is_signed": options.activation == "int8",
    }


def _channels(node: Node) -> int:
    """Give the axis of a layer's weights along which their scales differ."""
    if node.op_type == "Gemm":
        return 0 if attributes_of(node).get("transB") else 1
    return _CHANNELS[node.op_type]
