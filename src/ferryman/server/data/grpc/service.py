"""The protocol's calls, each to what answers it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from ferryman.core.errors import InputError, NotFound, NotReady
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.gate.caller import Action
from ferryman.server.data.grpc.call import Call, Method
from ferryman.server.data.grpc.describe import EXTENSIONS, describe_config, describe_model, list_models
from ferryman.server.data.grpc.health import Health
from ferryman.server.data.grpc.infer import Doorkeeper, Inference, InferSettings
from ferryman.server.data.grpc.messages import HEALTH, INFERENCE, message
from ferryman.server.data.grpc.outbox import Part
from ferryman.server.data.grpc.statistics import count_models
from ferryman.server.data.grpc.status import Unimplemented
from ferryman.server.data.models import Served
from ferryman.server.data.signals.served import ServedMetrics

Answer = Any  # one of the protocol's messages


class RepositoryControl(Protocol):
    """Bring models in and let them go; `load` and `unload` raise FerrymanError."""

    def index(self) -> list[dict[str, str]]:
        """List every version of every model with its state and the reason, loaded or not."""

    async def load(self, name: str) -> object:
        """Load a model's newest version."""

    async def unload(self, name: str) -> object:
        """Let a model go."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Hold what a service may have beside its dataplane.

    `repository` is None where nobody may load or unload. `figures` gives what is counted of a version; None: nothing.
    `finished` hears of every call once it is over.
    """

    repository: RepositoryControl | None = None
    figures: Callable[[str, str], ServedMetrics | None] = lambda name, version: None
    finished: Callable[[Call], None] = lambda call: None
    infer: InferSettings = field(default_factory=InferSettings)


class GrpcService:
    """Answer the protocol's calls; make it on the server's loop. A `repository` of None refuses to load and unload."""

    def __init__(
        self, dataplane: Dataplane, gate: Doorkeeper, outside: Outside | None = None, *, server_version: str
    ) -> None:
        self._dataplane = dataplane
        self._gate = gate
        self._outside = outside = outside or Outside()
        self._server_version = server_version
        self._tasks: set[asyncio.Task[None]] = set()
        self.health = Health(dataplane)
        inference = Inference(dataplane, gate, outside.infer)
        self._methods = {
            f"/{INFERENCE}/ModelInfer": Method("ModelInfer", "infer", inference.answer),
            f"/{INFERENCE}/ModelStreamInfer": Method("ModelStreamInfer", "infer", listen=inference.listen),
            f"/{HEALTH}/Check": Method("Check", None, self.health.check),
            f"/{HEALTH}/Watch": Method("Watch", None, listen=self.health.watch),
        }
        self._add("ServerLive", None, lambda _: _Live(live=True))
        self._add("ServerReady", None, lambda _: _Ready(ready=not dataplane.why_not_ready()))
        self._add("ServerMetadata", "read", self._describe_server)
        self._add("ModelReady", "read", self._tell_model_ready)
        self._add("ModelMetadata", "read", lambda asked: describe_model(self._find(asked), dataplane))
        self._add("ModelConfig", "read", lambda asked: describe_config(self._find(asked)))
        self._add("ModelStatistics", "read", self._count)
        self._add("RepositoryIndex", "read", self._list_models)
        self._methods |= {
            f"/{INFERENCE}/RepositoryModelLoad": Method("RepositoryModelLoad", "control", self._load),
            f"/{INFERENCE}/RepositoryModelUnload": Method("RepositoryModelUnload", "control", self._unload),
        }

    def method(self, path: str) -> Method | None:
        """Give who answers calls of a path."""
        return self._methods.get(path)

    def let_in(self, call: Call, method: Method) -> None:
        """Raise FerrymanError for callers who may not call this at all, before anything of a message is taken."""
        if method.action is not None:
            self._gate.known(call.head.metadata.get, method.action, call.connection.peer.certificate)

    def finished(self, call: Call) -> None:
        """Know that a call is over."""
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
                self._admit(call, action)
            call.reply(answer(request).SerializeToString())

        self._methods[f"/{INFERENCE}/{name}"] = Method(name, action, answer_call)

    def _admit(self, call: Call, action: Action) -> None:
        peer = call.connection.peer
        header = call.head.metadata.get
        call.caller = self._gate.admit(header, call.model or None, action, peer.address, peer.certificate)

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
        served = [self._find(asked)] if asked.name else self._dataplane.models()
        return count_models(served, self._outside.figures)

    def _list_models(self, asked: Any) -> Answer:  # RepositoryIndexRequest
        known: RepositoryControl | Dataplane = self._outside.repository or self._dataplane
        return list_models(known.index(), only_ready=asked.ready)

    def _load(self, call: Call, payload: Part) -> None:
        asked = _read(_LoadRequest, payload)
        self._steer(call, asked.model_name, _LoadResponse, lambda repository: repository.load(asked.model_name))

    def _unload(self, call: Call, payload: Part) -> None:
        asked = _read(_UnloadRequest, payload)
        self._steer(call, asked.model_name, _UnloadResponse, lambda repository: repository.unload(asked.model_name))

    def _steer(self, call: Call, model: str, response_class: Any, work: Callable[[RepositoryControl], Any]) -> None:
        call.model = model
        self._admit(call, "control")
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


_Live = message("inference.ServerLiveResponse")
_Ready = message("inference.ServerReadyResponse")
_Server = message("inference.ServerMetadataResponse")
_ModelReady = message("inference.ModelReadyResponse")
_LoadRequest = message("inference.RepositoryModelLoadRequest")
_LoadResponse = message("inference.RepositoryModelLoadResponse")
_UnloadRequest = message("inference.RepositoryModelUnloadRequest")
_UnloadResponse = message("inference.RepositoryModelUnloadResponse")
