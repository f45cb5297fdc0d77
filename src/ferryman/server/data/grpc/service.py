"""The protocol's calls, each to what answers it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from google.protobuf.message import DecodeError

from ferryman.core.errors import InputError, NotFound, NotReady
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.caller import Action
from ferryman.server.data.grpc.call import Call, Method
from ferryman.server.data.grpc.describe import EXTENSIONS, describe_config, describe_model, list_models
from ferryman.server.data.grpc.health import Health
from ferryman.server.data.grpc.infer import Admit, Inference
from ferryman.server.data.grpc.messages import HEALTH, INFERENCE, message
from ferryman.server.data.grpc.outbox import Part
from ferryman.server.data.grpc.status import Unimplemented
from ferryman.server.data.models import Served

Answer = Any  # one of the protocol's messages


class RepositoryControl(Protocol):
    """Bring models in and let them go; both raise FerrymanError."""

    async def load(self, name: str) -> object:
        """Load a model's newest version."""

    async def unload(self, name: str) -> object:
        """Let a model go."""


@dataclass(frozen=True, slots=True)
class StageSum:
    """Count how often something was done, and the seconds it took in all."""

    count: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """Hold what a version has done since it was loaded."""

    inferences: int = 0  # rows
    executions: int = 0  # calls of the engine
    success: StageSum = StageSum()
    fail: StageSum = StageSum()
    queue: StageSum = StageSum()
    compute_input: StageSum = StageSum()
    compute_infer: StageSum = StageSum()
    compute_output: StageSum = StageSum()


@dataclass(frozen=True, slots=True)
class Outside:
    """Hold what a service may have beside its dataplane.

    `repository` is None where nobody may load or unload. `finished` hears of every call once it is over.
    """

    repository: RepositoryControl | None = None
    counts: Callable[[Served], ModelCounts | None] | None = None
    finished: Callable[[Call], None] | None = None
    request_s: float = 60.0
    max_asks_per_stream: int = 64


