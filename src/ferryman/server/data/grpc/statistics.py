"""What versions have done, as the protocol's message."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from ferryman.server.data.grpc.messages import message
from ferryman.server.data.models import Served
from ferryman.server.data.signals.served import ServedMetrics
from ferryman.server.data.v2.statistics import count_version

_Statistics: Final = message("inference.ModelStatisticsResponse")


def count_models(
    served: Sequence[Served], figures_of: Callable[[str, str], ServedMetrics | None]
) -> Any:  # a ModelStatisticsResponse
    """Tell what each version has done since the server began, whatever content it had."""
    return _Statistics(model_stats=[count_version(one, figures_of(one.name, one.version)) for one in served])
