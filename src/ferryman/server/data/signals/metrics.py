"""What Prometheus reads of a server: times in seconds, and no label that a request can grow."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ferryman.server.data.signals import families, triton
from ferryman.server.data.signals.exposition import Family, Kind, write
from ferryman.server.data.signals.outcomes import OTHER, REJECTIONS, RESTARTS
from ferryman.server.data.signals.processes import open_files, resident_bytes, tree
from ferryman.server.data.signals.served import ServedMetrics

Reading = float | Mapping[str, float] | None
"""A value, or one for each value of the label; None where there is nothing to tell now."""


@dataclass(frozen=True, slots=True)
class _Watch:
    name: str
    kind: Kind
    help: str
    label: str
    read: Callable[[], Reading]


class Metrics:
    """Hold a server's figures; use it from the loop's thread only.

    Series are made by `put` alone, which the control plane calls: a request for an unknown name makes none.
    """

    def __init__(self, *, with_triton_names: bool = False) -> None:
        self._with_triton_names = with_triton_names
        self._served: dict[tuple[str, str], ServedMetrics] = {}
        self._restarts: Counter[tuple[str, str]] = Counter()
        self._rejected: dict[str, int] = dict.fromkeys(REJECTIONS, 0)
        self._watches: list[_Watch] = []
        self._started_s = time.time()

    def put(self, figures: ServedMetrics) -> None:
        """Show a version's figures, in the place of those that were shown for it before."""
        self._served[figures.name, figures.version] = figures

    def find(self, name: str, version: str) -> ServedMetrics | None:
        """Give the figures of a version, if it is served."""
        return self._served.get((name, version))

    def forget(self, name: str, version: str) -> None:
        """Take a version's series away, and its model's with the last one."""
        self._served.pop((name, version), None)
        if not any(model == name for model, _ in self._served):
            for key in [key for key in self._restarts if key[0] == name]:
                del self._restarts[key]

    def rejected(self, reason: str) -> None:
        """Count one request that was refused before any model saw it; the words are `outcomes.REJECTIONS`."""
        self._rejected[reason if reason in self._rejected else OTHER] += 1

    def restarted(self, model: str, reason: str) -> None:
        """Count one worker that was started again; the words are `outcomes.RESTARTS`."""
        self._restarts[model, reason if reason in RESTARTS else OTHER] += 1

    def watch(
        self, name: str, help: str, read: Callable[[], Reading], *, label: str = "", kind: Kind = "gauge"
    ) -> None:
        """Ask `read` at each scrape: a mapping from the label's values where there is a label, else one number."""
        self._watches.append(_Watch(name, kind, help, label, read))

    def render(self, openmetrics: bool = False) -> tuple[bytes, str]:
        """Give the text and its content type; `exposition.wants_openmetrics` reads an Accept header."""
        served = list(self._served.values())
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
                values = [((label,), value) for label, value in reading.items()]
                yield Family(watch.name, watch.kind, watch.help, (watch.label,), [*values])
            elif reading is not None:
                yield _one(watch.name, watch.kind, watch.help, reading)


def _one(name: str, kind: Kind, help: str, value: float) -> Family:
    return Family(name, kind, help, (), [((), value)])
