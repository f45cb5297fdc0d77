"""Make a TensorFlow SavedModel of an ONNX file. Runs in a Python of TensorFlow's own."""

import itertools
import json
import os
import re
import sys
import tempfile
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its reordered sums depend on the machine that folds constants

import numpy as np
import onnx
import onnx2tf.onnx2tf
import onnxruntime
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # the launcher imports this file by its path

from onnx_in_tensorflow import Graph
from tensorflow_values import Unknown

MOST_DIFFERENCE = 1e-3


def convert(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write the SavedModel into `target`, with the source's names and layout; gives the difference that remains."""
    signature, target = request["signature"], request["target"]
    tell("onnx2tf converts the graph")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        _rename(request["source"], path, _ports(signature))
        os.chdir(folder)
        inputs = {port["name"]: _sample(port) for port in signature["inputs"]}
        session = onnxruntime.InferenceSession(request["source"], providers=["CPUExecutionProvider"])
        wanted = {port["name"]: None for port in signature["outputs"]}
        wanted = dict(zip(wanted, session.run(list(wanted), inputs), strict=True))
        try:
            compute, difference = _by_onnx2tf(path, folder, list(inputs.values()), wanted)
        except Refused as first:
            tell("operator by operator, since onnx2tf can't", note=str(first)[:200])
            compute, difference = _one_by_one(
                request["source"], list(inputs.values()), wanted, _specs(signature), first
            )
        os.chdir("/")
    tell("the SavedModel is written")
    _save(compute, signature, target)
    return {"difference": difference}


def _by_onnx2tf(path: str, folder: str, inputs: "list[Any]", wanted: "dict[str, Any]") -> "tuple[Any, float]":
    """Give the function of the tensors that onnx2tf makes, and how far it is from what is wanted.

    It guesses by sizes which axis is which, and so mixes up those of equal size.
    """
    model = _to_keras(path, folder)
    try:
        made = _call(model, inputs)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise Refused(f"what onnx2tf makes of this model can't run: {_reason(error, folder)}", hint=_HINT) from error
    turns = {name: _turn(name, wanted[name], got) for name, got in zip(wanted, made, strict=True)}

    def compute(tensors: "list[Any]") -> "list[Any]":
        told = zip(_call(model, tensors), turns.values(), strict=True)
        return [tf.transpose(value, axes) for value, (axes, _) in told]

    return compute, max(difference for _, difference in turns.values())


def _one_by_one(
    source: str, inputs: "list[Any]", wanted: "dict[str, Any]", specs: "list[Any]", first: Any
) -> "tuple[Any, float]":
    """Give the function of the graph's own operators; raises what onnx2tf said where one of them isn't here."""
    try:
        graph = Graph(onnx.load(source))
        got = graph([tf.constant(value) for value in inputs])
        # Free sizes are known above, and aren't in the SavedModel. Unchanged code tells errors as they were raised.
        tf.function(
            lambda *tensors: graph(list(tensors)), input_signature=specs, autograph=False
        ).get_concrete_function()
    except Unknown as error:
        raise Refused(f"{first}; and there is no other way for {error}", hint=_HINT) from error
    shapes = [value.shape for value in wanted.values()]
    if [tuple(value.shape) for value in got] != shapes:
        raise first
    pairs = zip(got, wanted.values(), strict=True)
    difference = max(_apart(np.asarray(value), want) / _largest(want) for value, want in pairs)
    if not difference <= MOST_DIFFERENCE:
        raise first
    return graph, difference


def _rename(source: str, path: str, ports: "dict[str, Any]") -> None:
    """Copy the ONNX file, as onnx2tf writes beside it, with the names of ports that TensorFlow can have."""
    model = onnx.load(source)
    keys = {port["name"]: port["key"] for port in ports["inputs"] + ports["outputs"]}

    def rename(graph: Any) -> None:
        for port in (*graph.input, *graph.output):
            port.name = keys.get(port.name, port.name)
        for node in graph.node:
            node.input[:] = [keys.get(name, name) for name in node.input]
            node.output[:] = [keys.get(name, name) for name in node.output]
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    rename(inner)

    rename(model.graph)
    onnx.save(model, path)


def _to_keras(path: str, folder: str) -> Any:  # a Keras model
    # It would fetch pictures from the web to try operators on: noise does as well.
    noise = np.random.default_rng(0).random((20, 128, 128, 3)).astype(np.float32)
    onnx2tf.onnx2tf.download_test_image_data = lambda: noise
    try:
        return onnx2tf.onnx2tf.convert(
            input_onnx_file_path=path, output_folder_path=folder, disable_model_save=True, non_verbose=True
        )
    except (Exception, SystemExit) as error:  # it ends the process where an operator is unknown
        raise Refused(f"onnx2tf can't convert this model: {_reason(error, folder)}", hint=_HINT) from error


_HINT = "export the model without this operator, or with fixed sizes; the other formats don't need it converted"


def _reason(error: BaseException, folder: str) -> str:
    at = re.search(r"onnx_op_name: *(\S+)", str(error))
    words = " ".join(str(error).replace(folder, "").split())[:300]
    return f"{at.group(1)}: {words}" if at else f"{type(error).__name__}: {words}"


def _sample(port: "dict[str, Any]") -> Any:  # an array
    unknown = [1] + [1] * 9 if len(port["shape"]) != 4 else [1, 3, 224, 224]
    shape = [side if isinstance(side, int) else unknown[axis] for axis, side in enumerate(port["shape"])]
    generator = np.random.default_rng(len(port["name"]))
    if port["dtype"].startswith("float"):
        return generator.random(shape).astype(port["dtype"])
    return generator.integers(0, 2, shape).astype(port["dtype"])


def _channels_last(rank: int) -> "list[int]":
    return [0, *range(2, rank), 1] if rank >= 3 else list(range(rank))


def _call(model: Any, inputs: "list[Any]") -> "list[Any]":
    turned = [tf.transpose(value, _channels_last(len(value.shape))) for value in inputs]
    told = model(turned if len(turned) > 1 else turned[0])
    return list(told) if isinstance(told, (list, tuple)) else [told]


def _turn(name: str, want: Any, got: Any) -> "tuple[tuple[int, ...], float]":
    """Give the order of axes in which an output equals the source's, and the relative difference that remains."""
    values = np.asarray(got)
    fits = [
        axes for axes in itertools.permutations(range(values.ndim)) if np.transpose(values, axes).shape == want.shape
    ]
    if not fits:
        raise Refused(
            f"output '{name}' came out as {list(values.shape)}; the source gives {list(want.shape)}", hint=_HINT
        )
    apart = {axes: _apart(np.transpose(values, axes), want) / _largest(want) for axes in fits}
    best = min(fits, key=lambda axes: apart[axes])
    if not apart[best] <= MOST_DIFFERENCE:
        raise Refused(
            f"output '{name}' differs from the source's by {apart[best]:.2g} of its largest value after onnx2tf",
            hint=_HINT,
        )
    return best, apart[best]


def _largest(want: Any) -> float:
    return max(float(np.abs(want.astype(np.float64)).max(initial=0.0)), 1e-9)


def _apart(got: Any, want: Any) -> float:
    return float(np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0.0))


