"""Tell where measurements scatter so much that what was chosen by them means little."""

from collections.abc import Sequence

from ferryman.client.load import Histogram
from ferryman.core.bundle import CurvePoint

_FAR = 2  # times


def scatter_of(
    alone: Histogram | None, curve: Sequence[CurvePoint], *, limit_ms: float, found_rps: float, kept_rps: float
) -> tuple[str, ...]:
    """Say each sign of a disturbed machine; `alone` are the latencies of one caller alone, where they were measured.

    `found_rps` is the rate that the trials found, `kept_rps` the one that the curve confirms.
    """
    found = []
    alone_ms = alone.percentile(0.99) * 1e3 if alone is not None else 0.0
    if alone is not None and alone_ms > limit_ms:
        median_ms = alone.percentile(0.5) * 1e3
        found.append(
            f"one request alone took {median_ms:.3f} ms at the median, and {alone_ms:.3f} ms at the 99th percentile: "
            f"over the limit of {limit_ms:g} ms without any load"
        )
    broken = [point for point in curve if point.rate_rps < kept_rps and not _keeps(point, limit_ms)]
    if broken:
        p99 = "no p99" if broken[0].p99_ms is None else f"a p99 of {broken[0].p99_ms:g} ms"
        found.append(
            f"{broken[0].rate_rps:.1f} requests/s had {p99}, where the higher rate of {kept_rps:.1f} kept the limit"
        )
    if found_rps > _FAR * kept_rps:
        found.append(f"the trials found {found_rps:.1f} requests/s, and the curve confirms {kept_rps:.1f}")
    return tuple(found)


def _keeps(point: CurvePoint, limit_ms: float) -> bool:
    return point.p99_ms is not None and point.p99_ms <= limit_ms
