"""Quantize an ONNX model to INT8 with ranges from calibration data."""

from dataclasses import dataclass
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError, NotApplicable
from ferryman.core.step import StepContext
from ferryman.optimize._bias import add_biases, correct_biases
from ferryman.optimize._equalize import equalize
from ferryman.optimize._graph import layers_of
from ferryman.optimize._onnx import load, name_nodes, write
from ferryman.optimize._options import QdqOptions, check_samples, choose
from ferryman.optimize._qdq import limits_of, prepare, quantize


@dataclass(frozen=True)
class StaticInt8(QdqOptions):
    """Quantize weights and activations of an ONNX model to INT8 (QDQ form), with ranges from calibration data.

    `equalize` evens out channels first, across layers with nothing but ReLU, pooling or concatenation between them.
    `correct_bias` shifts biases until each channel has the float model's mean on calibration samples. `symmetric` gives
    INT8 as GPUs (TensorRT) take it: all signed, whatever `activation` says, zero points 0, biases in float.
    """

    name: ClassVar[str] = "int8"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "int8"
    calibrates: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = ""

    equalize: bool = False
    correct_bias: bool = False
    symmetric: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.symmetric and self.correct_bias:
            raise ConfigError(
                "symmetric leaves biases in float, and correct_bias shifts those of INT8", hint="take one"
            )

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write model.onnx; raises DataError for too few samples, StepError where nothing can be quantized."""
        original = load(source.path)
        name_nodes(original)
        model = prepare(original)
        chosen = choose(layers_of(model), self, {node.name for node in original.graph.node}, self.name)
        check_samples(context.calibration, self.min_samples, source.signature, self.name)
        if self.equalize and not equalize(model, context, per_channel=self.per_channel):
            raise NotApplicable(
                f"{self.name}: equalize finds no two layers with only ReLU, pooling or concatenation between them",
                hint="SiLU, GELU and other curves don't bear a scale: try another calibrator, or correct_bias",
            )
        if self.correct_bias:
            add_biases(model, chosen)
        limits = limits_of(model, self, context)
        context.progress("quantize", note=f"{len(chosen)} of {sum(bool(one.kind) for one in layers_of(model))} layers")
        quantized = quantize(model, chosen, limits, self, symmetric=self.symmetric)
        if self.correct_bias:
            correct_biases(model, quantized, chosen, context)
        return write(quantized, source, context.workspace, step=self.name, precision=self.precision)
