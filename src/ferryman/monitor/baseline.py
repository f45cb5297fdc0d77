"""What a model's signals looked like on the user's own data: what live traffic is set beside."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from ferryman.core.errors import BundleError
from ferryman.core.record import Columns, Value

Floats = NDArray[np.float64]

MOST_QUANTILES = 257
MOST_CATEGORIES = 200
OTHER = "(other)"
"""Stands for all categories that are not among the most frequent."""

_VERSION = 1
_AGAIN = "build the bundle again"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class NumberBaseline:
    """Keep the distribution of a number.

    `count` values were seen, a share `missing` of them NaN or none. `quantiles`, ascending, are the values themselves
    where there are at most 257 of them, else those at 257 evenly spaced ranks: a rank is then off by 1/258 at most.
    They are rounded to float32, as `rank` rounds what it is asked about, so that equal values stay equal. An infinity
    is a value beyond all others; `mean` and `std` are of the finite ones.
    """

    count: int
    missing: float
    mean: float
    std: float
    quantiles: Floats
    low: float
    high: float

    def rank(self, values: Floats, rng: np.random.Generator | None = None) -> Floats:
        """Give where values [N] lie among those of the baseline, in [0, 1]; NaN where there is none.

        A value among (or equal to) others gets a random one of the ranks that it may have, so that ranks of the same
        distribution are uniform whatever it is (a conformal p-value: Vovk, Gammerman and Shafer 2005); without `rng`
        it gets the middle one.
        """
        tidied = tidy(values)
        below = np.searchsorted(self.quantiles, tidied, "left")
        upto = np.searchsorted(self.quantiles, tidied, "right")
        drawn = 0.5 if rng is None else rng.random(tidied.shape)
        ranks = (below + drawn * (upto - below + 1)) / (len(self.quantiles) + 1)
        return np.where(np.isnan(tidied), np.nan, ranks)

    def bin(self, values: Floats, bins: int = 10) -> NDArray[np.int64]:
        """Give which of `bins` parts of the baseline each of values [N] falls into; -1 where there is none.

        Parts are equally likely, except where many values are equal: `expected` tells how likely each is.
        """
        ranks = self.rank(values)
        places = np.minimum(np.nan_to_num(ranks, nan=0.0) * bins, bins - 1).astype(np.int64)
        return np.where(np.isnan(ranks), -1, places)

    def expected(self, bins: int = 10) -> Floats:
        """Give the share of the baseline's own values in each of `bins` parts, [bins]."""
        counts = np.bincount(self.bin(self.quantiles, bins), minlength=bins)
        return np.asarray(counts / max(len(self.quantiles), 1), np.float64)

    def to_json(self) -> dict[str, JsonValue]:
        """Give what `from_json` takes."""
        return {
            "kind": "number",
            "count": self.count,
            "missing": _short(self.missing),
            "mean": _short(self.mean),
            "std": _short(self.std),
            "low": _short(self.low),
            "high": _short(self.high),
            "quantiles": [_short(value) for value in self.quantiles.tolist()],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:  # JSON
        """Read what `to_json` gave; raises KeyError, TypeError or ValueError."""
        quantiles = tidy(np.asarray(stored["quantiles"], np.float64).reshape(-1))
        if not len(quantiles) or np.isnan(quantiles).any() or (np.diff(quantiles) < 0).any():
            raise ValueError("its quantiles don't ascend")
        figures = {name: float(stored[name]) for name in ("missing", "mean", "std")}
        low, high = tidy(np.asarray([stored["low"], stored["high"]], np.float64)).tolist()
        return cls(count=int(stored["count"]), quantiles=quantiles, low=low, high=high, **figures)


@dataclass(frozen=True, slots=True)
class CategoryBaseline:
    """Keep how often each category came.

    `shares` are of the values that were there: the (at most 200) most frequent ones by name, and `OTHER` for the rest
    where there is one. `distinct` counts all; `unseen` is Good and Turing's estimate of the probability that the
    next value is one that never came (Good 1953): the share of categories that came once.
    """

    count: int
    missing: float
    shares: Mapping[str, float]
    distinct: int
    unseen: float

    @property
    def is_whole(self) -> bool:
        """Tell whether every category that came is named: only then is one that isn't a new one."""
        return OTHER not in self.shares

    def place(self, value: str) -> str:
        """Give the name under which a category is counted: its own, or OTHER."""
        return value if value in self.shares else OTHER

    def to_json(self) -> dict[str, JsonValue]:
        """Give what `from_json` takes."""
        return {
            "kind": "category",
            "count": self.count,
            "missing": _short(self.missing),
            "shares": {name: _short(share) for name, share in self.shares.items()},
            "distinct": self.distinct,
            "unseen": _short(self.unseen),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:  # JSON
        """Read what `to_json` gave; raises KeyError, TypeError, ValueError or AttributeError."""
        shares = {str(name): float(share) for name, share in stored["shares"].items()}
        missing, unseen = float(stored["missing"]), float(stored["unseen"])
        return cls(int(stored["count"]), missing, shares, int(stored["distinct"]), unseen)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Keep the distribution of every signal over `count` of the user's own samples."""

    signals: Mapping[str, NumberBaseline | CategoryBaseline]
    count: int

    def to_json(self) -> dict[str, JsonValue]:
        """Give what `from_json` takes: what a bundle holds."""
        signals = {name: signal.to_json() for name, signal in sorted(self.signals.items())}
        return {"version": _VERSION, "count": self.count, "signals": cast(JsonValue, signals)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self | None:  # JSON
        """Read what a bundle holds; None where it was written before there were signals. Raises BundleError."""
        if "signals" not in stored:
            return None
        if stored.get("version") != _VERSION:
            raise BundleError(f"the bundle's baseline is of version {stored.get('version')!r:.40}", hint=_AGAIN)
        signals: dict[str, NumberBaseline | CategoryBaseline] = {}
        try:
            for name, signal in stored["signals"].items():
                kind: type[NumberBaseline | CategoryBaseline] = {
                    "number": NumberBaseline,
                    "category": CategoryBaseline,
                }[signal["kind"]]
                signals[name] = kind.from_json(signal)
            return cls(signals, int(stored["count"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BundleError(f"the bundle's baseline can't be read: {error!r:.200}", hint=_AGAIN) from None


def make_baseline(columns: Columns) -> Baseline:
    """Describe signals, each with one value for every sample; one that has no value anywhere is left out."""
    described = {name: _describe(values) for name, values in columns.items()}
    count = max((len(values) for values in columns.values()), default=0)
    return Baseline({name: signal for name, signal in described.items() if signal is not None}, count)


def numbers_of(values: Sequence[Value]) -> Floats:
    """Give a signal's values [N] as numbers: NaN where there is none, or a text."""
    try:
        return np.asarray(values, np.float64).reshape(-1)  # None becomes NaN
    except (TypeError, ValueError):
        return np.asarray([value if isinstance(value, int | float) else np.nan for value in values], np.float64)


def tidy(values: Floats) -> Floats:
    """Round to float32, infinities to its ends: numbers that a baseline takes for equal become equal."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(values, np.float64).astype(np.float32).astype(np.float64)
    return np.asarray(np.clip(rounded, -_LARGEST, _LARGEST), np.float64)


def _describe(values: Sequence[Value]) -> NumberBaseline | CategoryBaseline | None:
    if any(isinstance(value, str) for value in values):
        return _describe_categories(values)
    numbers = numbers_of(values)
    known = np.sort(tidy(numbers[~np.isnan(numbers)]))
    if not known.size:
        return None
    finite = known[np.abs(known) < _LARGEST]
    return NumberBaseline(
        count=len(numbers),
        missing=(len(numbers) - known.size) / len(numbers),
        mean=float(finite.mean()) if finite.size else 0.0,
        std=float(finite.std()) if finite.size else 0.0,
        quantiles=_quantiles(known),
        low=float(known[0]),
        high=float(known[-1]),
    )


def _quantiles(ascending: Floats) -> Floats:
    count = len(ascending)
    if count <= MOST_QUANTILES:
        return ascending
    ranks = np.arange(1, MOST_QUANTILES + 1) / (MOST_QUANTILES + 1)
    return ascending[np.minimum((ranks * count).astype(np.int64), count - 1)]


def _describe_categories(values: Sequence[Value]) -> CategoryBaseline:
    counts = Counter(str(value) for value in values if value is not None and value == value)
    total = counts.total()
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    shares = {name: count / total for name, count in ranked[:MOST_CATEGORIES]}
    if rest := sum(count for _, count in ranked[MOST_CATEGORIES:]):
        shares[OTHER] = shares.get(OTHER, 0.0) + rest / total
    once = sum(count == 1 for count in counts.values())
    missing = (len(values) - total) / len(values)
    return CategoryBaseline(len(values), missing, shares, len(counts), once / total)


def _short(value: float) -> float:
    """Give the shortest number that is the same float32."""
    return float(str(np.float32(value)))
