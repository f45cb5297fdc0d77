"""The protocol's calls, each to what answers it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
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
from ferryman.server.data.http.refused import Refused
from ferryman.server.data.models import Served
from ferryman.server.data.signals.served import ServedMetrics

Answer = Any  # one of the protocol's messages
_Verb = Callable[[str, Mapping[str, object]], Awaitable[object]]


class RepositoryControl(Protocol):
    """Bring models in and let them go; raises FerrymanError for what can't be."""

    def index(self) -> list[dict[str, str]]:
        """List every version of every model with its state and the reason, loaded or not."""

    async def load(self, name: str, parameters: Mapping[str, object]) -> object:
        """Load a model's newest version, or the one that the parameters name."""

    async def unload(self, name: str, parameters: Mapping[str, object]) -> object:
        """Let a model go, or the version that the parameters name."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Hold what a service may have beside its dataplane.

    `repository` is None where nobody may load or unload. `figures` gives what is counted of a version; None: nothing.
    `finished` hears of every call once it is over, `refused` of what broke HTTP/2's rules.
    """

    repository: RepositoryControl | None = None
    figures: Callable[[str, str], ServedMetrics | None] = lambda name, version: None
    finished: Callable[[Call], None] = lambda call: None
    refused: Callable[[Refused], None] = lambda refused: None
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
        self._methods |= {
            f"/{INFERENCE}/ModelStatistics": Method("ModelStatistics", "read", self._count),
            f"/{INFERENCE}/RepositoryIndex": Method("RepositoryIndex", "read", self._list_models),
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

    def refused(self, refused: Refused) -> None:
        """Know of what was refused before it was a call, or ended in the middle of one."""
        self._outside.refused(refused)

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

    def _reach(self, call: Call) -> Any:  # a gate's Models
        return self._gate.known(call.head.metadata.get, "read", call.connection.peer.certificate).models

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

    def _count(self, call: Call, payload: Part) -> None:
        asked = _read(_StatisticsRequest, payload)
        call.model = asked.name
        self._admit(call, "read")
        reach = self._reach(call)
        served = [self._find(asked)] if asked.name else [one for one in self._dataplane.models() if one.name in reach]
        call.reply(count_models(served, self._outside.figures).SerializeToString())

    def _list_models(self, call: Call, payload: Part) -> None:
        asked = _read(_IndexRequest, payload)
        self._admit(call, "read")
        reach = self._reach(call)
        known: RepositoryControl | Dataplane = self._outside.repository or self._dataplane
        rows = [row for row in known.index() if row["name"] in reach]
        call.reply(list_models(rows, only_ready=asked.ready).SerializeToString())

    def _load(self, call: Call, payload: Part) -> None:
        asked = _read(_LoadRequest, payload)
        self._steer(call, asked, _LoadResponse, lambda repository: repository.load)

    def _unload(self, call: Call, payload: Part) -> None:
        asked = _read(_UnloadRequest, payload)
        self._steer(call, asked, _UnloadResponse, lambda repository: repository.unload)

    def _steer(self, call: Call, asked: Any, response_class: Any, verb: Callable[[RepositoryControl], _Verb]) -> None:
        call.model = asked.model_name  # `asked` and the answer are messages
        self._admit(call, "control")
        repository = self._outside.repository
        if repository is None:
            raise Unimplemented("models are not loaded or unloaded over this port", hint="use the admin address")
        if not asked.model_name:
            raise NotFound("the request names no model", hint="set model_name")
        parameters = {
            key: getattr(value, value.WhichOneof("parameter_choice") or "", None)
            for key, value in asked.parameters.items()
        }

        async def steer() -> None:
            try:
                await verb(repository)(asked.model_name, parameters)
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
_IndexRequest = message("inference.RepositoryIndexRequest")
_StatisticsRequest = message("inference.ModelStatisticsRequest")
_LoadRequest = message("inference.RepositoryModelLoadRequest")
_LoadResponse = message("inference.RepositoryModelLoadResponse")
_UnloadRequest = message("inference.RepositoryModelUnloadRequest")
_UnloadResponse = message("inference.RepositoryModelUnloadResponse")
