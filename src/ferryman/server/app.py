"""The only wiring: settings and bundles to a server, and its life from its port to its last answer."""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop

from ferryman import __version__
from ferryman.bundle.layout import MANIFEST
from ferryman.core.bundle import Bundle
from ferryman.core.engine_cache import engines_folder
from ferryman.core.errors import ConfigError, FerrymanError
from ferryman.core.scratch import choose_temporary_folder
from ferryman.core.service_manager import HANDED, NOT_READY, notify, watchdog_s
from ferryman.server.control.actor import Actor
from ferryman.server.control.admin import admin_routes, repository_routes
from ferryman.server.control.crew import ControlSettings, Crew, NoMemory
from ferryman.server.control.extension import Extension
from ferryman.server.control.forever import forever
from ferryman.server.control.repository import Repository
from ferryman.server.control.rollout import Rollouts
from ferryman.server.control.rollout_admin import rollout_routes
from ferryman.server.control.state import State
from ferryman.server.control.watching import Watching
from ferryman.server.data.ask import Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.certificates import Certificates
from ferryman.server.data.gate.gate import Callers, Gate
from ferryman.server.data.gate.jwt_file import read_jwt_settings
from ferryman.server.data.gate.key_store import KeyStore
from ferryman.server.data.gate.rights_file import follow_rights
from ferryman.server.data.gate.tokens import JwtVerifier
from ferryman.server.data.http.intake import Intake
from ferryman.server.data.http.tls import Certificate, TlsFiles
from ferryman.server.data.job import Job, Loaded
from ferryman.server.data.lane import Lane, LaneLimits
from ferryman.server.data.signals.access_log import AccessLog
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.served import ServedMetrics
from ferryman.server.data.signals.tracing import TraceSettings, Tracing
from ferryman.server.data.v2.clouds import CloudRoutes, cloud_routes
from ferryman.server.data.v2.journal import Journal
from ferryman.server.data.v2.pages import Pages
from ferryman.server.data.worker.link import Worker
from ferryman.server.data.worker.memory import give_back_memory
from ferryman.server.data.worker.zygote import Zygote
from ferryman.server.doors import Door, House, all_refused, drain_all, open_doors
from ferryman.server.settings import ServerSettings, doubts
from ferryman.supply.policy import make_policy

_STATE_FOLDER = ".ferryman"
_YOUNG_OBJECTS = 20_000  # requests leave no cycles: with Python's 700, every few of them would pay for a search
_TIDY_S = 2.0
_LARGE_BYTES = 4 * 1024 * 1024
_LAST_WORDS_S = 5.0  # after the drain's deadline, for telling those who wait
_log = logging.getLogger("ferryman.server")

OnReady = Callable[[str, str], None]
"""Hear a server's address and, where it has one, its admin's ("": none)."""


def serve(paths: Sequence[Path], settings: ServerSettings, on_ready: OnReady) -> None:
    """Serve bundles until SIGTERM or SIGINT, then drain; a second signal ends at once.

    `on_ready` gets the URLs when every model answers its golden samples right. Where one doesn't, the server stays
    up and unready, and the log and /v2/health/ready say why. Raises UserError for a port that can't be had and for
    bundles that can't be read, ContractBroken for one that doesn't keep its contract unless `allow_broken`.
    """
    if not paths:
        raise ConfigError("there is nothing to serve", hint="ferryman serve BUNDLE ...")
    _raise_file_limit()
    choose_temporary_folder()
    zygote = Zygote()
    zygote.branch()  # while nothing runs here yet
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_live(paths, settings, on_ready, zygote))
    finally:
        zygote.close()


