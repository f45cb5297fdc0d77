"""Tiny LiteRT files, written field by field: a convolution, in float or in whole numbers, and hostile ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.sources.litert import LiteRTSource

SIDE = 8
CHANNELS = 4
INPUT_SCALE, OUTPUT_SCALE = 1 / 127.5, 0.05

Model = Any  # schema_py_generated.ModelT


def open_litert(path: Path) -> Artifact:
    """Open a file as a user's is."""
    return LiteRTSource().open(path, ModelSection(name="model", source=str(path)), path.parent)


def make_convolution(
    path: Path, *, batch: int = 1, quantized: bool = False, change: Callable[[Model], None] | None = None
) -> Path:
    """Write images [batch, 8, 8, 3] -> scores [batch, 8, 8, 4]; a batch of -1 is free. `change` spoils the file."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = _model(schema, batch, quantized)
    if change is not None:
        change(model)
    path.write_bytes(_packed(model))
    return path


def expected(images: "np.typing.NDArray[Any]") -> "np.typing.NDArray[np.float32]":
    """Compute what the float convolution answers, in numpy."""
    kernel, bias = _weights()
    padded = np.pad(images.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = np.zeros((*images.shape[:3], CHANNELS), np.float32)
    for row in range(3):
        for column in range(3):
            window = padded[:, row : row + SIDE, column : column + SIDE]
            total += np.einsum("nhwc,oc->nhwo", window, kernel[:, row, column])
    return np.asarray(np.maximum(total + bias, 0), np.float32)


def _weights() -> "tuple[np.typing.NDArray[np.float32], np.typing.NDArray[np.float32]]":
    generator = np.random.default_rng(3)
    kernel = (generator.integers(-127, 128, (CHANNELS, 3, 3, 3)) / 254).astype(np.float32)
    return kernel, generator.normal(size=CHANNELS).astype(np.float32)


def _model(schema: Any, batch: int, quantized: bool) -> Model:  # the module
    kernel, bias = _weights()
    types = schema.TensorType
    if quantized:
        values = [np.rint(kernel * 254).astype(np.int8), np.rint(bias * 254 / INPUT_SCALE).astype(np.int32)]
        kinds = [types.INT8, types.INT8, types.INT32, types.INT8]
        scales: list[Any] = [(INPUT_SCALE, 0), (1 / 254, 0), (INPUT_SCALE / 254, 0), (OUTPUT_SCALE, -128)]
    else:
        values, kinds, scales = [kernel, bias], [types.FLOAT32] * 4, []
    shapes = [[batch, SIDE, SIDE, 3], list(kernel.shape), [CHANNELS], [batch, SIDE, SIDE, CHANNELS]]
    names = ["conv_input", "kernel", "bias", "conv_output"]
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor(schema, name, kind, shape, scale, buffer)
        for name, kind, shape, scale, buffer in zip(
            names, kinds, shapes, scales or [None] * 4, (0, 1, 2, 0), strict=True
        )
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [_convolution(schema)]
    model = schema.ModelT()
    model.version, model.description, model.subgraphs = 3, "a convolution", [graph]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 3 if quantized else 1
    model.operatorCodes = [code]
    model.buffers = [schema.BufferT(), *(_buffer(schema, value) for value in values)]
    model.signatureDefs = [_signature(schema)]
    return model


def _tensor(schema: Any, name: str, kind: int, shape: list[int], scale: Any, buffer: int) -> Any:  # schema's own
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.buffer = name, kind, buffer
    tensor.shape = [abs(size) for size in shape]
    if -1 in shape:
        tensor.shapeSignature = shape
    if scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale[0]], [scale[1]]
    return tensor


def _convolution(schema: Any) -> Any:  # schema's own
    operator, options = schema.OperatorT(), schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    options.padding = schema.Padding.SAME
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
    return operator


def _buffer(schema: Any, value: "np.typing.NDArray[Any]") -> Any:  # schema's own
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(value.tobytes(), np.uint8)
    return buffer


def _signature(schema: Any) -> Any:  # schema's own
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    for entries, name, index in (("inputs", "images", 0), ("outputs", "scores", 3)):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        setattr(signature, entries, [entry])
    return signature


def _packed(model: Model) -> bytes:
    import flatbuffers  # type: ignore[import-untyped]  # it has none

    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
