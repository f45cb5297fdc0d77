"""Hold a SavedModel in a Python of TensorFlow's own."""

import json
import os
from typing import Any

import numpy as np
import tensorflow as tf


class Model:
    """Answer with one of a SavedModel's signatures."""

    def __init__(self, request: "dict[str, Any]", tell: Any) -> None:
        folder = request["folder"]
        tf.config.threading.set_intra_op_parallelism_threads(request["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(1)
        try:
            self._model = tf.saved_model.load(folder)  # held: its signature doesn't keep it alive
            self._serve = self._model.signatures[request["serves"]]
        except Exception as error:
            line = " ".join(str(error).split())[:300]
            raise Refused(f"TensorFlow can't load this SavedModel: {line}", hint="convert it again") from error
        self._keys = _read_keys(folder)
        self._names = request["names"]

    def infer(self, inputs: "dict[str, Any]") -> "dict[str, Any]":
        """Give every output by the source's name."""
        keys = self._keys
        try:
            told = self._serve(**{keys.get(name, name): tf.constant(value) for name, value in inputs.items()})
        except (tf.errors.OpError, ValueError, TypeError) as error:
            line = " ".join(str(error).split())[:300]
            raise Refused(f"the model can't take these inputs: {line}", hint="see its signature") from error
        return {name: np.asarray(told[keys.get(name, name)]) for name in self._names}


def _read_keys(folder: str) -> "dict[str, str]":
    path = os.path.join(folder, "assets.extra", "ferryman.json")
    if not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8") as file:
        ports = json.load(file)
    return {port["name"]: port["key"] for port in ports["inputs"] + ports["outputs"]}
