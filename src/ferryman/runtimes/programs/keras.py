"""Hold a Keras model in a Python of TensorFlow's own."""

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")  # neither read nor write settings in the home folder

import keras
import numpy as np
import tensorflow as tf


class Model:
    """Answer with a Keras model, called on tensors in the order of its inputs."""

    def __init__(self, request: "dict[str, Any]", tell: Any) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(request["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(1)
        try:
            self._model = keras.saving.load_model(request["path"], compile=False, safe_mode=not request["trust"])
        except Exception as error:
            line = " ".join(str(error).split())[:300]
            raise Refused(f"Keras can't load this model: {line}", hint="save it again") from error
        self._call = tf.function(lambda *values: self._model(_packed(self._model, values), training=False))
        self._inputs, self._outputs = request["inputs"], request["outputs"]

    def infer(self, inputs: "dict[str, Any]") -> "dict[str, Any]":
        """Give every output by its name in the signature."""
        try:
            told = self._call(*(tf.constant(inputs[name]) for name in self._inputs))
        except (tf.errors.OpError, ValueError, TypeError) as error:
            line = " ".join(str(error).split())[:300]
            raise Refused(f"the model can't take these inputs: {line}", hint="see its signature") from error
        values = keras.tree.flatten(told)
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def _packed(model: Any, values: Any) -> Any:
    """Give tensors in the structure that the model takes: one, a list, a dictionary. Sequential ones tell none."""
    structure = model.input if isinstance(model, keras.Model) and not isinstance(model, keras.Sequential) else None
    return values[0] if structure is None else keras.tree.pack_sequence_as(structure, list(values))
