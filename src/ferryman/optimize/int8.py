"""Quantize an ONNX model to INT8 with ranges from calibration data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import StepError
from ferryman.core.step import StepContext
from ferryman.optimize._graph import QUANTIZABLE, Layer, layers_of
from ferryman.optimize._onnx import Model, fold, infer_shapes, load, name_nodes, raise_opset, reason_of, write
from ferryman.optimize._options import StaticOptions, check_choice, check_samples, choose
from ferryman.optimize._ranges import measure

_OPSET_OF_PER_CHANNEL = 13


@dataclass(frozen=True)
class StaticInt8(StaticOptions):
    """Quantize weights and activations of an ONNX model to INT8 (QDQ form), with ranges from calibration data."""

    name: ClassVar[str] = "int8"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "int8"
    calibrates: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    extra: ClassVar[str] = ""

    activation: str = "uint8"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("activation", self.activation, ("uint8", "int8"))

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write model.onnx; raises DataError for too few samples, StepError where nothing can be quantized."""
        original = load(source.path)
        name_nodes(original)
        model = prepare(original)
        chosen = choose(layers_of(model), self, {node.name for node in original.graph.node}, self.name)
        check_samples(context.calibration, self.min_samples, source.signature)
        every = [layer for layer in layers_of(model) if layer.kind]
        ranges = measure(
            model, _floats_of(model, every), context, with_histogram=self.calibrator in ("entropy", "percentile")
        )
        limits = ranges.limits(self.calibrator, self.percentile)
        context.progress("quantize", note=f"{len(chosen)} of {len(every)} layers")
        quantized = _quantize(model, chosen, limits, self)
        return write(quantized, source, context.workspace, step=self.name, precision=self.precision)


def prepare(model: Model) -> Model:
    """Give the model with folded constants and batch normalization, shapes, and an opset with scales by channel."""
    raised = raise_opset(model, _OPSET_OF_PER_CHANNEL, "int8")
    folded = infer_shapes(fold(raised))
    name_nodes(folded)
    return folded


def _floats_of(model: Model, layers: Sequence[Layer]) -> list[str]:
    """List the float tensors that go into or come out of `layers`, in graph order."""
    import onnx

    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    names = dict.fromkeys(name for layer in layers for name in (*layer.inputs, *layer.outputs) if name)
    return [name for name in names if types.get(name) in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)]


def _quantize(
    model: Model, chosen: Sequence[Layer], limits: dict[str, tuple[float, float]], options: StaticInt8
) -> Model:
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType

    stored = {
        name: TensorData(lowest=np.array(low, dtype=np.float32), highest=np.array(high, dtype=np.float32))
        for name, (low, high) in limits.items()
    }
    try:
        quantizer = QDQQuantizer(
            model,
            options.per_channel,
            False,  # reduce_range: 7-bit weights, for processors without VNNI
            QuantType.QInt8,
            QuantType.QUInt8 if options.activation == "uint8" else QuantType.QInt8,
            TensorsData(CalibrationMethod.MinMax, stored),
            [layer.name for layer in chosen],
            [],
            sorted(QUANTIZABLE),
            {},
        )
        quantizer.quantize_model()
    except Exception as error:
        raise StepError(
            f"int8: ONNX Runtime's quantizer failed: {reason_of(error)}",
            hint="keep the layer that it names in float: exclude_nodes",
        ) from error
    quantized = quantizer.model.model
    del quantized.metadata_props[:]
    return quantized