def _raise_file_limit() -> None:
    """Allow as many open files as this process may have: each connection is one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _live(paths: Sequence[Path], settings: ServerSettings, on_ready: OnReady, zygote: Zygote) -> None:
    server = Server(paths, settings, zygote)
    try:
        await server.start(on_ready)
        await server.stopped.wait()
        if server.failure is not None:
            raise server.failure
    finally:
        await server.close()


class Server:
    """Hold all parts of one server; made and used on its loop.

    Making it opens the ports and checks what it is given; raises UserError and its like for what can't be.
    """

    def __init__(self, paths: Sequence[Path], settings: ServerSettings, zygote: Zygote) -> None:
        self.stopped = asyncio.Event()
        self.failure: Exception | None = None  # what kept it from ever serving
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._metrics = Metrics(with_triton_names=settings.triton_metrics)
        self._plane = Dataplane(self._loop)
        self._plane.is_ready_with_any = settings.ready_with == "any"
        crew = Crew(self._hire, self._open_lane, self._plane, self._metrics, _control_settings(settings))
        memory = _memory(paths, settings)
        self._repository = Repository(paths, crew, memory)
        self._repository.scan()
        self._rollouts = Rollouts(self._plane, self._repository, memory)
        self._callers = _callers(settings)
        self._plane.names_models = settings.keys is None and settings.jwt is None and settings.client_rights is None
        self._access_log = None if settings.access_log == "off" else AccessLog(settings.access_log)
        self._tracing = Tracing(TraceSettings(settings.otlp, settings.trace_ratio)) if settings.otlp else None
        self._door, self._admin_door = open_doors(settings, _certificate(settings))
        for doubt in doubts(settings):
            _log.warning("%s", doubt)
        self._are_large = False  # what was in work lately
        self._intake = Intake(limit_bytes=settings.max_body_bytes, total_bytes=settings.max_in_flight_bytes)
        self._zygote = zygote
        self._watching = self._make_watching() if settings.watches else None
        zygote.modules = tuple(self._repository.modules())

    @property
    def url(self) -> str:
        """Give the address to ask at."""
        return self._door.url

    async def start(self, on_ready: OnReady) -> None:
        """Answer, first with what is known without a model; returns once the ports answer."""
        self._zygote.start()
        self._callers.start()
        if self._access_log is not None:
            self._access_log.start(self._loop)
        if self._tracing is not None:
            self._tracing.start()
        extension = Extension(self._repository)
        house = House(
            plane=self._plane,
            pages=Pages(self._plane, self._metrics, server_version=__version__, clouds=_clouds(self._settings)),
            journal=Journal(self._metrics, self._access_log, self._tracing),
            intake=self._intake,
            settings=self._settings,
            repository=extension,
        )
        routes = repository_routes(extension)
        gate = Gate(self._callers, clock=self._loop.time)
        self._open = partial(self._door.start, house, gate, routes, is_admin=False)
        if self._settings.host != HANDED:
            await self._open_port()
        if self._admin_door is not None:
            routes = [*admin_routes(self._repository, self._plane, self.stop), *rollout_routes(self._rollouts)]
            routes += self._watching.routes() if self._watching is not None else []
            gate = Gate(self._callers, open_control=True, clock=self._loop.time)
            await self._admin_door.start(house, gate, routes, is_admin=True)
        self._watch_signals()
        self._watch_figures()
        self._begin(forever(self._tidy, "giving memory back", every_s=_TIDY_S))
        if (every_s := watchdog_s()) is not None:
            self._begin(forever(_beat, "telling the service manager", every_s=every_s))
        self._begin(self._load(on_ready))

    def _make_watching(self) -> Watching:
        actor = Actor(self._rollouts, self._repository, self._plane)
        return Watching(self._plane, self._metrics, self._zygote, self._settings.monitor, actor)

    async def _open_port(self) -> None:
        await self._open()
        self._begin(self._door.watch_certificate())

    async def close(self) -> None:
        """Free everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for door in self._doors():
            door.close()
        if self._watching is not None:
            await self._watching.close()
        await self._rollouts.close()
        await self._repository.close()
        self._zygote.close()
        self._callers.close()
        for signal_sink in (self._access_log, self._tracing):
            if signal_sink is not None:
                signal_sink.close()

    def stop(self) -> None:
        """Begin to drain; the second time, end."""
        if self._plane.is_draining:
            self.stopped.set()
            return
        self._plane.is_draining = True
        notify("STOPPING=1")
        for door in self._doors():
            door.leave()
        self._begin(self._drain())

    async def _load(self, on_ready: OnReady) -> None:
        try:
            await self._repository.start()
            await self._rollouts.resume()
        except Exception as error:  # noqa: BLE001 - a server that is up and has lost its way would look well
            self.failure = error
            self.stopped.set()
            return
        self._begin(self._rollouts.run())
        if self._watching is not None:
            self._begin(self._watching.run())
        gc.collect()
        gc.freeze()  # what is there now stays: no collection has to look at it again
        gc.set_threshold(_YOUNG_OBJECTS)
        if self._settings.host == HANDED:  # no balancer looks before it sends: who calls meanwhile waits in the queue
            await self._open_port()
        if reason := self._plane.why_not_ready():
            _log.error("not ready: %s/v2/health/ready: %s", self.url, reason)
            notify(f"STATUS={NOT_READY}{' '.join(reason.split())}")
        else:
            on_ready(self.url, self._admin_door.url if self._admin_door is not None else "")
            notify("READY=1")

    async def _tidy(self) -> None:
        """Give back what large requests took: the C library would keep it for more of them, for ever."""
        were_large, self._are_large = self._are_large, self._intake.take_most() > _LARGE_BYTES
        if were_large or self._are_large:  # once more when they are over: some was still in use
            await asyncio.to_thread(give_back_memory)

    async def _drain(self) -> None:
        """Be unready, then accept no more connections, then finish; answer what can't be finished in time."""
        await asyncio.sleep(self._settings.unready_s)
        deadline = self._loop.call_later(self._settings.drain_s, self._plane.abandon)
        try:
            await drain_all(self._doors(), self._settings.drain_s + _LAST_WORDS_S)
        finally:  # whatever fails here must not keep the process from ending
            deadline.cancel()
            self.stopped.set()

    def _doors(self) -> list[Door]:
        return [door for door in (self._door, self._admin_door) if door is not None]

    def _watch_figures(self) -> None:
        """Have /metrics tell what only the parts themselves know."""
        metrics, doors, log, tracing = self._metrics, self._doors(), self._access_log, self._tracing
        metrics.watch(
            "ferryman_model_ready", "1 where requests are answered, also by a model that comes back for them.",
            self._plane.readiness, labels=("model", "version"),
        )  # fmt: skip
        metrics.watch(
            "ferryman_device_engine", "1 where an engine that was built on this device answers.",
            self._repository.device_engines, labels=("model", "version", "engine", "state"),
        )  # fmt: skip
        metrics.watch(
            "ferryman_connections",
            "Open connections of both ports.",
            lambda: sum(door.open_connections for door in doors),
        )
        metrics.watch(
            "ferryman_refused_total", "Refused before it was a request: by HTTP's status, tls or http2.",
            partial(all_refused, doors), labels=("status",), kind="counter",
        )  # fmt: skip
        metrics.watch("ferryman_tls_expires_seconds", "Until the certificate expires.", lambda: self._door.expires_s)
        if log is not None:
            metrics.watch("ferryman_log_lines_lost_total", "Access log lines lost.", lambda: log.lost, kind="counter")
            metrics.watch(
                "ferryman_log_lines_suppressed_total", "Refusals that were too many to log.", lambda: log.suppressed,
                kind="counter",
            )  # fmt: skip
        if tracing is not None:
            metrics.watch("ferryman_spans_lost_total", "Spans lost.", lambda: tracing.lost, kind="counter")

    def _watch_signals(self) -> None:
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self._reopen}
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError, RuntimeError):  # outside of the main thread: its owner stops it
                self._loop.add_signal_handler(number, handler)

    def _reopen(self) -> None:
        """Go on in new files: the old ones were moved away."""
        if self._access_log is not None:
            self._access_log.reopen()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hire(self, on_free: Callable[[], None], on_lost: Callable[[str], None]) -> Worker:
        return Worker(self._zygote, on_free=on_free, on_lost=on_lost)

    def _open_lane(self, bundle: Bundle, loaded: Loaded, figures: ServedMetrics) -> Lane:
        asked = self._settings.max_batch or loaded.max_batch
        limits = LaneLimits(max_batch=min(asked, loaded.max_batch), max_waiting=self._settings.max_queue)
        lane = Lane(self._loop, limits, bundle.manifest.name)
        lane.on_job = partial(_note_job, figures, self._tracing)
        if self._watching is not None:
            self._watching.look_into(bundle, lane, figures)
        return lane


