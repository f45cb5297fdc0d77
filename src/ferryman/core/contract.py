"""The promise: what a model must keep, and how it is judged."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Preference = Literal["latency", "size", "memory", "accuracy"]

SERVER_MIB = 192
"""What a server takes beside the process that holds the model: its front, and what workers are forked from."""
_HEAD_ROOM = 1.25  # decoded pictures, batches, and what the kernel keeps of its files
_MIB = 1024 * 1024


def serving_mib(max_rss_mb: float) -> int:
    """Give the MiB that a copy of a server may take where the model's process was promised 10^6 bytes `max_rss_mb`."""
    return math.ceil(max_rss_mb * 1e6 * _HEAD_ROOM / _MIB) + SERVER_MIB


class DriftPolicy(BaseModel):
    """Say how often a false drift alarm may come, and what is no drift."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    false_alarms: str = Field(
        "1 per 30 days",
        pattern=r"^[1-9]\d* per [1-9]\d* (hour|day|week)s?$",
        description="How often an alarm may come where nothing has changed: thresholds follow from it.",
    )
    season: Literal["none", "day", "week"] = Field(
        "day", description="The rhythm whose hours are compared with the same hours, as soon as two of it were seen."
    )
    tolerance: Annotated[float, Field(ge=0, le=1)] = Field(
        0.03,
        description="Difference that any two days have, in standard deviations of a signal's rank: about six times as "
        "much is the least that is ever found.",
    )

    @property
    def interval_s(self) -> float:
        """Give the mean time between false alarms that is allowed, in seconds."""
        count, _, units, unit = self.false_alarms.split()
        seconds = {"hour": 3600.0, "day": 86400.0, "week": 7 * 86400.0}[unit.removesuffix("s")]
        return int(units) * seconds / int(count)


class TargetPromise(BaseModel):
    """Hold what one target of `build.targets` asks for on top of the contract."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_size_mb: Positive | None = Field(None, description="Largest size of its model's files, in 10^6 bytes.")
    prefer: Preference | None = Field(None, description="Which of the candidates that run there is best.")


class Contract(BaseModel):
    """Hold the promises of ferryman.toml's `[contract]`; None where nothing is promised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str | None = Field(None, description="The metric that must not drop; the task's usual one by default.")
    max_drop: NotNegative = Field(
        0.01,
        description="Largest loss of the metric against the source model: absolute, or for errors (rmse, mae) as a "
        "share of the source's own.",
    )
    max_score_shift: Share = Field(0.05, description="Largest mean change of confidence against the source model.")
    max_box_shift: Share = Field(
        0.15,
        description="Largest mean change of boxes against the source model's (1 - IoU), where no labels tell the drop.",
    )
    max_calibration_shift: Share | None = Field(
        None,
        description="Largest rise of the expected calibration error: how far confidences are from the share of answers "
        "that are right, on average, against the source model's.",
    )
    max_error: Positive = Field(
        1e-3, description="Largest relative tensor error of a candidate that keeps the source's precision."
    )
    p99_ms: Positive | None = Field(None, description="Largest 99th percentile of latency, in milliseconds.")
    at_rps: Positive | None = Field(None, description="Requests a second (Poisson arrivals) at which p99_ms holds.")
    max_size_mb: Positive | None = Field(None, description="Largest size of the model's files, in 10^6 bytes.")
    max_rss_mb: Positive | None = Field(None, description="Largest resident memory of a serving process, 10^6 bytes.")
    max_cold_start_s: Positive | None = Field(None, description="Longest time from process start to first answer.")
    drift: DriftPolicy = Field(default_factory=DriftPolicy, description="How often a false drift alarm may come.")
    prefer: Preference = Field("latency", description="Of the candidates that keep the promise, which is best.")
    targets: dict[str, TargetPromise] = Field(
        default_factory=dict, description="What a target of build.targets asks for beside: [contract.targets.browser]."
    )


class Clause(BaseModel):
    """Hold one promise beside its measurement. `holds` is None where it was not measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    promised: float
    measured: float | None
    unit: str = ""
    holds: bool | None = None


_UNITS = {
    "max_drop": "",
    "max_score_shift": "",
    "max_box_shift": "",
    "max_calibration_shift": "",
    "max_error": "",
    "p99_ms": "ms",
    "max_size_mb": "MB",
    "max_rss_mb": "MB",
    "max_cold_start_s": "s",
}


_NOISE = 1e-9
"""What sums of floats are off by: 1 - 0.99 is 0.010000000000000009, and keeps a promise of 0.01."""


def tolerated(promised: float) -> float:
    """Give the largest figure that keeps a promise: what is promised, and the noise of floats."""
    return promised + _NOISE * (1 + abs(promised))


def judge(contract: Contract, measured: Mapping[str, float | None]) -> list[Clause]:
    """Set each promise beside what was measured under the same name; NaN never holds."""
    clauses = []
    for name, unit in _UNITS.items():
        promised = getattr(contract, name)
        if promised is None or name not in measured:
            continue
        value = measured[name]
        holds = None if value is None else bool(value <= tolerated(promised))
        clauses.append(Clause(name=name, promised=promised, measured=value, unit=unit, holds=holds))
    return clauses


def broken(clauses: list[Clause]) -> list[Clause]:
    """Give the clauses that were measured and don't hold."""
    return [clause for clause in clauses if clause.holds is False]
