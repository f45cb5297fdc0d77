"""What every detector is."""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ferryman.core.errors import ConfigError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Say how far two samples are apart: `statistic` in the detector's own unit, over `threshold` they differ.

    `p_value` is the chance of as large a statistic in samples of one distribution; None where there is none.
    """

    statistic: float
    threshold: float
    p_value: float | None = None

    @property
    def is_drift(self) -> bool:
        """Tell whether the samples differ: by the p-value where there is one."""
        if self.p_value is not None:
            return self.p_value <= self.threshold
        return self.statistic > self.threshold


class TwoSample(Protocol):
    """Compare a window with a reference. Rows are samples: [N] of one number, [N, D] where the detector takes many.

    NaN and infinite values are left out; raises ConfigError where one side has too few left.
    """

    def compare(self, reference: Floats, window: Floats) -> Comparison:
        """Set the window beside the reference."""


class Sequential(Protocol):
    """Follow one number."""

    def add(self, value: float) -> bool:
        """Take the next value (NaN is passed over); tell whether a change is found: the detector then starts anew."""


def clean(values: Floats, least: int = 2) -> Floats:
    """Give the rows of `values` that are whole and finite; raises ConfigError where fewer than `least` are."""
    values = np.asarray(values, np.float64)
    keep = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
    if int(keep.sum()) < least:
        raise ConfigError(
            f"a sample has {int(keep.sum())} rows of finite values, {least} are needed", hint="take a longer window"
        )
    return np.asarray(values[keep])


def need(module: str, extra: str) -> ModuleType:
    """Import a package of an extra; raises ConfigError that names the command where it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(
            f"this detector needs {module.split('.')[0]}, which is not installed",
            hint=f"pip install 'ferryman[{extra}]'",
        ) from None
