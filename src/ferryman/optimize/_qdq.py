"""Put a model's layers into INT8 as ONNX has it: pairs of QuantizeLinear and DequantizeLinear around them (QDQ)."""

from collections.abc import Sequence

import numpy as np

from ferryman.core.errors import StepError
from ferryman.core.privacy import forbid_telemetry
from ferryman.core.step import StepContext
from ferryman.optimize._graph import QUANTIZABLE, Layer, layers_of
from ferryman.optimize._onnx import Model, fold, infer_shapes, name_nodes, raise_opset, reason_of
from ferryman.optimize._options import QdqOptions
from ferryman.optimize._ranges import measure
from ferryman.optimize._silu import FLAT_BELOW, before_silu

Limits = dict[str, tuple[float, float]]
"""The range that the 8 bits of each tensor cover."""

_OPSET_OF_PER_CHANNEL = 13


def prepare(model: Model) -> Model:
    """Give the model with folded constants and batch normalization, shapes, and an opset with scales by channel."""
    raised = raise_opset(model, _OPSET_OF_PER_CHANNEL, "int8")
    folded = infer_shapes(fold(raised))
    name_nodes(folded)
    return folded


def limits_of(model: Model, options: QdqOptions, context: StepContext) -> Limits:
    """Give the range that the 8 bits of each tensor cover, found on the calibration samples."""
    every = [layer for layer in layers_of(model) if layer.kind]
    ranges = measure(model, _floats_of(model, every), context, with_histogram=options.calibrator != "minmax")
    limits = ranges.limits(options.calibrator, options.percentile)
    for name in before_silu(model) if options.calibrator == "mse" else ():  # with others it was measured to cost
        if name in limits:
            limits[name] = (max(limits[name][0], FLAT_BELOW), limits[name][1])
    return limits


def _floats_of(model: Model, layers: Sequence[Layer]) -> list[str]:
    """List the float tensors that go into or come out of `layers`, in graph order."""
    import onnx

    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    names = dict.fromkeys(name for layer in layers for name in (*layer.inputs, *layer.outputs) if name)
    return [name for name in names if types.get(name) in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)]


def quantize(
    model: Model, chosen: Sequence[Layer], limits: Limits, options: QdqOptions, *, symmetric: bool = False
) -> Model:
    """Give the model with the chosen layers in INT8; raises StepError for the quantizer's own errors.

    Where `symmetric`, activations are signed whatever `options` say, every zero point is 0, and biases stay in float.
    """
    forbid_telemetry()
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
            QuantType.QUInt8 if options.activation == "uint8" and not symmetric else QuantType.QInt8,
            TensorsData(CalibrationMethod.MinMax, stored),
            [layer.name for layer in chosen],
            [],
            sorted(QUANTIZABLE),
            {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False} if symmetric else {},
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
