"""Tensor parity: how far a candidate's raw outputs are from the source's."""

from collections.abc import Sequence

import numpy as np

from ferryman.core.proof import Parity
from ferryman.core.signature import Array, Tensors


def tensor_parity(reference: Sequence[Tensors], candidate: Sequence[Tensors]) -> Parity:
    """Compare outputs of the same inputs, output by output, the worst over samples.

    Text outputs count 0 where equal and 1 where not. A missing output or another shape counts as infinitely far.
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
        changed = float(np.any(want.astype(str) != got.astype(str)))
        return changed, changed
    wide = np.asarray(want, np.float64)
    difference = np.abs(np.asarray(got, np.float64) - wide)
    if not difference.size:
        return 0.0, 0.0
    absolute = float(difference.max())
    if not np.isfinite(absolute):
        same = np.array_equal(want, got, equal_nan=want.dtype.kind == "f")
        return (0.0, 0.0) if same else (float("inf"), float("inf"))
    scale = float(np.abs(wide).max())
    return absolute, absolute / scale if scale else absolute
