"""Tensor parity: how far a candidate's raw outputs are from the source's."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ferryman.core.proof import Parity
from ferryman.core.signature import Array, Tensors


def tensor_parity(reference: Sequence[Tensors], candidate: Sequence[Tensors]) -> Parity:
    """Compare outputs of the same inputs, output by output, the worst over samples.

    Text, whole numbers and booleans (labels, classes, counts) count 0 where all are equal and 1 where not. A missing
    output, another shape, or a number that is not finite in one of the two is infinitely far.
    """
    max_abs: dict[str, float] = {}
    max_rel: dict[str, float] = {}
    for wanted, got in zip(reference, candidate, strict=True):
        for name, want in wanted.items():
            absolute, relative = _distance(want, got.get(name))
            max_abs[name] = max(max_abs.get(name, 0.0), absolute)
            max_rel[name] = max(max_rel.get(name, 0.0), relative)
    return Parity(max_abs=max_abs, max_rel=max_rel, samples=len(reference))


def _distance(want: Array, got: Array | None) -> tuple[float, float]:
    if got is None or got.shape != want.shape:
        return float("inf"), float("inf")
    if want.dtype.kind in "OUS" or got.dtype.kind in "OUS":
        return _changed(want.astype(str) != got.astype(str))
    if want.dtype.kind in "biu":
        return _changed(want != got)
    before, after = np.asarray(want, np.float64), np.asarray(got, np.float64)
    is_measured = np.isfinite(before) & np.isfinite(after)
    is_same = (before == after) | (np.isnan(before) & np.isnan(after))
    if not np.all(is_measured | is_same):
        return float("inf"), float("inf")
    with np.errstate(over="ignore"):  # the ends of float64 are infinitely far from each other
        absolute = float(np.abs(after[is_measured] - before[is_measured]).max(initial=0.0))
    scale = float(np.abs(before[is_measured]).max(initial=0.0))
    return absolute, absolute / scale if scale else absolute


def _changed(differs: NDArray[np.bool_]) -> tuple[float, float]:
    changed = float(np.any(differs))
    return changed, changed
