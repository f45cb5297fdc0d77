"""What Prometheus reads of a server: times in seconds, and no label that a request can grow."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ferryman.server.data.signals import families, triton
from ferryman.server.data.signals.exposition import Family, Kind, Labels, write
from ferryman.server.data.signals.outcomes import OTHER, REJECTIONS, RESTARTS
from ferryman.server.data.signals.processes import open_files, resident_bytes, tree
from ferryman.server.data.signals.served import ServedMetrics

Reading = float | Mapping[Labels, float] | None
"""A value, or one for each list of the labels' values; None where there is nothing to tell now."""

_KEPT_S = 900.0  # so long a version that left shows what it counted last, for those who look rarely


@dataclass(frozen=True, slots=True)
class _Watch:
    name: str
    kind: Kind
    help: str
    labels: Labels
    read: Callable[[], Reading]


class Metrics:
    """Hold a server's figures; use it from the loop's thread only.

    Series are made by `figures` alone, which the control plane calls: a request for an unknown name makes none. No
    counter ever goes back, whatever is loaded and let go.
    """

    def __init__(self, *, with_triton_names: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._with_triton_names = with_triton_names
        self._clock = clock
        self._served: dict[tuple[str, str], ServedMetrics] = {}
        self._left_s: dict[tuple[str, str], float] = {}
        self._restarts: Counter[tuple[str, str]] = Counter()
        self._rejected: dict[str, int] = dict.fromkeys(REJECTIONS, 0)
        self._watches: list[_Watch] = []
        self._started_s = time.time()

    def figures(self, name: str, version: str) -> ServedMetrics:
        """Give the figures of a version that is being loaded: those that it had before, or new ones."""
        self._left_s.pop((name, version), None)
        return self._served.setdefault((name, version), ServedMetrics(name, version))

    def served(self) -> list[ServedMetrics]:
        """Give the figures of every version that is, or lately was, loaded."""
        return list(self._served.values())

    def find(self, name: str, version: str) -> ServedMetrics | None:
        """Give the figures of a version that is, or was, served."""
        return self._served.get((name, version))

    def forget(self, name: str, version: str) -> None:
        """Know that a version is gone: what it counted is shown for a while, and goes on if it ever comes back."""
        figures = self._served.get((name, version))
        if figures is None:
            return
        figures.live = None
        if figures.is_blank:
            del self._served[name, version]
        else:
            self._left_s[name, version] = self._clock()

    def rejected(self, reason: str) -> None:
        """Count one request that was refused before any model saw it; the words are `outcomes.REJECTIONS`."""
        self._rejected[reason if reason in self._rejected else OTHER] += 1

    def restarted(self, model: str, reason: str) -> None:
        """Count one worker that was started again; the words are `outcomes.RESTARTS`."""
        self._restarts[model, reason if reason in RESTARTS else OTHER] += 1

    def watch(
        self, name: str, help: str, read: Callable[[], Reading], *, labels: Labels = (), kind: Kind = "gauge"
    ) -> None:
        """Ask `read` at each scrape: a mapping from the labels' values where there are labels, else one number."""
        self._watches.append(_Watch(name, kind, help, labels, read))

    def render(self, openmetrics: bool = False) -> tuple[bytes, str]:
        """Give the text and its content type; `exposition.wants_openmetrics` reads an Accept header."""
        shown_s = self._clock() - _KEPT_S
        served = [one for key, one in self._served.items() if self._left_s.get(key, math.inf) > shown_s]
        made = [*families.of_versions(served), *self._of_server(), *self._watched()]
        if self._with_triton_names:
            made += triton.families(served)
        return write(made, openmetrics=openmetrics)

    def _of_server(self) -> Iterable[Family]:
        rejected = Family(
            "ferryman_rejected_total", "counter", "Requests refused before a model, by reason.", ("reason",)
        )
        rejected.values = [((reason,), count) for reason, count in self._rejected.items()]
        restarts = Family(
            "ferryman_worker_restarts_total", "counter", "Workers started again, by reason.", ("model", "reason")
        )
        restarts.values = [(key, count) for key, count in self._restarts.items()]
        now = tree()
        return [
            rejected,
            restarts,
            _one("ferryman_process_cpu_seconds_total", "counter", "CPU time of the server and its workers.", now.cpu_s),
            _one("ferryman_processes", "gauge", "Processes of the server, workers included.", now.processes),
            _one(
                "ferryman_process_resident_bytes", "gauge", "Memory of the front process.", resident_bytes(os.getpid())
            ),
            _one("ferryman_process_open_fds", "gauge", "Files and sockets open in the front process.", open_files()),
            _one(
                "ferryman_process_start_time_seconds", "gauge", "When the server started, Unix time.", self._started_s
            ),
        ]

    def _watched(self) -> Iterable[Family]:
        for watch in self._watches:
            reading = watch.read()
            if isinstance(reading, Mapping):
                yield Family(watch.name, watch.kind, watch.help, watch.labels, [*reading.items()])
            elif reading is not None:
                yield _one(watch.name, watch.kind, watch.help, reading)


def _one(name: str, kind: Kind, help: str, value: float) -> Family:
    return Family(name, kind, help, (), [((), value)])
