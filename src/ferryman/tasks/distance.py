"""Measure how far two arrays are apart."""

from typing import Any, cast

import numpy as np

from ferryman.core.signature import Array


def measure_distance(wanted: Array, got: Array) -> tuple[float, float]:
    """Give max |difference|, and that over max |wanted|.

    Two NaN, or the same infinity twice, are at distance 0; any other value that is not finite is infinitely far, and
    so are arrays of differing shapes and differing text. Only finite values count in max |wanted|.
    """
    if wanted.shape != got.shape:
        return float("inf"), float("inf")
    if {wanted.dtype.kind, got.dtype.kind} & set("OUS"):
        return (0.0, 0.0) if bool(np.all(wanted == got)) else (float("inf"), float("inf"))
    first, second = cast(Any, wanted).astype(np.float64), cast(Any, got).astype(np.float64)
    differs = (first != second) & ~(np.isnan(first) & np.isnan(second))
    if not differs.any():
        return 0.0, 0.0
    if not (np.isfinite(first[differs]) & np.isfinite(second[differs])).all():
        return float("inf"), float("inf")
    with np.errstate(over="ignore"):  # the distance of two huge numbers is infinite
        difference = float(np.abs(first[differs] - second[differs]).max())
    scale = float(np.abs(first[np.isfinite(first)]).max())
    return difference, difference / scale if scale > 0 else float("inf")
