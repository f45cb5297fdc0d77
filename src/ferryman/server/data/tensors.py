"""Check an ask's tensors against a model's signature, cheaply: most requests look like the one before."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ferryman.core.errors import InputError
from ferryman.core.signature import Array, Signature, TensorSpec


class TensorPlan:
    """Hold what a signature asks of each input, made once for a model."""

    def __init__(self, signature: Signature) -> None:
        self.outputs = frozenset(spec.name for spec in signature.outputs)
        self._signature = signature
        self._known = [_Known(spec) for spec in signature.inputs]
        self._is_uniform = all(known.tail is not None for known in self._known)

    def check(self, inputs: Mapping[str, Array]) -> tuple[int, Any]:
        """Give the rows of one ask and what two asks must have in common to share a call of the engine.

        Raises InputError where the tensors are not those that the model takes.
        """
        rows = -1
        if len(inputs) != len(self._known):
            self._signature.check(inputs)
        for known in self._known:
            array = inputs.get(known.name)
            if array is None or not known.fits(array):
                self._signature.check(inputs)
            if array is not None and array.ndim:
                if rows not in (-1, array.shape[0]):
                    return 1, tuple(array.shape for array in inputs.values())
                rows = array.shape[0]
        if self._is_uniform:
            return max(rows, 1), None
        return max(rows, 1), tuple(inputs[known.name].shape[1:] for known in self._known)

    def check_outputs(self, names: tuple[str, ...]) -> None:
        """Raise InputError for an output that the model doesn't have."""
        if unknown := [name for name in names if name not in self.outputs]:
            known = [spec.name for spec in self._signature.outputs]
            raise InputError(f"no output is called '{unknown[0]}'", hint=f"this model gives {known}")


class _Known:
    """Hold one input's name, dtype and, where they are all fixed, the sizes after the first."""

    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        self._dtype = np.dtype(object) if spec.dtype == "string" else np.dtype(spec.dtype)
        tail = spec.shape[1:]
        self.tail = tail if spec.shape and all(isinstance(size, int) for size in tail) else None
        self._first = spec.shape[0] if spec.shape else None

    def fits(self, array: Array) -> bool:
        """Tell whether an array is surely right; False where the signature has to look closer."""
        shape = array.shape
        if array.dtype != self._dtype or self.tail is None or not shape or shape[1:] != self.tail:
            return False
        return self._first == shape[0] or type(self._first) is str
