"""The nouns of a report; times are Unix times and seconds, shares are between 0 and 1, None is what isn't known."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FORM = 1
"""Of the JSON; it grows only where a key changes its meaning or goes."""


LEAST_DISTANCE = 0.05


@dataclass(frozen=True, slots=True)
class Slot:
    """Hold what came within one span of the range: records of requests, and all requests where the diary counts them.

    `failed` were the server's fault; `refused` the caller's, or were taken back. Latency is of answers that are `ok`.
    """

    at_s: float
    records: int
    failed: int
    refused: int
    p50_s: float | None
    p99_s: float | None
    requests: int | None = None
    requests_failed: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """Hold a signal's 10th, 50th and 90th percentile within one span."""

    at_s: float
    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Name a picture that was kept: redacted as it lies there, with the boxes of its answer in its own pixels."""

    id: str
    model: str
    version: str
    at_s: float
    why: str
    jpeg: bytes
    width: int
    height: int
    boxes: Sequence[tuple[float, float, float, float]] = ()
    labels: Sequence[str] = ()
    told: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """Show a request beside the signal that it is an example of: a picture, or the beginning of what was kept."""

    id: str
    at_s: float
    why: str
    value: float | str
    sample: Sample | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class SignalReport:
    """Set a signal of the range beside what it was before.

    `distance` is between the two distributions: of Kolmogorov and Smirnov for numbers (at up to 33 places), total
    variation for categories; 0 where they are the same, 1 where they have nothing in common. Over `chance` it is more
    than independent items would do by chance once in a hundred reports. `before` and `after` are quantiles at the
    report's `ranks`, for categories the shares by name.
    """

    name: str
    kind: str  # "number" or "category"
    items: int
    missing: float
    missing_before: float
    distance: float
    chance: float
    text: str
    before: Sequence[float] | Mapping[str, float]
    after: Sequence[float] | Mapping[str, float]
    over_time: Sequence[Moment] = ()
    examples_before: Sequence[Example] = ()
    examples_after: Sequence[Example] = ()

    @property
    def has_moved(self) -> bool:
        """Tell whether it surely differs by more than 0.05: many items make any difference more than chance."""
        return self.distance - self.chance >= LEAST_DISTANCE


@dataclass(frozen=True, slots=True)
class VersionReport:
    """Say what became of one version of a model.

    `records` are of requests, `looked_into` those with signals, `items` their items. `outcomes` are of records,
    `requests` of all requests as the server counted them; None where no diary did. `served` has spans, the end None
    where it is still served. `cpu_s` are CPU seconds of the version's workers. `before` says what signals are set
    beside: "baseline", "records" of the time before, "".
    """

    model: str
    version: str
    digest: str
    records: int
    looked_into: int
    items: int
    first_s: float
    last_s: float
    outcomes: Mapping[str, int]
    requests: Mapping[str, int] | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    max_s: float | None
    stages: Mapping[str, float | None]
    slots: Sequence[Slot]
    cpu_s: float | None = None
    served: Sequence[tuple[float, float | None]] = ()
    promised_p99_s: float | None = None
    before: str = ""
    signals: Sequence[SignalReport] = ()
    drift: Sequence[Mapping[str, Any]] = ()  # JSON: the diary's


@dataclass(frozen=True, slots=True)
class Report:
    """Hold all that a page shows."""

    made_s: float
    since_s: float
    until_s: float
    slot_s: float
    ranks: Sequence[float]
    versions: Sequence[VersionReport] = ()
    left_out: int = 0  # versions with fewest records, beyond those that are told
    later: int = 0  # records of a time after the range's end: the clock was ahead
    alerts: Sequence[Mapping[str, Any]] = ()  # JSON: the diary's
    actions: Sequence[Mapping[str, Any]] = ()  # JSON: the diary's
    losses: Mapping[str, int] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    payloads: int = 0
    skipped: Sequence[str] = ()
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give all of it, pictures left out; NaN may be in it, which JSON has no word for."""
        told = asdict(self)
        for version, one in zip(told["versions"], self.versions, strict=True):
            for signal, of in zip(version["signals"], one.signals, strict=True):
                signal["has_moved"] = of.has_moved
                for example in (*signal["examples_before"], *signal["examples_after"]):
                    if example["sample"]:
                        del example["sample"]["jpeg"]
        for sample in told["samples"]:
            del sample["jpeg"]
        return {"form": FORM, **told}
