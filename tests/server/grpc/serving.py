"""A gRPC server in a thread of its own, with a real dataplane and instances that compute in numpy."""

import asyncio
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np
import uvloop

from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError, InputError, NotFound
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.server.data.ask import Reply, Stages
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.caller import ALL_MODELS
from ferryman.server.data.grpc.call import Call
from ferryman.server.data.grpc.factory import GrpcConnections
from ferryman.server.data.grpc.infer import Answered, InferSettings
from ferryman.server.data.grpc.service import GrpcService, Outside
from ferryman.server.data.grpc.settings import GrpcSettings
from ferryman.server.data.job import GoldenVerdict, Job, Loaded
from ferryman.server.data.lane import Lane, LaneLimits
from ferryman.server.data.models import Served
from ferryman.server.data.signals.served import ServedMetrics

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32")
_Result = TypeVar("_Result")
_Compute = Callable[[Mapping[str, Array]], dict[str, Array]]


class NumpyInstance:
    """Answer jobs at the next turn of the loop."""

    def __init__(self, compute: _Compute) -> None:
        self.free = 8
        self.compute = compute
        self.jobs = 0
        self.asked = 0

    def run(self, job: Job) -> None:
        self.jobs += 1
        self.asked += len(job.asks)
        self.free -= 1
        asyncio.get_running_loop().call_soon(self._settle, job)

    def _settle(self, job: Job) -> None:
        self.free += 1
        results: list[Reply | FerrymanError] = []
        np.seterr(over="ignore", invalid="ignore")  # as an engine would
        for ask in job.asks:
            try:
                results.append(Reply(self.compute(ask.tensors or {})))
            except FerrymanError as error:
                results.append(error)
        job.settled(job, results)


class HangingInstance(NumpyInstance):
    """Keep jobs until `let_go`."""

    def __init__(self) -> None:
        super().__init__(lambda tensors: {"y": tensors["x"]})
        self.kept: list[Job] = []

    def run(self, job: Job) -> None:
        self.jobs += 1
        self.free -= 1
        self.kept.append(job)

    def let_go(self) -> None:
        kept, self.kept = self.kept, []
        for job in kept:
            self._settle(job)


@dataclass
class Repository:
    """Remember what was asked of it."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def index(self) -> list[dict[str, str]]:
        return [{"name": "on disk", "version": "9", "state": "UNAVAILABLE", "reason": "is not loaded"}]

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        await self._note("load", f"{name} {dict(parameters)}" if parameters else name)

    async def unload(self, name: str, parameters: Mapping[str, object]) -> None:
        await self._note("unload", f"{name} {dict(parameters)}" if parameters else name)

    async def _note(self, verb: str, name: str) -> None:
        await asyncio.sleep(0)
        if name == "unknown":
            raise NotFound("no model is called 'unknown'")
        self.calls.append((verb, name))


class Running:
    """Be a server that runs; its parts are for its own thread, reached through `do`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.port = 0
        self.dataplane: Dataplane
        self.connections: GrpcConnections
        self.service: GrpcService
        self.hanging = HangingInstance()
        self.doubling = NumpyInstance(lambda tensors: {"y": 2 * tensors["x"], "sum": tensors["x"].sum(1)})
        self.repository = Repository()
        self.over: list[tuple[str, int, int, int]] = []
        self.versions_over: list[str] = []
        self.answered: list[Answered] = []
        self.figures = ServedMetrics("double", "1")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def do(self, work: Callable[[], _Result]) -> _Result:
        async def call() -> _Result:
            return work()

        return self.run(call())

    def run(self, work: Awaitable[_Result]) -> _Result:
        async def call() -> _Result:
            return await work

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(20)


