"""Convert a TensorFlow SavedModel to ONNX and to LiteRT. Runs in a Python of TensorFlow's own."""

import logging
import os
import re
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its reordered sums depend on the machine that folds constants

import tensorflow as tf

OPSET = 17
HINT = (
    "export the model without it (preprocessing of text and decoding of pictures belong outside of the graph), "
    "or with fixed sizes"
)


def to_onnx(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write the ONNX file `target`; inputs and outputs are in the order of the request's names."""
    import tf2onnx
    from tf2onnx import logging as converter_logging

    model = _load(request)
    serve, specs = _in_order(model, request)
    complaints = _Complaints()
    logging.getLogger("tf2onnx").addHandler(complaints)
    converter_logging.set_level(logging.ERROR)
    tell("tf2onnx converts the graph")
    try:
        made, _ = tf2onnx.convert.from_function(
            tf.function(serve, input_signature=specs), input_signature=specs, opset=request.get("opset", OPSET)
        )
    except Exception as error:
        raise _refusal("tf2onnx", complaints.lines, error) from error
    unknown = _not_onnx(made)
    if unknown or complaints.unsupported:
        named = sorted({*unknown, *complaints.unsupported})
        raise Refused(f"ONNX has no counterpart of TensorFlow's {', '.join(named)}", hint=HINT)
    with open(request["target"], "wb") as file:
        file.write(made.SerializeToString(deterministic=True))
    return {"inputs": [port.name for port in made.graph.input], "outputs": [port.name for port in made.graph.output]}


def to_litert(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write the .tflite file `target`, of built-in operators only."""
    _load(request)  # its errors are plainer than the converter's
    converter = tf.lite.TFLiteConverter.from_saved_model(request["source"], signature_keys=[request["signature"]])
    if request["half"]:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    tell("TensorFlow converts the graph")
    try:
        made = converter.convert()
    except Exception as error:
        raise _refusal("TensorFlow's converter to LiteRT", [], error) from error
    with open(request["target"], "wb") as file:
        file.write(made)
    return {}


class _Complaints(logging.Handler):
    """Keep what tf2onnx logs as errors: it goes on after those, and writes a file that nothing can load."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    @property
    def unsupported(self) -> "list[str]":
        found = [re.search(r"Tensorflow op \[([^\]]*)\] is not supported", line) for line in self.lines]
        return [match.group(1) for match in found if match]

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _load(request: "dict[str, Any]") -> Any:  # TensorFlow's own object
    try:
        model = tf.saved_model.load(request["source"])
        model.signatures[request["signature"]]
    except Exception as error:
        raise Refused(f"TensorFlow can't load this SavedModel: {_line(error)}", hint="export it again") from error
    return model


def _in_order(model: Any, request: "dict[str, Any]") -> "tuple[Any, list[Any]]":
    """Give the signature as a function of tensors in order, and what those are."""
    signature = model.signatures[request["signature"]]
    taken = signature.structured_input_signature[1]
    inputs, outputs = request["inputs"], request["outputs"]
    specs = [tf.TensorSpec(taken[name].shape, taken[name].dtype, name=f"in{i}") for i, name in enumerate(inputs)]

    def serve(*values: Any) -> "list[Any]":
        told = signature(**dict(zip(inputs, values, strict=True)))
        return [tf.identity(told[name]) for name in outputs]

    return serve, specs


def _not_onnx(model: Any) -> "set[str]":
    known = {"", "ai.onnx", "ai.onnx.ml"}
    return {node.op_type for node in model.graph.node if node.domain not in known}


def _refusal(who: str, complaints: "list[str]", error: BaseException) -> Any:  # a Refused
    text = "\n".join((*complaints, str(error)))
    operators = sorted(set(re.findall(r"'tf\.([A-Za-z0-9_]+)' op", text)) | set(re.findall(r"op \[([^\]]*)\]", text)))
    if operators:
        return Refused(f"{who} has no counterpart of TensorFlow's {', '.join(operators)}", hint=HINT)
    return Refused(f"{who} can't convert this model: {_line(error)}", hint=HINT)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
