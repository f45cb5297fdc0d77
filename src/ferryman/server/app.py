"""The only wiring: bundles to a server, and a server's life from its port to its last answer."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from ferryman import __version__
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, ContractBroken, UserError
from ferryman.server.control.repository import Repository
from ferryman.server.data.access_log import ACCESS_LOG, AccessLog
from ferryman.server.data.answers import answer_http_error
from ferryman.server.data.body import Intake
from ferryman.server.data.old_dataplane import Dataplane
from ferryman.server.data.draining import CloseWhileDraining
from ferryman.server.data.http_v2 import HttpV2
from ferryman.server.data.metrics import Metrics
from ferryman.server.data.pages import Pages

_ANY_INTERFACE = ("", "0.0.0.0", "::")  # noqa: S104 - names of what a user may ask for

_log = logging.getLogger("ferryman.server")
_LAST_WORDS_S = 5  # after the drain's deadline, for telling those who wait


class ServeChoices(TypedDict, total=False):
    """Be the keywords of `ferryman.api.serve`: fields of ServerSettings."""

    host: str
    port: int
    threads: int
    workers: int
    max_queue: int
    drain_s: float
    access_log: bool
    allow_broken: bool


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Say where and how to serve.

    `port` 0 picks a free one. `threads` are the cores of one inference (0: as the bundle was built); `workers` how many
    run at once. Requests get 429 while `max_queue` others wait, or while their bodies would bring all that are in work
    over `max_in_flight_bytes` (taken as one body of `max_body_bytes` where it is less). On SIGTERM the server is
    unready at once, answers new requests for `unready_s` while load balancers notice, then finishes what runs within
    `drain_s`. `allow_broken` serves bundles, too, whose proof says that their contract doesn't hold.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    threads: int = 0
    workers: int = 2
    max_queue: int = 64
    max_body_bytes: int = 32 * 1024 * 1024
    max_in_flight_bytes: int = 256 * 1024 * 1024
    receive_s: float = 60.0
    unready_s: float = 0.5
    drain_s: float = 30.0
    access_log: bool = False
    allow_broken: bool = False


def build_app(bundles: Sequence[Bundle], settings: ServerSettings) -> Starlette:
    """Wire a server; its models are loaded when its lifespan begins, beside the first requests."""
    return _wire(bundles, settings).app


def serve(paths: Sequence[Path], settings: ServerSettings, on_ready: Callable[[str], None]) -> None:
    """Serve bundles until SIGTERM or SIGINT, then drain; a second signal ends at once.

    `on_ready` gets the URL when every model answers its golden samples right. Where one doesn't, the server stays
    up and unready, and the log and /v2/health/ready say why. Raises UserError for a port that can't be had and for
    bundles that can't be read, ContractBroken for one that doesn't keep its contract unless `allow_broken`.
    """
    if not paths:
        raise ConfigError("there is nothing to serve", hint="ferryman serve BUNDLE ...")
    bundles = [load_bundle(path) for path in paths]
    for bundle in bundles:
        _check_contract(bundle, settings)
    parts = _wire(bundles, settings)
    with _listen(settings) as listener, _access_log_on_stderr(settings):
        config = uvicorn.Config(
            parts.app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            ws="none",
            http="httptools",
            timeout_graceful_shutdown=round(settings.drain_s) + _LAST_WORDS_S,
        )
        server = _Server(config, parts, settings, lambda: _report(parts, _url(listener), on_ready))
        server.run(sockets=[listener])


def _check_contract(bundle: Bundle, settings: ServerSettings) -> None:
    if bundle.proof.holds:
        return
    message = f"bundle {bundle.manifest.name} does not keep its contract: {bundle.proof.verdict}"
    if not settings.allow_broken:
        raise ContractBroken(message, hint="--allow-broken serves it all the same")
    _log.warning("%s", message)


@dataclass(frozen=True, slots=True)
class _Parts:
    app: Starlette
    dataplane: Dataplane
    loaded: asyncio.Event


def _wire(bundles: Sequence[Bundle], settings: ServerSettings) -> _Parts:
    metrics = Metrics(CollectorRegistry())
    dataplane = Dataplane(metrics, workers=settings.workers, max_queue=settings.max_queue)
    repository = Repository(dataplane, bundles, threads=settings.threads)
    loaded = asyncio.Event()

    async def load() -> None:
        await repository.load_all()
        loaded.set()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(load())
        try:
            yield
        finally:
            loading.cancel()
            dataplane.close()

    intake = Intake(
        limit_bytes=settings.max_body_bytes, total_bytes=settings.max_in_flight_bytes, deadline_s=settings.receive_s
    )
    http = HttpV2(dataplane, intake, server_version=__version__)
    middleware = [Middleware(CloseWhileDraining, dataplane=dataplane)]
    if settings.access_log:
        middleware.insert(0, Middleware(AccessLog))
    app = Starlette(
        routes=[*http.routes(), *Pages(dataplane, server_version=__version__).routes()],
        middleware=middleware,
        exception_handlers={HTTPException: answer_http_error},
        lifespan=lifespan,
    )
    return _Parts(app, dataplane, loaded)


class _Server(uvicorn.Server):
    """Stop in order: unready, then no new connections, then the last answers."""

    def __init__(
        self, config: uvicorn.Config, parts: _Parts, settings: ServerSettings, report: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._parts = parts
        self._settings = settings
        self._report = report
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on SIGTERM and SIGINT."""
        # uvicorn's own would raise the signal again after the drain, and the process would not exit with 0.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):  # outside of the main thread: its owner stops it
                loop.add_signal_handler(number, self.stop)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and tell when every model is loaded or refused."""
        await super().startup(sockets)
        self._tasks.append(asyncio.create_task(self._report_later()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what runs within the deadline, then free the models; after a second signal, without the wait."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    def stop(self) -> None:
        """Begin to drain; the second time, end."""
        if self._parts.dataplane.is_draining:
            self.should_exit = self.force_exit = True
            return
        self._parts.dataplane.is_draining = True
        self._tasks.append(asyncio.create_task(self._exit_later()))

    async def _report_later(self) -> None:
        await self._parts.loaded.wait()
        self._report()

    async def _exit_later(self) -> None:
        await asyncio.sleep(self._settings.unready_s)
        self.should_exit = True
        await asyncio.sleep(self._settings.drain_s)
        self._parts.dataplane.abandon()


def _report(parts: _Parts, url: str, on_ready: Callable[[str], None]) -> None:
    if reason := parts.dataplane.why_not_ready():
        _log.error("not ready: %s/v2/health/ready: %s", url, reason)
    else:
        on_ready(url)


@contextlib.contextmanager
def _listen(settings: ServerSettings) -> Iterator[socket.socket]:
    """Open the port before anything is loaded; raises UserError where it can't be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"can't listen on {settings.host} port {settings.port}: {reason}", hint="choose another port; 0 picks one"
        ) from None
    try:
        yield listener
    finally:
        listener.close()


@contextlib.contextmanager
def _access_log_on_stderr(settings: ServerSettings) -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    log = logging.getLogger(ACCESS_LOG)
    if settings.access_log:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if host in _ANY_INTERFACE:
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
