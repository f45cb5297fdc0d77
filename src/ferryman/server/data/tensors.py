"""Check an ask's tensors against a model's signature, cheaply: most requests look like the one before."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ferryman.core.errors import InputError
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.server.data.wording import check_inputs, listed


class TensorPlan:
    """Hold what a signature asks of each input, made once for a model."""

    def __init__(self, signature: Signature) -> None:
        self.outputs = frozenset(spec.name for spec in signature.outputs)
        self._signature = signature
        self._known = [_Known(spec) for spec in signature.inputs]
        self._only = self._known[0] if len(self._known) == 1 else None
        self._is_uniform = all(known.tail is not None for known in self._known)

    def check(self, inputs: Mapping[str, Array]) -> tuple[int, Any]:
        """Give the rows of one ask and what two asks must have in common to share a call of the engine.

        Raises InputError where the tensors are not those that the model takes.
        """
        only = self._only
        if only is not None and len(inputs) == 1:
            array = inputs.get(only.name)
            if array is not None and only.fits(array) and (rows := array.shape[0]):
                return rows, None
        return self._check_each(inputs)

    def _check_each(self, inputs: Mapping[str, Array]) -> tuple[int, Any]:
        if len(inputs) != len(self._known):
            check_inputs(self._signature, inputs)
        for known in self._known:
            array = inputs.get(known.name)
            if array is None or not known.fits(array):
                check_inputs(self._signature, inputs)
        sizes = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        rows = sizes.pop() if len(sizes) == 1 else 0
        if not rows:  # nothing to join by, and of its answer nothing could be cut off for another ask
            return 1, object()
        return rows, None if self._is_uniform else tuple(inputs[known.name].shape[1:] for known in self._known)

    def check_outputs(self, names: tuple[str, ...]) -> None:
        """Raise InputError for an output that the model doesn't have."""
        if unknown := [name for name in names if name not in self.outputs]:
            known = listed(spec.name for spec in self._signature.outputs)
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
        if (
            (array.dtype is not self._dtype and array.dtype != self._dtype)
            or self.tail is None
            or not shape
            or shape[1:] != self.tail
        ):
            return False
        return self._first == shape[0] or type(self._first) is str