def _key(name: str, place: int) -> str:
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return plain if plain == name and plain[:1].isalpha() else f"port{place}{plain}"


def _ports(signature: "dict[str, Any]") -> "dict[str, Any]":
    return {
        side: [{"name": port["name"], "key": _key(port["name"], place)} for place, port in enumerate(signature[side])]
        for side in ("inputs", "outputs")
    }


def _specs(signature: "dict[str, Any]") -> "list[Any]":  # tf.TensorSpec's
    return [
        tf.TensorSpec(
            [side if isinstance(side, int) else None for side in port["shape"]], port["dtype"], name=own["key"]
        )
        for port, own in zip(signature["inputs"], _ports(signature)["inputs"], strict=True)
    ]


def _save(function: Any, signature: "dict[str, Any]", target: str) -> None:
    ports, specs = _ports(signature), _specs(signature)
    dtypes = [port["dtype"] for port in signature["outputs"]]

    def compute(*inputs: Any) -> "list[Any]":
        return [tf.cast(value, dtype) for value, dtype in zip(function(list(inputs)), dtypes, strict=True)]

    # Weights become constants: one file whose bytes are the same each time, and no variables to restore.
    frozen = convert_variables_to_constants_v2(tf.function(compute, input_signature=specs).get_concrete_function())
    keys = [own["key"] for own in ports["outputs"]]
    module = tf.Module()
    module.serve = tf.function(lambda *inputs: dict(zip(keys, frozen(*inputs), strict=True)), input_signature=specs)
    tf.saved_model.save(module, target, signatures={"serving_default": module.serve})
    os.unlink(os.path.join(target, "fingerprint.pb"))  # a random number, which nothing needs
    os.makedirs(os.path.join(target, "assets.extra"))
    with open(os.path.join(target, "assets.extra", "ferryman.json"), "w", encoding="utf-8") as file:
        json.dump(ports, file, indent=1)
