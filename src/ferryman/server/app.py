"""The only wiring: settings and bundles to a server, and its life from its port to its last answer."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop

from ferryman import __version__
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, FerrymanError
from ferryman.core.plugins import runtime_for
from ferryman.server.control.crew import ControlSettings, Crew
from ferryman.server.control.repository import Repository
from ferryman.server.data.ask import Reply
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.gate import Gate
from ferryman.server.data.http.connections import Connections
from ferryman.server.data.http.cors import Origins
from ferryman.server.data.http.intake import Intake
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.listener import Listener, open_socket, url_of
from ferryman.server.data.job import Job, Loaded
from ferryman.server.data.lane import Lane, LaneLimits
from ferryman.server.data.signals.access_log import AccessLog
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.v2.http import HttpV2
from ferryman.server.data.v2.pages import Pages
from ferryman.server.data.worker.link import Worker
from ferryman.server.data.worker.zygote import Zygote
from ferryman.server.settings import ServerSettings

_log = logging.getLogger("ferryman.server")
_LAST_WORDS_S = 5.0  # after the drain's deadline, for telling those who wait


def serve(paths: Sequence[Path], settings: ServerSettings, on_ready: Callable[[str], None]) -> None:
    """Serve bundles until SIGTERM or SIGINT, then drain; a second signal ends at once.

    `on_ready` gets the URL when every model answers its golden samples right. Where one doesn't, the server stays
    up and unready, and the log and /v2/health/ready say why. Raises UserError for a port that can't be had and for
    bundles that can't be read, ContractBroken for one that doesn't keep its contract unless `allow_broken`.
    """
    if not paths:
        raise ConfigError("there is nothing to serve", hint="ferryman serve BUNDLE ...")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_live(paths, settings, on_ready))


async def _live(paths: Sequence[Path], settings: ServerSettings, on_ready: Callable[[str], None]) -> None:
    server = Server(paths, settings)
    try:
        await server.start(on_ready)
        await server.stopped.wait()
    finally:
        await server.close()


class Server:
    """Hold all parts of one server; made and used on its loop."""

    def __init__(self, paths: Sequence[Path], settings: ServerSettings) -> None:
        self.stopped = asyncio.Event()
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._metrics = Metrics(with_triton_names=settings.triton_metrics)
        self._plane = Dataplane(self._loop)
        self._zygote = Zygote()
        crew = Crew(self._hire, self._open_lane, self._plane, self._metrics, _control_settings(settings))
        self._repository = Repository(paths, crew)
        self._repository.scan()
        self._listening = open_socket(settings.host, settings.port)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, on_ready: Callable[[str], None]) -> None:
        """Answer, first with what is known without a model; returns once the port answers."""
        settings = self._settings
        self._zygote = Zygote(_modules(self._repository))
        self._zygote.start()
        self._log = None if settings.access_log == "off" else AccessLog(settings.access_log)
        if self._log is not None:
            self._log.start(self._loop)
        pages = Pages(self._plane, self._metrics, server_version=__version__)
        application = HttpV2(
            self._plane,
            Gate(clock=self._loop.time),
            self._metrics,
            pages,
            access_log=self._log,
            request_s=settings.request_s,
        )
        intake = Intake(limit_bytes=settings.max_body_bytes, total_bytes=settings.max_in_flight_bytes)
        limits = Limits(body_bytes=settings.max_body_bytes, receive_s=settings.receive_s)
        connections = Connections(application, limits, intake, Origins(settings.cors))
        self._listener = Listener(self._listening, connections)
        await self._listener.start()
        self._watch_signals()
        self._begin(self._load(url_of(self._listening, is_tls=False), on_ready))

    async def close(self) -> None:
        """Free everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._repository.close()
        self._zygote.close()
        self._listening.close()
        if (log := getattr(self, "_log", None)) is not None:
            log.close()

    def stop(self) -> None:
        """Begin to drain; the second time, end."""
        if self._plane.is_draining:
            self.stopped.set()
            return
        self._plane.is_draining = True
        self._begin(self._drain())

    async def _load(self, url: str, on_ready: Callable[[str], None]) -> None:
        await self._repository.start()
        gc.collect()
        gc.freeze()  # what is there now stays: no collection has to look at it again
        if reason := self._plane.why_not_ready():
            _log.error("not ready: %s/v2/health/ready: %s", url, reason)
        else:
            on_ready(url)

    async def _drain(self) -> None:
        """Be unready, then accept no more connections, then finish; answer what can't be finished in time."""
        await asyncio.sleep(self._settings.unready_s)
        deadline = self._loop.call_later(self._settings.drain_s, self._plane.abandon)
        await self._listener.drain(self._settings.drain_s + _LAST_WORDS_S)
        deadline.cancel()
        self.stopped.set()

    def _watch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):  # outside of the main thread: its owner stops it
                self._loop.add_signal_handler(number, self.stop)
        if self._log is not None:
            with contextlib.suppress(ValueError, RuntimeError):
                self._loop.add_signal_handler(signal.SIGHUP, self._log.reopen)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hire(self, on_free: Callable[[], None], on_lost: Callable[[str], None]) -> Worker:
        return Worker(self._zygote, on_free=on_free, on_lost=on_lost)

    def _open_lane(self, bundle: Bundle, loaded: Loaded) -> Lane:
        asked = self._settings.max_batch or loaded.max_batch
        limits = LaneLimits(max_batch=min(asked, loaded.max_batch), max_waiting=self._settings.max_queue)
        lane = Lane(self._loop, limits, bundle.manifest.name)
        lane.on_job = partial(_count_job, self._metrics, bundle.manifest.name)
        return lane


def _count_job(metrics: Metrics, name: str, job: Job, results: Sequence[Reply | FerrymanError]) -> None:
    """Count one call of the engine: the first that was answered says what it took."""
    reply = next((result for result in results if isinstance(result, Reply)), None)
    figures = metrics.find(name, reply.version) if reply is not None else None
    if reply is not None and figures is not None:
        figures.job(replace(reply.stages, queue_s=job.started_s - job.asks[0].arrived_s))


def _control_settings(settings: ServerSettings) -> ControlSettings:
    return ControlSettings(
        threads=settings.threads,
        instances=settings.instances or 1,
        processes=settings.processes or 1,
        drain_s=settings.drain_s,
        hang_s=settings.hang_s,
        probe_s=settings.probe_s,
        watch_s=settings.watch_s,
        max_worker_mb=settings.max_worker_mb,
        max_memory_mb=settings.max_memory_mb,
        allow_broken=settings.allow_broken,
    )


def _modules(repository: Repository) -> list[str]:
    """Name what the workers will need, so that it is imported once, before any of them is forked."""
    plugins = [runtime_for(model_format, serves=True) for model_format in repository.formats()]
    needed = [need for plugin in plugins for need in plugin.cls.needs]
    return ["numpy", *dict.fromkeys(needed)]
