"""Signals of tensors that no task gives a meaning."""

from collections.abc import Mapping, Sequence

import numpy as np

from ferryman.core.record import Value
from ferryman.core.signature import Array
from ferryman.monitor.signals.asked import MISSING, Asked, Found, as_category, turned

_SAMPLED = 4096  # numbers of a tensor that are looked at, evenly spread


class InputReader:
    """Read `input.NAME.mean`, `.std` and `.not_finite` (a share) of each item's part of some inputs."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def read(self, asked: Asked) -> Found:
        """Give the figures of each input tensor."""
        return _read({name: asked.inputs[name] for name in self._names}, "input", asked)


class OutputReader:
    """Read the same of outputs, as `output.NAME...`, where there is no answer that says what they mean."""

    def read(self, asked: Asked) -> Found:
        """Give the figures of each output tensor; nothing where answers have a meaning."""
        has_meaning = asked.answers is not None and not any("outputs" in answer for answer in asked.answers)
        return {} if has_meaning or not asked.outputs else _read(asked.outputs, "output", asked)


def _read(tensors: Mapping[str, Array], kind: str, asked: Asked) -> Found:
    found: Found = {}
    for name, values in tensors.items():
        found |= turned([_describe(part, f"{kind}.{name}") for part in asked.parts(values)])
    return found


def _describe(values: Array, name: str) -> dict[str, Value]:
    flat = values.reshape(-1)
    if flat.dtype.kind in "OUS":
        return {name: as_category(str(flat[0]))} if flat.size == 1 else {}
    some = np.asarray(flat[:: max(1, flat.size // _SAMPLED)], np.float64)
    finite = some[np.isfinite(some)]
    return {
        f"{name}.mean": float(finite.mean()) if finite.size else MISSING,
        f"{name}.std": float(finite.std()) if finite.size else MISSING,
        f"{name}.not_finite": 1 - finite.size / some.size if some.size else MISSING,
    }
