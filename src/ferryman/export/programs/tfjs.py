"""Make a TensorFlow.js graph model of a SavedModel. Runs in a Python of TensorFlow's own."""

import json
import os
import shutil
import sys
import types
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np

# The converter imports packages for kinds of models that it isn't given here, and names that numpy has dropped.
for _name in ("tensorflow_decision_forests", "tensorflow_hub", "tensorflowjs.converters.jax_conversion"):
    sys.modules[_name] = types.ModuleType(_name)
sys.modules["tensorflowjs.converters.jax_conversion"].convert_jax = None  # type: ignore[attr-defined]
for _name, _type in (("object", object), ("bool", bool)):
    if not hasattr(np, _name):
        setattr(np, _name, _type)

from tensorflowjs.converters.tf_saved_model_conversion_v2 import convert_tf_saved_model  # noqa: E402


def convert(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write model.json, its weights and the engine's files into `target`."""
    source, target = request["source"], request["target"]
    tell("TensorFlow.js converts the graph")
    try:
        convert_tf_saved_model(source, target, signature_def="serving_default")
    except ValueError as error:
        raise Refused(
            f"TensorFlow.js can't take this model: {' '.join(str(error).split())[:400]}",
            hint="export the model without these operators, or use onnxruntime-web",
        ) from error
    _name_ports(os.path.join(source, "assets.extra", "ferryman.json"), os.path.join(target, "model.json"))
    packages = os.path.join(sys.prefix, "node_modules", "@tensorflow")
    for name, origin in request["engine"].items():
        shutil.copyfile(os.path.join(packages, origin), os.path.join(target, name))
    with open(os.path.join(target, "package.json"), "w", encoding="utf-8") as file:
        file.write('{"type": "module"}\n')  # Node takes .js files for CommonJS otherwise
    return {}


def _name_ports(names: str, path: str) -> None:
    """Tell in model.json which node is which input and output of the source, in its order."""
    with open(path, encoding="utf-8") as file:
        about = json.load(file)
    own = about["signature"]
    ports = {side: [{"name": key, "key": key} for key in own[side]] for side in ("inputs", "outputs")}
    if os.path.isfile(names):
        with open(names, encoding="utf-8") as file:
            ports = json.load(file)
    about["userDefinedMetadata"] = {
        "ferryman": {
            side: [{"name": port["name"], "node": own[side][port["key"]]["name"]} for port in ports[side]]
            for side in ports
        }
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(about, file, sort_keys=True)  # the converter writes attributes in any order
