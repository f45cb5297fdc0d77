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
from ferryman.core.errors import ConfigError, FerrymanError
from ferryman.server.control.admin import admin_routes, repository_routes
from ferryman.server.control.crew import ControlSettings, Crew, NoMemory
from ferryman.server.control.repository import Repository
from ferryman.server.control.rollout import Rollouts
from ferryman.server.control.rollout_admin import rollout_routes
from ferryman.server.control.state import State
from ferryman.server.data.ask import Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.certificates import Certificates, CertificateSettings
from ferryman.server.data.gate.gate import Callers, Gate
from ferryman.server.data.gate.jwt_file import read_jwt_settings
from ferryman.server.data.gate.key_store import KeyStore
from ferryman.server.data.gate.tokens import JwtVerifier
from ferryman.server.data.http.intake import Intake
from ferryman.server.data.http.tls import Certificate, TlsFiles
from ferryman.server.data.job import Job, Loaded
from ferryman.server.data.lane import Lane, LaneLimits
from ferryman.server.data.signals.access_log import AccessLog
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.signals.served import ServedMetrics
from ferryman.server.data.signals.tracing import TraceSettings, Tracing
from ferryman.server.data.v2.journal import Journal
from ferryman.server.data.v2.pages import Pages
from ferryman.server.data.worker.link import Worker
from ferryman.server.data.worker.zygote import Zygote
from ferryman.server.doors import Door, House, drain_all
from ferryman.server.settings import ServerSettings

_LOOPBACK = "127.0.0.1"
_STATE_FOLDER = ".ferryman"
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
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_live(paths, settings, on_ready))


def _raise_file_limit() -> None:
    """Allow as many open files as this process may have: each connection is one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _live(paths: Sequence[Path], settings: ServerSettings, on_ready: OnReady) -> None:
    server = Server(paths, settings)
    try:
        await server.start(on_ready)
        await server.stopped.wait()
    finally:
        await server.close()


class Server:
    """Hold all parts of one server; made and used on its loop.

    Making it opens the ports and checks what it is given; raises UserError and its like for what can't be.
    """

    def __init__(self, paths: Sequence[Path], settings: ServerSettings) -> None:
        self.stopped = asyncio.Event()
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._metrics = Metrics(with_triton_names=settings.triton_metrics)
        self._plane = Dataplane(self._loop)
        crew = Crew(self._hire, self._open_lane, self._plane, self._metrics, _control_settings(settings))
        memory = _memory(paths, settings)
        self._repository = Repository(paths, crew, memory)
        self._repository.scan()
        self._rollouts = Rollouts(self._plane, self._repository, memory)
        self._callers = _callers(settings)
        self._access_log = None if settings.access_log == "off" else AccessLog(settings.access_log)
        self._tracing = Tracing(TraceSettings(settings.otlp, settings.trace_ratio)) if settings.otlp else None
        certificate = _certificate(settings)
        self._door = Door(settings.host, settings.port, certificate)
        self._admin_door = None
        if settings.admin_port is not None:
            self._admin_door = Door(_LOOPBACK, settings.admin_port, None)
        self._zygote = Zygote(self._repository.modules())

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
        house = House(
            plane=self._plane,
            pages=Pages(self._plane, self._metrics, server_version=__version__),
            journal=Journal(self._metrics, self._access_log, self._tracing),
            intake=Intake(limit_bytes=self._settings.max_body_bytes, total_bytes=self._settings.max_in_flight_bytes),
            settings=self._settings,
            repository=self._repository,
        )
        routes = repository_routes(self._repository, self._plane)
        await self._door.start(house, Gate(self._callers, clock=self._loop.time), routes, is_admin=False)
        self._begin(self._door.watch_certificate())
        if self._admin_door is not None:
            routes = [*admin_routes(self._repository, self._plane, self.stop), *rollout_routes(self._rollouts)]
            callers = replace(self._callers, certificates=None)  # on loopback and without TLS nobody shows one
            gate = Gate(callers, open_control=True, clock=self._loop.time)
            await self._admin_door.start(house, gate, routes, is_admin=True)
        self._watch_signals()
        self._watch_figures()
        self._begin(self._load(on_ready))

    async def close(self) -> None:
        """Free everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for door in self._doors():
            door.close()
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
        for door in self._doors():
            door.leave()
        self._begin(self._drain())

    async def _load(self, on_ready: OnReady) -> None:
        await self._repository.start()
        await self._rollouts.resume()
        self._begin(self._rollouts.run())
        gc.collect()
        gc.freeze()  # what is there now stays: no collection has to look at it again
        if reason := self._plane.why_not_ready():
            _log.error("not ready: %s/v2/health/ready: %s", self.url, reason)
        else:
            on_ready(self.url, self._admin_door.url if self._admin_door is not None else "")

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
        metrics, door, log, tracing = self._metrics, self._door, self._access_log, self._tracing
        metrics.watch("ferryman_connections", "Open connections.", lambda: door.open_connections)
        metrics.watch(
            "ferryman_refused_total", "Requests refused by HTTP's own rules and limits.", door.refused, label="status",
            kind="counter",
        )  # fmt: skip
        metrics.watch("ferryman_tls_expires_seconds", "Until the certificate expires.", lambda: door.expires_s)
        if log is not None:
            metrics.watch("ferryman_log_lines_lost_total", "Access log lines lost.", lambda: log.lost, kind="counter")
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
        return lane


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
    )


def _memory(paths: Sequence[Path], settings: ServerSettings) -> State | NoMemory:
    """Give what remembers choices over a restart: in the folder that was named, else beside the first repository."""
    if settings.state is not None:
        return State(settings.state)
    repository = next((path for path in paths if path.is_dir() and not (path / MANIFEST).exists()), None)
    return State(repository / _STATE_FOLDER) if repository is not None else NoMemory()


def _callers(settings: ServerSettings) -> Callers:
    keys = KeyStore(settings.keys) if settings.keys is not None else None
    certificates = Certificates(CertificateSettings()) if settings.client_ca is not None else None
    tokens = JwtVerifier(read_jwt_settings(settings.jwt)) if settings.jwt is not None else None
    return Callers(keys=keys, tokens=tokens, certificates=certificates)


def _certificate(settings: ServerSettings) -> Certificate | None:
    if settings.tls_cert is None and settings.tls_key is None:
        if settings.client_ca is not None:
            raise ConfigError("client certificates need TLS", hint="add --tls-cert and --tls-key")
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise ConfigError("TLS needs a certificate and its key", hint="give both --tls-cert and --tls-key")
    return Certificate(TlsFiles(settings.tls_cert, settings.tls_key, settings.client_ca), http2=True)
