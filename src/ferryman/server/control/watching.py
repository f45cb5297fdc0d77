"""How the watch is part of a server: what it hears, what /metrics tells of it, and what can be asked of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ferryman import __version__
from ferryman.core.bundle import Bundle
from ferryman.core.errors import InputError
from ferryman.core.recording import PayloadsSection
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.performance.feedback import read_feedback, write_feedback
from ferryman.monitor.store.sampling import PayloadRules
from ferryman.server.control.actor import Actor
from ferryman.server.control.admin_json import answer, read, told
from ferryman.server.control.forever import forever
from ferryman.server.control.live_figures import read_live
from ferryman.server.control.monitor_openapi import describe_monitor
from ferryman.server.control.silence_admin import silence_routes
from ferryman.server.control.watch_figures import read_figures
from ferryman.server.control.watcher import Watcher
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.lane import Lane
from ferryman.server.data.models import Served
from ferryman.server.data.signals.exposition import Kind
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.processes import tree
from ferryman.server.data.signals.served import ServedMetrics
from ferryman.server.data.v2.addresses import Route
from ferryman.server.data.worker.zygote import Zygote
from ferryman.server.watching.orders import Watched

_EVERY_S = 2.0
_PERFORMANCE = (
    ("ferryman_metric_drop", "Least drop of the contract's metric that late labels leave possible.", "drop"),
    ("ferryman_metric_value", "The metric over the latest labelled items, 3,000 at most.", "metric"),
    ("ferryman_metric_estimate", "Share of right answers of a day that confidences let expect.", "estimate"),
    ("ferryman_labelled_items", "Labelled items that the metric stands on, 3,000 at most.", "labelled"),
)
_MACHINE: tuple[tuple[str, str, str, Kind], ...] = (
    ("ferryman_disk_free_share", "Free part of the disk that records are on.", "disk_free", "gauge"),
    ("ferryman_temperature_celsius", "Of the hottest part of the machine.", "temperature_c", "gauge"),
    ("ferryman_processors_slowed", "1 where heat or the power supply slow them down.", "slowed", "gauge"),
    (
        "ferryman_cpu_quota_used_up_share",
        "Share of the time in which the container's CPU limit was used up.",
        "quota_used_up",
        "gauge",
    ),
    ("ferryman_energy_joules_total", "Energy of all processors since the watch began.", "joules", "counter"),
)
_GPUS = (
    ("ferryman_gpu_busy_share", "Share of the time in which a GPU worked.", "busy"),
    ("ferryman_gpu_used_bytes", "Memory of a GPU that is taken, by all processes.", "used_bytes"),
    ("ferryman_gpu_total_bytes", "Memory of a GPU.", "total_bytes"),
    ("ferryman_gpu_temperature_celsius", "Of a GPU.", "temperature_c"),
    ("ferryman_gpu_power_watts", "What a GPU takes now.", "power_w"),
    ("ferryman_gpu_slowed", "1 where heat or the power supply slow a GPU down.", "slowed"),
)


class Watching:
    """Keep a watch beside a dataplane; `run` goes on until it is cancelled."""

    def __init__(self, plane: Dataplane, metrics: Metrics, zygote: Zygote, folder: Path | None, actor: Actor) -> None:
        self._plane = plane
        self._actor = actor
        self._metrics = metrics
        self._watched: dict[tuple[str, ...], Watched] = {}
        self._watcher = Watcher(zygote, folder)
        plane.observers += [self._watcher.post.heard, self._watcher.samples.heard]
        self._keeps = folder is not None
        self._lost: Counter[str] = Counter()  # of which the watch was told
        self._spent_s = 0.0  # CPU time of turns
        self._show(metrics)

    def look_into(self, bundle: Bundle, lane: Lane, figures: ServedMetrics) -> None:
        """Have calls of a lane looked into, where its bundle has a baseline, and answers held against its contract."""
        cost = bundle.deployment.monitor.cost
        if (p99_ms := bundle.deployment.contract.p99_ms) is not None:
            figures.limit_s = p99_ms / 1000
        baseline = Baseline.from_json(bundle.baseline)
        if cost and baseline is not None and baseline.signals:
            lane.look = self._watcher.looks(cost)

    async def run(self) -> None:
        """Tell the watch what is served, and keep what it costs within its share, every two seconds."""
        await forever(self._turn, "the watch's front", every_s=_EVERY_S)

    def routes(self) -> list[Route]:
        """Give the handlers of the admin listener."""
        return [
            ("GET", "/v1/monitor", told(partial(self._answer, "status"))),
            ("GET", "/v1/monitor/live", told(self._live)),
            ("GET", "/v1/monitor/openapi.json", told(self._describe)),
            ("GET", "/v1/monitor/drift", told(partial(self._answer, "drift"))),
            ("GET", "/v1/monitor/alerts", told(partial(self._answer, "alerts"))),
            ("GET", "/v1/monitor/actions", told(partial(self._answer, "actions"))),
            ("GET", "/v1/monitor/performance", told(partial(self._answer, "performance"))),
            ("POST", "/v1/monitor/feedback", told(self._feedback)),
            *silence_routes(self._watcher),
        ]

    async def close(self) -> None:
        """End the watch."""
        await self._actor.close()
        await self._watcher.close()

    async def _turn(self) -> None:
        began_s = time.thread_time()
        readiness = self._plane.readiness()
        for served in self._plane.models():
            path = str(served.bundle.path.absolute())
            key = (served.name, served.version)
            self._watched[key] = Watched(*key, path, served.bundle.manifest.digest)
        # A version whose workers are all lost is watched on: that it is down is what somebody has to hear.
        self._watched = {key: each for key, each in self._watched.items() if key in readiness}
        self._watcher.watch([each for _, each in sorted(self._watched.items())])
        if self._keeps:
            self._watcher.samples.use(_payload_rules(self._plane.models()))
        self._spent_s += time.thread_time() - began_s
        cpu_s, figures, looked_s = await asyncio.to_thread(_look, self._metrics.served(), readiness)
        began_s = time.thread_time()
        self._watcher.balance(cpu_s, self._spent_s)
        if self._watcher.is_watching:
            for each in figures:
                each["active"] = self._plane.active(each["model"]) == each["version"]
            self._act(self._watcher.status.get("orders", ()))
            if more := self._watcher.post.lost - self._lost:
                self._lost.update(more)
                self._watcher.post.tell("lost", dict(more))
            self._watcher.post.tell("figures", figures)  # at which the watch takes its turn, too
        self._spent_s += time.thread_time() - began_s + looked_s

    def _act(self, orders: Sequence[Mapping[str, Any]]) -> None:  # JSON
        """Have orders of the watch done, and tell it again what became of those that it goes on giving."""
        for end in self._actor.take(orders):
            self._watcher.post.tell("acted", end)

    async def _answer(self, about: str, _: Request, __: dict[str, str]) -> Response:
        return answer(await self._watcher.ask(about))

    async def _live(self, _: Request, __: dict[str, str]) -> Response:
        cpu_s = (await asyncio.to_thread(tree)).cpu_s
        return answer(read_live(self._metrics.served(), self._plane, self._watcher, cpu_s))

    async def _describe(self, _: Request, __: dict[str, str]) -> Response:
        return answer(describe_monitor(__version__))

    async def _feedback(self, request: Request, _: dict[str, str]) -> Response:
        rows = read(request, "feedback").get("feedback")
        if not isinstance(rows, list) or not rows:
            raise InputError("key 'feedback' must be a list", hint='{"feedback": [{"id": "REQUEST", "truth": "car"}]}')
        feedback = write_feedback(read_feedback(rows, time.time()))
        return answer(await self._watcher.ask("feedback", feedback), 202)

    def _show(self, metrics: Metrics) -> None:
        watcher, by_version = self._watcher, ("model", "version")
        self._show_records(metrics)
        metrics.watch(
            "ferryman_watch_restarts_total", "Starts of the watch after it ended.", watcher.restarts, kind="counter"
        )
        metrics.watch("ferryman_watch_share", "Share of the calls that are looked into.", watcher.share)
        metrics.watch(
            "ferryman_drifted", "1 where requests are no longer like the baseline.",
            partial(watcher.of_drift, "drifted"), labels=by_version,
        )  # fmt: skip
        metrics.watch(
            "ferryman_drift_score", "How far a signal is from its baseline; over the threshold it has moved.",
            watcher.scores, labels=(*by_version, "signal"),
        )  # fmt: skip
        metrics.watch(
            "ferryman_drift_threshold", "The score that stands for drift: as often a false alarm as was stated.",
            partial(watcher.of_drift, "threshold"), labels=by_version,
        )  # fmt: skip
        for name, words, figure in _PERFORMANCE:
            metrics.watch(name, words, partial(watcher.of_performance, figure), labels=by_version)
        for name, words, figure, kind in _MACHINE:
            metrics.watch(name, words, partial(watcher.of_machine, figure), kind=kind)
        metrics.watch(
            "ferryman_model_energy_joules_total", "A version's part of it, by its share of the busy time.",
            watcher.model_joules, labels=by_version, kind="counter",
        )  # fmt: skip
        for name, words, figure in _GPUS:
            metrics.watch(name, words, partial(watcher.of_gpus, figure), labels=("gpu", "name"))
        metrics.watch(
            "ferryman_alert_state", "2 where an alert fires, 1 where it is pending.", watcher.alerts,
            labels=("rule", *by_version, "severity"),
        )  # fmt: skip
        metrics.watch(
            "ferryman_notices_total", "What was told to receivers, by what became of it.",
            watcher.notices, labels=("receiver", "result"), kind="counter",
        )  # fmt: skip
        metrics.watch(
            "ferryman_actions_total", "What was done because of alerts, by how it ended.",
            watcher.actions, labels=("action", "outcome"), kind="counter",
        )  # fmt: skip
        metrics.watch(
            "ferryman_actions_stopped", "1 where a person must look: too much was done by itself within a day.",
            watcher.stopped, labels=by_version,
        )  # fmt: skip

    def _show_records(self, metrics: Metrics) -> None:
        watcher = self._watcher
        metrics.watch("ferryman_records_total", "Records that the watch took.", watcher.records, kind="counter")
        metrics.watch(
            "ferryman_records_lost_total", "Records that were lost on their way, by reason.", watcher.lost,
            labels=("reason",), kind="counter",
        )  # fmt: skip
        metrics.watch(
            "ferryman_payloads_total",
            "Payloads that were kept since the watch began.",
            watcher.payloads,
            kind="counter",
        )
        metrics.watch(
            "ferryman_records_left_out_total", "Answered requests without a record: their calls were not looked into.",
            watcher.left_out, kind="counter",
        )  # fmt: skip


def _payload_rules(models: Iterable[Served]) -> dict[tuple[str, str], PayloadsSection]:
    """Give the rules of versions that keep any payload: those of all others cost nothing."""
    sections = {(served.name, served.version): served.bundle.deployment.monitor.records.payloads for served in models}
    return {key: section for key, section in sections.items() if PayloadRules(section).keep_any}


def _look(
    served: Sequence[ServedMetrics], readiness: Mapping[tuple[str, ...], float]
) -> tuple[float, list[dict[str, Any]], float]:  # JSON: watch_figures
    """Give the CPU time of all processes, the figures of each version, and the CPU time that this took."""
    began_s = time.thread_time()
    cpu_s, figures = tree().cpu_s, read_figures(served, readiness)
    return cpu_s, figures, time.thread_time() - began_s
