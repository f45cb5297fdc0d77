"""What a bundle's proof says of its model: what live figures are held against."""

from dataclasses import dataclass

from ferryman.core.bundle import Bundle
from ferryman.core.proof import Reliability

SHARES = ("accuracy", "top1")
"""Metrics that are the share of answers that are right."""


@dataclass(frozen=True, slots=True)
class Promise:
    """Hold the bundle's own metric and on how many samples it was measured, and what the contract lets it lose.

    `right` is the share of answers that were right there, None where that wasn't measured (boxes, values);
    `reliability` how well confidences told it. `interval_s` is how long it takes, on average, to a false alarm.
    """

    metric: str
    value: float
    samples: int
    higher_is_better: bool
    max_drop: float
    interval_s: float
    right: float | None = None
    positive: str | None = None
    reliability: Reliability | None = None


def promise_of(bundle: Bundle) -> Promise | None:
    """Read it; None where the model was built without labels."""
    proof, contract = bundle.proof, bundle.deployment.contract
    winner = next((each for each in proof.candidates if each.name == proof.winner), None)
    if winner is None or winner.accuracy is None:
        return None
    measured = winner.accuracy
    figures = {**measured.figures, measured.metric: measured.value}
    return Promise(
        metric=measured.metric,
        value=measured.value,
        samples=measured.samples,
        higher_is_better=measured.higher_is_better,
        max_drop=contract.max_drop,
        interval_s=contract.drift.interval_s,
        right=next((figures[name] for name in SHARES if name in figures), None),
        positive=getattr(bundle.deployment.task, "positive", None),
        reliability=winner.calibration.candidate if winner.calibration is not None else None,
    )
