"""What versions have done, as the protocol counts it."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from ferryman.server.data.grpc.messages import message
from ferryman.server.data.models import Served
from ferryman.server.data.signals.served import ServedMetrics

_Statistics = message("inference.ModelStatisticsResponse")
_STAGES: Final = ("queue", "compute_input", "compute_infer", "compute_output")  # as in ServedMetrics.weighted_s


def count_models(
    served: Sequence[Served], figures_of: Callable[[str, str], ServedMetrics | None]
) -> Any:  # a ModelStatisticsResponse
    """Tell what each version has done since it was loaded.

    Times are sums over the requests that were answered; of those that failed only the number is known.
    """
    answer = _Statistics()
    for one in served:
        counted = answer.model_stats.add(name=one.name, version=one.version)
        figures = figures_of(one.name, one.version)
        if figures is not None:
            _fill(counted, figures)
    return answer


def _fill(counted: Any, figures: ServedMetrics) -> None:  # a ModelStatistics
    counted.inference_count, counted.execution_count = figures.rows, figures.infer_s.count()
    stats = counted.inference_stats
    for (outcome, _), count in figures.requests.items():
        (stats.success if outcome == "ok" else stats.fail).count += count
    stats.success.ns = round(sum(figures.weighted_s) * 1e9)
    for stage, seconds in zip(_STAGES, figures.weighted_s, strict=True):
        duration = getattr(stats, stage)
        duration.count, duration.ns = stats.success.count, round(seconds * 1e9)
