"""What Prometheus reads of a server: times in seconds, and no label that a request can grow."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ferryman.core.errors import FerrymanError, NotFound, NotReady, Overloaded, TooLarge, UserError

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OUTCOMES: tuple[tuple[type[FerrymanError], str], ...] = (
    (UserError, "invalid"),
    (NotFound, "not_found"),
    (NotReady, "not_ready"),
    (TooLarge, "too_large"),
    (Overloaded, "overloaded"),
)


class Metrics:
    """Hold a server's figures in a registry of its own; the only label that varies is a served model's name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.request_s = Histogram(
            "ferryman_request_seconds",
            "Time from a request's headers to its answer.",
            ["model"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.inference_s = Histogram(
            "ferryman_inference_seconds",
            "Time of one call of the engine.",
            ["model"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.requests = Counter(
            "ferryman_requests", "Requests by how they ended.", ["model", "outcome"], registry=registry
        )
        self.golden_ok = Gauge(
            "ferryman_golden_ok", "1 where the golden samples answered right, else 0.", ["model"], registry=registry
        )
        self.in_flight = Gauge("ferryman_requests_in_flight", "Requests that wait or run.", registry=registry)

    def render(self) -> bytes:
        """Give Prometheus' text format."""
        return generate_latest(self._registry)


def outcome_of(error: BaseException | None) -> str:
    """Name how a request ended."""
    if error is None:
        return "ok"
    return next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), "failed")
