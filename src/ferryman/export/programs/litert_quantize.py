"""Quantize a LiteRT file. Runs in the toolchain "litert"; imports nothing of Ferryman."""

import os
import re
from typing import Any

import numpy as np
from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.utils import qsv_utils, tfl_flatbuffer_utils

_ALL = qtyping.TFLOperationName.ALL_SUPPORTED
_WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "FULLY_CONNECTED", "BATCH_MATMUL"}
_CODES = {code: name for name, code in vars(qtyping.BuiltinOperator).items() if isinstance(code, int)}
_UPDATES = {"average": qsv_utils.moving_average_update, "minmax": qsv_utils.min_max_update}
_state: "dict[str, Any]" = {}


def begin(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Read a float file and choose what to quantize; gives the numbers of operators: all, with weights, and chosen."""
    path, options = request["source"], request["options"]
    model = tfl_flatbuffer_utils.read_model(path)
    if len(model.subgraphs) != 1:
        raise Refused(
            f"the file has {len(model.subgraphs)} graphs (control flow), and only plain ones can be quantized",
            hint="export the model without branches and loops that depend on the data",
        )
    operators = _operators(model)
    kept = _kept_in_float(operators, options)
    weighted = [operator for operator in operators if operator["is_weighted"]]
    chosen = [operator for operator in weighted if operator["scope"] not in kept]
    _state.update(path=path, recipe=_recipe(request["kind"], kept, options), seen=0)
    if request["kind"] == "int8":
        _state["calibrator"] = calibrator.Calibrator(
            path, num_threads=request["threads"], qsv_update_func=_UPDATES[options["calibrator"]]
        )
    return {
        "operators": len(operators),
        "weighted": len(weighted),
        "chosen": len(chosen),
        "is_quantized": any(operator["is_quantized"] for operator in operators),
    }


def calibrate(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Take some more samples into the ranges."""
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(_state["recipe"])
    found = _state["calibrator"]
    key = next(iter(found.get_signature_list()), None)
    found.calibrate({key: request["samples"]}, manager)
    _state["seen"] += len(request["samples"])
    return {"seen": _state["seen"]}


def quantize(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write `target`."""
    tool = quantizer.Quantizer(_state["path"], _state["recipe"])
    ranges = _state["calibrator"].get_model_qsvs() if "calibrator" in _state else None
    try:
        made = tool.quantize(ranges).quantized_model
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise Refused(
            f"the quantizer failed: {type(error).__name__}: {words}",
            hint="keep what it names in float: exclude_ops or exclude_nodes",
        ) from error
    with open(request["target"], "wb") as stream:
        stream.write(made)
        stream.flush()
        os.fsync(stream.fileno())
    return {"size_bytes": len(made)}


def _operators(model: Any) -> "list[dict[str, Any]]":
    """Describe the operators of a file in topological order."""
    graph = model.subgraphs[0]
    constant = {index for index, tensor in enumerate(graph.tensors) if model.buffers[tensor.buffer].data is not None}
    whole = {qtyping.TensorType.INT8, qtyping.TensorType.UINT8, qtyping.TensorType.INT16}
    found = []
    for operator in graph.operators:
        entry = model.operatorCodes[operator.opcodeIndex]
        name = _CODES.get(max(entry.builtinCode, entry.deprecatedBuiltinCode), "CUSTOM")
        inputs = [int(index) for index in operator.inputs if index >= 0]
        weights = [index for index in inputs[:2] if index in constant]
        tensors = [graph.tensors[index] for index in (*inputs, *map(int, operator.outputs))]
        found.append(
            {
                "op": name,
                "scope": tfl_flatbuffer_utils.get_op_scope(operator, graph.tensors),
                "inputs": [index for index in inputs if index not in constant],
                "outputs": [int(index) for index in operator.outputs],
                "is_weighted": name in _WEIGHTED and bool(weights) and not _is_projection(model, graph, weights),
                "is_quantized": any(
                    tensor.type in whole and tensor.quantization is not None and tensor.quantization.scale is not None
                    for tensor in tensors
                ),
            }
        )
    return found


def _is_projection(model: Any, graph: Any, weights: "list[int]") -> bool:
    """Tell whether a "weight" is 0, 1, 2 ...: the mean over a distribution of distances that some decoders compute."""
    tensor = graph.tensors[weights[0]]
    if not 4 <= int(np.prod(tensor.shape)) <= 256 or tensor.type != qtyping.TensorType.FLOAT32:
        return False
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)
    return bool(np.array_equal(values, np.arange(values.size)))


def _kept_in_float(operators: "list[dict[str, Any]]", options: "dict[str, Any]") -> "set[str]":
    """Name the operators that the options keep in float."""
    kept = {operator["scope"] for operator in operators if operator["op"] in options["exclude_ops"]}
    for name in options["exclude_nodes"]:
        named = {operator["scope"] for operator in operators if name in operator["scope"]}
        if not named:
            raise Refused(
                f"exclude_nodes: no tensor's name has '{name}' in it", hint="names are those of the .tflite file"
            )
        kept |= named
    if options["exclude_tail"] or options["exclude_head"]:
        last = _last(operators)
        kept |= {operator["scope"] for operator in last if options["exclude_head"] or not operator["is_weighted"]}
    return kept


def _last(operators: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """List the operators with no weighted one behind them: decoding, and the last layer of each branch."""
    before_weights: set[int] = set()
    found = []
    for operator in reversed(operators):
        reaches = any(index in before_weights for index in operator["outputs"])
        if not reaches:
            found.append(operator)
        if reaches or operator["is_weighted"]:
            before_weights.update(operator["inputs"])
    return found


def _recipe(kind: str, kept: "set[str]", options: "dict[str, Any]") -> Any:
    """Write the quantizer's recipe: later lines win."""
    manager = recipe_manager.RecipeManager()
    granularity = getattr(qtyping.QuantGranularity, "CHANNELWISE" if options["per_channel"] else "TENSORWISE")
    if kind == "int8":
        manager.add_static_config(".*", _ALL, 8, 8, granularity)
    elif kind == "int8-dynamic":
        manager.add_dynamic_config(".*", _ALL, 8, granularity)
    else:
        half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        config = qtyping.OpQuantizationConfig(weight_tensor_config=half)
        manager.add_quantization_config(".*", _ALL, config, AlgorithmName.FLOAT_CASTING)
    if kind == "int8" and not options["quantized_io"]:
        for place in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            manager.add_quantization_config(".*", place, None, AlgorithmName.NO_QUANTIZE)
    for scope in sorted(kept):
        manager.add_quantization_config(f"^{re.escape(scope)}$", _ALL, None, AlgorithmName.NO_QUANTIZE)
    return manager.get_quantization_recipe()
