"""What a version has done, as the protocol's statistics extension counts it."""

from typing import Any, Final

from ferryman.server.data.models import Served
from ferryman.server.data.signals.served import ServedMetrics

_STAGES: Final = ("queue", "compute_input", "compute_infer", "compute_output")  # as in ServedMetrics.weighted_s


def count_version(served: Served, figures: ServedMetrics | None) -> dict[str, Any]:  # JSON
    """Tell what a version has done since it was loaded.

    Times are nanoseconds, summed over the requests that were answered; of those that failed only the number is known.
    """
    counted: dict[str, Any] = {"name": served.name, "version": served.version}
    if figures is None:
        return {**counted, "inference_count": 0, "execution_count": 0, "inference_stats": _stats(0, 0, (0.0,) * 4)}
    answered = sum(count for (outcome, _), count in figures.requests.items() if outcome == "ok")
    failed = sum(figures.requests.values()) - answered
    return {
        **counted,
        "inference_count": figures.rows,
        "execution_count": figures.infer_s.count(),
        "inference_stats": _stats(answered, failed, tuple(figures.weighted_s)),
    }


def _stats(answered: int, failed: int, stages_s: tuple[float, ...]) -> dict[str, Any]:  # JSON
    return {
        "success": {"count": answered, "ns": round(sum(stages_s) * 1e9)},
        "fail": {"count": failed, "ns": 0},
        **{
            stage: {"count": answered, "ns": round(seconds * 1e9)}
            for stage, seconds in zip(_STAGES, stages_s, strict=True)
        },
    }
