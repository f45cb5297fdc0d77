"""Be the session of a tabular library: arrays to the library's own predictions, under the house's names."""

import threading
from collections.abc import Callable

import numpy as np

from ferryman.core.errors import InputError
from ferryman.core.signature import Array, Signature, Tensors

Predict = Callable[[Tensors], dict[str, Array]]


class TabularSession:
    """Answer with a library's own predictions, cast to the signature's dtypes and shapes."""

    def __init__(self, signature: Signature, predict: Predict) -> None:
        self.signature = signature
        self._predict: Predict | None = predict
        self._lock = threading.Lock()  # not every library promises to be called from several threads

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give every output for checked inputs."""
        if self._predict is None:
            raise InputError("this session is closed", hint="load the model again")
        self.signature.check(inputs)
        with self._lock:
            try:
                answers = self._predict(inputs)
            except (ValueError, TypeError) as error:
                raise InputError(f"the model refuses the inputs: {error}", hint="check their values") from error
        outputs: dict[str, Array] = {}
        for spec in self.signature.outputs:
            shape = tuple(-1 if isinstance(size, str) else size for size in spec.shape)
            dtype = np.dtype(object) if spec.dtype == "string" else np.dtype(spec.dtype)
            outputs[spec.name] = np.asarray(answers[spec.name]).astype(dtype).reshape(shape)
        return outputs

    def close(self) -> None:
        """Free the model."""
        self._predict = None


def classified(probabilities: Array, labels: Array) -> dict[str, Array]:
    """Name a classifier's answers: [batch, classes] of probabilities and, of `labels`, the likeliest each."""
    return {"label": labels[np.argmax(probabilities, axis=1)], "probabilities": probabilities}


def two_columns(probability: Array) -> Array:
    """Make [batch, 2] of the probability of the second class, [batch]."""
    return np.stack([1 - probability, probability], axis=1) if probability.ndim == 1 else probability
