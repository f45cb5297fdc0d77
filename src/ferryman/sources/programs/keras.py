"""Tell a Keras file's inputs and outputs, and write it as a SavedModel. Runs in a Python of TensorFlow's own."""

import os
import re
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")  # neither read nor write settings in the home folder
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its reordered sums depend on the machine that folds constants

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def describe(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Give the signature, as ferryman.core.signature has it in JSON."""
    model = _load(request)
    names, ports = _doors(model)
    inputs = [
        {"name": name, "dtype": str(port.dtype), "shape": _shape(name, port.shape)}
        for name, port in zip(names, ports, strict=True)
    ]
    concrete, keys = _trace(model)
    outputs = [
        {"name": key, "dtype": tensor.dtype.name, "shape": _shape(key, tensor.shape)}
        for key, tensor in zip(keys, concrete.outputs, strict=True)
    ]
    return {"inputs": inputs, "outputs": outputs}


def to_savedmodel(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write the SavedModel into `target`: one file, whose bytes are the same each time."""
    model = _load(request)
    tell("TensorFlow traces the model")
    concrete, keys = _trace(model)
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    module = tf.Module()
    module.serve = tf.function(
        lambda *values: dict(zip(keys, frozen(*values), strict=True)), input_signature=_specs(model)
    )
    tf.saved_model.save(module, request["target"], signatures={"serving_default": module.serve})
    os.unlink(os.path.join(request["target"], "fingerprint.pb"))  # a random number, which nothing needs
    _settle(os.path.join(request["target"], "saved_model.pb"))
    return {}


def _settle(path: str) -> None:
    """Put functions, and the nodes in them, in order of their names: they come out of a hash table."""
    saved = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        saved.ParseFromString(file.read())
    for meta in saved.meta_graphs:
        _sort(meta.graph_def.library.function, lambda function: function.signature.name)
        for function in meta.graph_def.library.function:
            _sort(function.node_def, lambda node: node.name)
    with open(path, "wb") as file:
        file.write(saved.SerializeToString(deterministic=True))


def _sort(messages: Any, key: Any) -> None:  # a repeated field
    kept = [type(one).FromString(one.SerializeToString(deterministic=True)) for one in sorted(messages, key=key)]
    del messages[:]
    messages.extend(kept)


def _load(request: "dict[str, Any]") -> Any:  # a Keras model
    try:
        model = keras.saving.load_model(request["source"], compile=False, safe_mode=not request["trust"])
    except Exception as error:
        raise Refused(
            f"Keras can't load this model: {_line(error)}",
            hint="save it again with this version of Keras "
            f"({keras.__version__}), or export it where its code is: model.export('folder')",
        ) from error
    if not getattr(model, "inputs", None):
        raise Refused(
            f"this {type(model).__name__} doesn't know its inputs: it was saved before it was built",
            hint="add keras.Input(shape), or call it once on data, and save it again",
        )
    return model


def _doors(model: Any) -> "tuple[list[str], list[Any]]":
    """Give the inputs' names, as a signature's keys can be, and the symbolic tensors."""
    ports = list(model.inputs)
    if any(getattr(port, "sparse", False) or getattr(port, "ragged", False) for port in ports):
        raise Refused("an input is sparse or ragged, which served formats don't have", hint="train on dense inputs")
    return _unique([port.name for port in ports]), ports


def _specs(model: Any) -> "list[Any]":
    names, ports = _doors(model)
    return [tf.TensorSpec(port.shape, port.dtype, name=name) for name, port in zip(names, ports, strict=True)]


def _trace(model: Any) -> "tuple[Any, list[str]]":
    """Give the model as a function of its inputs in order, and its outputs' names in order."""
    keys: list[str] = []

    def compute(*values: Any) -> "list[Any]":
        told = model(_packed(model, values), training=False)
        keys[:] = _unique(_output_names(model, told))
        return [tf.identity(value) for value in keras.tree.flatten(told)]

    try:
        return tf.function(compute, input_signature=_specs(model)).get_concrete_function(), keys
    except Exception as error:
        raise Refused(
            f"TensorFlow can't trace this model: {_line(error)}",
            hint="sizes and branches may not depend on values; export it where its code is: model.export('folder')",
        ) from error


def _packed(model: Any, values: Any) -> Any:
    """Give tensors in the structure that the model takes: one, a list, a dictionary. Sequential ones tell none."""
    structure = model.input if isinstance(model, keras.Model) and not isinstance(model, keras.Sequential) else None
    return values[0] if structure is None else keras.tree.pack_sequence_as(structure, list(values))


def _output_names(model: Any, told: Any) -> "list[str]":
    count = len(keras.tree.flatten(told))
    if isinstance(told, dict):
        return [str(name) for name in sorted(told)]
    names = list(getattr(model, "output_names", None) or [])
    if len(names) == count:
        return names
    last = model.layers[-1].name
    return [last] if count == 1 else [f"{last}_{place}" for place in range(count)]


def _unique(names: "list[str]") -> "list[str]":
    found: list[str] = []
    for place, name in enumerate(names):
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        plain = plain if plain[:1].isalpha() else f"port{place}{plain}"
        found.append(plain if plain not in found else f"{plain}_{place}")
    return found


def _shape(name: str, sizes: Any) -> "list[Any]":
    rank = getattr(sizes, "rank", len(sizes))
    if rank is None:
        raise Refused(f"'{name}' has no known number of dimensions", hint="give the model's Input a shape")
    return [size if size is not None else "batch" if axis == 0 else f"{name}_{axis}" for axis, size in enumerate(sizes)]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
