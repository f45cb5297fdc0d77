"""Train and write models with TensorFlow and Keras; runs in their toolchain."""

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")

import keras
import numpy as np
import tensorflow as tf


def train(request: dict[str, Any], tell: Any) -> dict[str, Any]:
    """Train a classifier of digits for some seconds; write it both ways and give its own accuracy on `test`."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="images"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(request["pictures"], request["labels"], epochs=12, batch_size=32, verbose=0)
    model.save(request["folder"] + "/digits.keras")
    model.export(request["folder"] + "/digits", verbose=False)
    return {"accuracy": float(model.evaluate(request["test"], request["truth"], verbose=0)[1])}


def small(request: dict[str, Any], tell: Any) -> dict[str, Any]:
    """Write little models of several kinds: one to convert, one of two inputs, one that loops, one with code in it."""
    folder, layers = request["folder"], keras.layers
    keras.utils.set_random_seed(0)
    keras.Sequential(
        [keras.Input((8, 8, 3), name="images"), layers.Conv2D(4, 3, activation="relu"), layers.Flatten()]
    ).save(folder + "/small.keras")
    first, second = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    keras.Model(
        {"b": second, "a": first}, {"total": layers.Dense(3)(first + second), "first score": layers.Dense(2)(first)}
    ).save(folder + "/two.keras")
    keras.Sequential([keras.Input((None, 12), name="seq"), layers.GRU(8), layers.Dense(3)]).save(folder + "/gru.keras")
    keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2, name="doubled")]).save(folder + "/lambda.keras")

    class Own(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x + 1

    keras.Sequential([keras.Input((4,)), Own(name="mine")]).save(folder + "/own.keras")
    return {}


def signatures(request: dict[str, Any], tell: Any) -> dict[str, Any]:
    """Write SavedModels: one of two signatures, one of an operator that ONNX and LiteRT lack, one that writes files."""
    module = tf.Module()
    rows = tf.TensorSpec([None, 3], tf.float32, name="rows")
    module.double = tf.function(lambda rows: {"twice": rows * 2}, input_signature=[rows])
    module.half = tf.function(lambda rows: {"half": rows / 2}, input_signature=[rows])
    tf.saved_model.save(module, request["folder"] + "/several", {"double": module.double, "half": module.half})

    square = tf.TensorSpec([3, 3], tf.float32, name="matrix")
    odd = tf.Module()
    odd.serve = tf.function(
        lambda matrix: {"values": tf.linalg.svd(matrix, compute_uv=False)}, input_signature=[square]
    )
    tf.saved_model.save(odd, request["folder"] + "/odd", {"serving_default": odd.serve})

    writer = tf.Module()

    def write(rows: Any) -> Any:
        tf.io.write_file(request["folder"] + "/written", "by a model")
        return {"same": tf.identity(rows)}

    writer.serve = tf.function(write, input_signature=[rows])
    tf.saved_model.save(writer, request["folder"] + "/writer", {"serving_default": writer.serve})
    return {"numpy": np.__version__}
