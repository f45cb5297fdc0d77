"""The health check of gRPC: is the server, or one of its models, there for requests."""

import asyncio
from typing import Final

from google.protobuf.message import DecodeError

from ferryman.core.errors import InputError, NotFound, NotReady
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.grpc.call import Call, Listener
from ferryman.server.data.grpc.messages import message
from ferryman.server.data.grpc.outbox import Part

_Request = message("grpc.health.v1.HealthCheckRequest")
_Response = message("grpc.health.v1.HealthCheckResponse")
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3
_LOOK_AGAIN_S: Final = 1.0


class Health:
    """Answer checks, and tell watchers what changes."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._loop = asyncio.get_running_loop()
        self._dataplane = dataplane
        self._watchers: dict[Call, _Watcher] = {}
        self._timer: asyncio.TimerHandle | None = None

    def check(self, call: Call, payload: Part) -> None:
        """Answer Check; raises NotFound for a model that is unknown."""
        status = self.status_of(read_service(payload))
        if status == _UNKNOWN:
            raise NotFound("no service or model is called that")
        call.reply(_Response(status=status).SerializeToString())

    def watch(self, call: Call) -> Listener:
        """Answer Watch."""
        call.on_gone = lambda: self._forget(call)
        return _Watcher(self, call)

    def add(self, watcher: "_Watcher") -> None:
        """Look every now and then for a watcher whether something has changed."""
        self._watchers[watcher.call] = watcher
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_AGAIN_S, self._look)

    def status_of(self, service: str) -> int:
        """Give a status as the protocol numbers it."""
        if not service or service.startswith("inference."):
            return _NOT_SERVING if self._dataplane.why_not_ready() else _SERVING
        try:
            self._dataplane.known(service)
        except NotFound:
            return _UNKNOWN
        except NotReady:
            return _NOT_SERVING
        return _SERVING

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        for watcher in list(self._watchers.values()):
            watcher.tell()
        if self._watchers:
            self._timer = self._loop.call_later(_LOOK_AGAIN_S, self._look)

    def _forget(self, call: Call) -> None:
        self._watchers.pop(call, None)


class _Watcher:
    """Tell one client a status, and again when it has changed."""

    def __init__(self, health: Health, call: Call) -> None:
        self.call = call
        self._health = health
        self._service: str | None = None
        self._told = -1

    @property
    def is_idle(self) -> bool:
        return True

    def on_message(self, payload: Part) -> None:
        if self._service is not None:
            raise InputError("this call takes one message, and a second one came")
        self._service = read_service(payload)
        self.tell()
        self._health.add(self)

    def on_end(self) -> None:
        if self._service is None:
            raise InputError("the call has no message")

    def on_sent(self) -> None:
        """Nothing waits for that."""

    def tell(self) -> None:
        status = self._health.status_of(self._service or "")
        if status != self._told:
            self._told = status
            self.call.send(_Response(status=status).SerializeToString())


def read_service(payload: Part) -> str:
    """Give the name that a check asks about; raises InputError."""
    try:
        name: str = _Request.FromString(payload).service
    except DecodeError:
        raise InputError("the message is no HealthCheckRequest") from None
    return name
