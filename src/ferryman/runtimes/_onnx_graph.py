"""Look inside an ONNX graph: list its float tensors, and run it with them as outputs."""

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.errors import FerrymanError, InputError, SourceError
from ferryman.core.privacy import forbid_telemetry
from ferryman.core.runtime import Stage
from ferryman.core.signature import Array, Tensors

_PRODUCTS = (b"QuantizeLinear", b"QLinear", b"MatMulInteger", b"ConvInteger")  # b"DequantizeLinear" holds none of them
_EXTERNAL_FROM_BYTES = 2**30  # protobuf's own limit is 2 GiB


def list_stages(path: Path) -> list[Stage]:
    """List the float tensors that the nodes of an ONNX file compute, in topological order."""
    import onnx

    model = onnx.shape_inference.infer_shapes(_load(path))
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
    types = {info.name: info.type.tensor_type.elem_type for info in (*model.graph.value_info, *model.graph.output)}
    constant = {tensor.name for tensor in model.graph.initializer}
    stages: list[Stage] = []
    known: set[str] = set()
    for node in model.graph.node:
        if all(name in constant for name in node.input if name):  # Constant nodes too: they have no input
            constant.update(node.output)
            continue
        feeds = tuple(dict.fromkeys(name for name in node.input if name in known))
        for name in node.output:
            if name and types.get(name, onnx.TensorProto.FLOAT) in floats:
                known.add(name)
                stages.append(Stage(tensor=name, node=node.name, op=node.op_type, feeds=feeds))
    return stages


def trace_stages(path: Path, inputs: Sequence[Tensors], tensors: Sequence[str]) -> Iterator[dict[str, Array]]:
    """Run an ONNX file with `tensors` as outputs, one input at a time."""
    forbid_telemetry()
    import onnx
    import onnxruntime

    model = _load(path)
    made = {name for node in model.graph.node for name in node.output if name}
    shown = {name: _dequantized(name, made) for name in dict.fromkeys(tensors) if _dequantized(name, made)}
    present = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(set(shown.values()) - present))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    ask_for_exact_products(options, path)
    with tempfile.TemporaryDirectory(prefix="ferryman-trace-") as folder:
        copy = Path(folder) / "model.onnx"
        onnx.save(model, copy, save_as_external_data=model.ByteSize() > _EXTERNAL_FROM_BYTES)
        del model
        try:
            engine = onnxruntime.InferenceSession(str(copy), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise FerrymanError(f"{path.name} can't be traced: {_line(error)}") from error
        for item in inputs:
            try:
                values = engine.run(list(shown.values()), dict(item)) if shown else []
            except Exception as error:
                raise InputError(f"{path.name} can't take an input of the trace: {_line(error)}") from error
            yield {name: np.asarray(value, dtype=np.float32) for name, value in zip(shown, values, strict=True)}


def ask_for_exact_products(options: Any, path: Path) -> bool:  # onnxruntime.SessionOptions
    """Have 8-bit products added exactly where a processor adds them in 16 bits (AVX2, AVX-512 without VNNI).

    There sums saturate, and answers of INT8 models are off by up to half; the kernels that this chooses are a tenth to
    a third slower. Elsewhere it changes nothing. Gives False for a model without such products, which stays as it is.
    """
    if has_products(path):
        options.add_session_config_entry("session.x64quantprecision", "1")
        return True
    return False


def has_products(path: Path) -> bool:
    """Tell whether a file names operators that multiply in 8 bits; reads it once, and parses nothing."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(name) >= 0 for name in _PRODUCTS)
    except (OSError, ValueError):  # empty, or none: the engine says so
        return False


def _dequantized(name: str, made: set[str]) -> str:
    """Give the tensor that holds `name` as the next layer reads it; "" where the graph has lost it."""
    after = f"{name}_DequantizeLinear_Output"
    return after if after in made else name if name in made else ""


def _load(path: Path) -> Any:  # onnx.ModelProto
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:
        raise SourceError(f"{path} can't be read as ONNX: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