async def _beat() -> None:
    """Tell the service manager that the loop turns."""
    notify("WATCHDOG=1")


def _note_job(
    figures: ServedMetrics, tracing: Tracing | None, job: Job, results: Sequence[Reply | FerrymanError]
) -> None:
    """Count one call of the engine; the first request that was answered says what it took."""
    reply = next((result for result in results if isinstance(result, Reply)), None)
    if reply is None:
        return
    waited_s = max(0.0, job.started_s - job.asks[0].arrived_s)
    stages = replace(reply.stages, queue_s=reply.stages.queue_s + waited_s)
    figures.job(stages)
    for result in results:
        if isinstance(result, Reply) and not result.is_finite:
            figures.nonfinite()
    if tracing is not None:
        spans = [ask.trace for ask in job.asks if ask.trace is not None]
        tracing.job(spans, stages, time.monotonic())


def _control_settings(settings: ServerSettings) -> ControlSettings:
    return ControlSettings(
        threads=settings.threads,
        instances=settings.instances,
        processes=settings.processes,
        max_batch=settings.max_batch,
        drain_s=settings.drain_s,
        hang_s=settings.hang_s,
        probe_s=settings.probe_s,
        watch_s=settings.watch_s,
        max_worker_mb=settings.max_worker_mb,
        max_memory_mb=settings.max_memory_mb,
        allow_broken=settings.allow_broken,
        device_engine=settings.device_engine,
        engines=(settings.engines or engines_folder()).absolute(),
        engines_mb=settings.engines_mb,
        engine_build_s=settings.engine_build_s,
        policy=make_policy(settings.policy, settings.require_signature),
    )