@contextmanager
def serving(
    settings: GrpcSettings | None = None,
    tls: ssl.SSLContext | None = None,
    admit: Any = None,  # Doorkeeper.admit
    known: Any = None,  # Doorkeeper.known
) -> Iterator[Running]:
    loop = uvloop.new_event_loop()
    running = Running(loop)
    started = threading.Event()
    stop = asyncio.Event()

    async def main() -> None:
        admitting = admit or (lambda *_: SimpleNamespace(id="nobody"))
        gate = SimpleNamespace(admit=admitting, known=known or (lambda *_: SimpleNamespace(models=ALL_MODELS)))
        fill(running, settings or GrpcSettings(), gate)
        server = await loop.create_server(running.connections, "127.0.0.1", 0, ssl=tls)
        running.port = cast(asyncio.Server, server).sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        server.close()
        running.connections.abort()
        running.service.close()
        async with asyncio.timeout(10):
            while running.connections.members:
                await asyncio.sleep(0.005)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert started.wait(10)
    try:
        yield running
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
        assert not thread.is_alive()


def fill(running: Running, settings: GrpcSettings, gate: Any) -> None:  # a Doorkeeper
    loop = asyncio.get_running_loop()
    running.dataplane = dataplane = Dataplane(loop)
    rows = spec("x", "float32", ("batch", 30))
    both = (spec("y", "float32", ("batch", 30)), spec("sum", "float32", ("batch",)))
    _put(dataplane, "double", Signature(inputs=(rows,), outputs=both), running.doubling)
    free = spec("x", "float32", ("batch", "width"))
    _put(dataplane, "echo", Signature(inputs=(free,), outputs=(spec("y", "float32", ("batch", "width")),)), _echo())
    _put(
        dataplane,
        "hang",
        Signature(inputs=(free,), outputs=(spec("y", "float32", ("batch", "width")),)),
        running.hanging,
    )
    for dtype in (*DTYPES, "float64", "string"):
        one = Signature(inputs=(spec("x", dtype, ("n", "m")),), outputs=(spec("y", dtype, ("n", "m")),))
        _put(dataplane, f"echo-{dtype}", one, _echo())
    broken = Signature(inputs=(free,), outputs=())
    _put(dataplane, "broken", broken, NumpyInstance(_fail))
    _put(dataplane, "absurd", broken, NumpyInstance(lambda tensors: {"y": cast(Array, "no array")}))
    dataplane.announce("loading", "1", is_expected=True)
    outside = Outside(
        repository=running.repository,
        figures=lambda name, version: running.figures if name == "double" else None,
        finished=lambda call: _note(running, call),
        infer=InferSettings(answered=running.answered.append),
    )
    running.figures.request("ok", 0.5, "http")
    running.figures.job(Stages(0.1, 0.1, 0.2, 0.1, asks=1, rows=3))
    running.service = GrpcService(dataplane, gate, outside, server_version="1.2.3")
    running.connections = GrpcConnections(running.service, settings)


def _note(running: Running, call: Call) -> None:
    running.over.append((call.model, call.status, call.bytes_in, call.bytes_out))
    running.versions_over.append(call.version)


def spec(name: str, dtype: str, shape: tuple[int | str, ...]) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def _put(dataplane: Dataplane, name: str, signature: Signature, instance: NumpyInstance) -> None:
    manifest = SimpleNamespace(format="onnx", precision="fp32", digest="d" * 64)
    bundle = SimpleNamespace(manifest=manifest, deployment=SimpleNamespace(task=SimpleNamespace(kind="tensor")))
    loaded = Loaded(signature, "tensors", GoldenVerdict("", 1), 64, "", releases_gil=True, load_s=0.1)
    lane = Lane(asyncio.get_running_loop(), LaneLimits(max_batch=64, max_waiting=4096), name)
    lane.add(instance)
    dataplane.put(Served(name, "1", cast(Bundle, bundle), loaded, lane))


def _echo() -> NumpyInstance:
    return NumpyInstance(lambda tensors: {"y": tensors["x"]})


def _fail(tensors: Mapping[str, Array]) -> dict[str, Array]:
    raise (
        InputError("the engine can't", hint="send something else")
        if np.all(tensors["x"] == 1)
        else FerrymanError("s3cret")
    )


def wait_for(look: Callable[[], _Result]) -> _Result:
    """Look until there is something, for ten seconds at most."""
    end_s = time.monotonic() + 10
    pause = threading.Event()
    while not (found := look()):
        assert time.monotonic() < end_s, "it never came"
        pause.wait(0.005)
    return found


def asks_in(plane: Dataplane) -> int:
    """Count the asks that wait or run."""
    return sum(served.lane.waiting + served.lane.in_flight for served in plane.models())