class GrpcService:
    """Answer the protocol's calls; make it on the server's loop. A `repository` of None refuses to load and unload."""

    def __init__(
        self, dataplane: Dataplane, admit: Admit, outside: Outside | None = None, *, server_version: str
    ) -> None:
        self._dataplane = dataplane
        self._admit = admit
        self._outside = outside = outside or Outside()
        self._server_version = server_version
        self._tasks: set[asyncio.Task[None]] = set()
        self.health = Health(dataplane)
        inference = Inference(dataplane, admit, request_s=outside.request_s, max_asks=outside.max_asks_per_stream)
        self._methods = {
            f"/{INFERENCE}/ModelInfer": Method("ModelInfer", inference.answer),
            f"/{INFERENCE}/ModelStreamInfer": Method("ModelStreamInfer", listen=inference.listen),
            f"/{HEALTH}/Check": Method("Check", self.health.check),
            f"/{HEALTH}/Watch": Method("Watch", listen=self.health.watch),
        }
        self._add("ServerLive", None, lambda _: _Live(live=True))
        self._add("ServerReady", None, lambda _: _Ready(ready=not dataplane.why_not_ready()))
        self._add("ServerMetadata", "read", self._describe_server)
        self._add("ModelReady", "read", self._tell_model_ready)
        self._add("ModelMetadata", "read", lambda asked: describe_model(self._find(asked), dataplane))
        self._add("ModelConfig", "read", lambda asked: describe_config(self._find(asked)))
        self._add("ModelStatistics", "read", self._count)
        self._add("RepositoryIndex", "read", lambda asked: list_models(dataplane, only_ready=asked.ready))
        self._methods |= {
            f"/{INFERENCE}/RepositoryModelLoad": Method("RepositoryModelLoad", self._load),
            f"/{INFERENCE}/RepositoryModelUnload": Method("RepositoryModelUnload", self._unload),
        }

    def method(self, path: str) -> Method | None:
        """Give who answers calls of a path."""
        return self._methods.get(path)

    def finished(self, call: Call) -> None:
        """Know that a call is over."""
        if self._outside.finished is not None:
            self._outside.finished(call)

    def close(self) -> None:
        """Give up what still runs here."""
        self.health.close()
        for task in self._tasks:
            task.cancel()

    def _add(self, name: str, action: Action | None, answer: Callable[[Any], Answer]) -> None:  # Any: its message
        request_class = message(f"inference.{name}Request")

        def answer_call(call: Call, payload: Part) -> None:
            request = _read(request_class, payload)
            call.model = getattr(request, "name", "")
            if action is not None:
                self._let_in(call, action)
            call.reply(answer(request).SerializeToString())

        self._methods[f"/{INFERENCE}/{name}"] = Method(name, answer_call)

    def _let_in(self, call: Call, action: Action) -> None:
        peer = call.connection.peer
        call.caller = self._admit(call.head.metadata.get, call.model or None, action, peer.address, peer.certificate)

    def _find(self, asked: Any) -> Served:  # a message with a model's name and version
        return self._dataplane.known(asked.name, asked.version or None)

    def _describe_server(self, _: Any) -> Answer:  # ServerMetadataRequest
        return _Server(name="ferryman", version=self._server_version, extensions=EXTENSIONS)

    def _tell_model_ready(self, asked: Any) -> Answer:  # ModelReadyRequest
        try:
            self._find(asked)
        except NotReady:
            return _ModelReady(ready=False)
        return _ModelReady(ready=True)

    def _count(self, asked: Any) -> Answer:  # ModelStatisticsRequest
        counts = self._outside.counts
        if counts is None:
            raise Unimplemented("this server keeps no statistics", hint="see /metrics over HTTP")
        served = [self._find(asked)] if asked.name else self._dataplane.models()
        answer = _Statistics()
        for one in served:
            _fill(answer.model_stats.add(name=one.name, version=one.version), counts(one) or ModelCounts())
        return answer

    def _load(self, call: Call, payload: Part) -> None:
        asked = _read(_LoadRequest, payload)
        self._steer(call, asked.model_name, _LoadResponse, lambda repository: repository.load(asked.model_name))

    def _unload(self, call: Call, payload: Part) -> None:
        asked = _read(_UnloadRequest, payload)
        self._steer(call, asked.model_name, _UnloadResponse, lambda repository: repository.unload(asked.model_name))

    def _steer(self, call: Call, model: str, response_class: Any, work: Callable[[RepositoryControl], Any]) -> None:
        call.model = model
        self._let_in(call, "control")
        repository = self._outside.repository
        if repository is None:
            raise Unimplemented("models are not loaded or unloaded over this port", hint="use the admin address")
        if not model:
            raise NotFound("the request names no model", hint="set model_name")

        async def steer() -> None:
            try:
                await work(repository)
                call.reply(response_class().SerializeToString())
            except Exception as error:  # noqa: BLE001 - the boundary of a request
                call.fail(error)

        task = asyncio.get_running_loop().create_task(steer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _read(message_class: Any, payload: Part) -> Any:  # a message's class, and one of it
    try:
        return message_class.FromString(payload)
    except DecodeError:
        raise InputError(f"the message is no {message_class.DESCRIPTOR.name}") from None


def _fill(target: Any, counts: ModelCounts) -> None:  # a ModelStatistics
    target.inference_count, target.execution_count = counts.inferences, counts.executions
    for name in _STAGES:
        stage: StageSum = getattr(counts, name)
        duration = getattr(target.inference_stats, name)
        duration.count, duration.ns = stage.count, round(stage.seconds * 1e9)


_STAGES: Final[Sequence[str]] = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
_Live = message("inference.ServerLiveResponse")
_Ready = message("inference.ServerReadyResponse")
_Server = message("inference.ServerMetadataResponse")
_ModelReady = message("inference.ModelReadyResponse")
_Statistics = message("inference.ModelStatisticsResponse")
_LoadRequest = message("inference.RepositoryModelLoadRequest")
_LoadResponse = message("inference.RepositoryModelLoadResponse")
_UnloadRequest = message("inference.RepositoryModelUnloadRequest")
_UnloadResponse = message("inference.RepositoryModelUnloadResponse")