def _clouds(settings: ServerSettings) -> CloudRoutes:
    for route in filter(None, (settings.health_route, settings.infer_route)):
        if not route.startswith("/"):
            raise ConfigError(f"'{route}' is no path to answer at", hint="it begins with /, as /predict")
    routes = cloud_routes(settings.health_route, settings.infer_route)
    if both := {*routes.health} & {*routes.infer}:
        raise ConfigError(f"'{both.pop()}' can't tell of health and answer, too", hint="choose two paths")
    return routes


def _memory(paths: Sequence[Path], settings: ServerSettings) -> State | NoMemory:
    """Give what remembers choices over a restart: in the folder that was named, else beside the first repository."""
    if settings.state is not None:
        state = State(settings.state)
        state.claim()
        return state
    repository = next((path for path in paths if path.is_dir() and not (path / MANIFEST).exists()), None)
    return State(repository / _STATE_FOLDER) if repository is not None else NoMemory()


def _callers(settings: ServerSettings) -> Callers:
    keys = KeyStore(settings.keys) if settings.keys is not None else None
    certificates = Certificates() if settings.client_ca is not None else None
    tokens = JwtVerifier(read_jwt_settings(settings.jwt)) if settings.jwt is not None else None
    rights = follow_rights(settings.client_rights, certificates) if settings.client_rights is not None else None
    return Callers(keys=keys, tokens=tokens, certificates=certificates, rights=rights)


def _certificate(settings: ServerSettings) -> Certificate | None:
    if settings.tls_cert is None and settings.tls_key is None:
        if settings.client_ca is not None:
            raise ConfigError("client certificates need TLS", hint="add --tls-cert and --tls-key")
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise ConfigError("TLS needs a certificate and its key", hint="give both --tls-cert and --tls-key")
    return Certificate(TlsFiles(settings.tls_cert, settings.tls_key, settings.client_ca), http2=True)
