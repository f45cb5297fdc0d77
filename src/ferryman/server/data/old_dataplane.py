"""Answer with loaded models: no transport here, and none of a transport's words."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ferryman.core.errors import InputError, NotFound, NotReady
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.core.task import Answer, Item, infer_items
from ferryman.server.data.metrics import Metrics, outcome_of
from ferryman.server.data.models import ServedModel
from ferryman.server.data.workers import Workers

_LAST_ANSWER_S = 10.0


@dataclass(slots=True)
class _Slot:
    model: ServedModel | None = None
    reason: str = "is still loading"


class Dataplane:
    """Hold the models of a server and answer with them; use from one event loop.

    Without a version, the version that was announced last answers.
    """

    def __init__(self, metrics: Metrics, *, workers: int, max_queue: int) -> None:
        self.metrics = metrics
        self.is_draining = False
        self._slots: dict[str, dict[str, _Slot]] = {}
        self._workers = Workers(count=workers, max_queue=max_queue)

    def announce(self, name: str, version: str) -> None:
        """Make a model known that is not loaded yet: the server is not ready before it is."""
        self._slots.setdefault(name, {})[version] = _Slot()

    def put(self, model: ServedModel) -> None:
        """Begin to answer with a model."""
        self._slots.setdefault(model.name, {})[model.version] = _Slot(model, "")
        self.metrics.golden_ok.labels(model.name).set(1)

    def refuse(self, name: str, version: str, *, reason: str) -> None:
        """Say why an announced model will not answer."""
        self._slots.setdefault(name, {})[version] = _Slot(None, reason)
        self.metrics.golden_ok.labels(name).set(0)

    def find(self, name: str, version: str | None = None) -> ServedModel:
        """Give a loaded model; raises NotFound, or NotReady with the reason."""
        slot = self._slot(name, version)
        if slot.model is None:
            raise NotReady(f"model '{name}' {slot.reason}")
        return slot.model

    def models(self) -> list[ServedModel]:
        """Give all loaded models."""
        return [slot.model for versions in self._slots.values() for slot in versions.values() if slot.model]

    def versions(self, name: str) -> list[str]:
        """Give the versions of a model, loaded or not, in the order of their announcement."""
        return list(self._slots.get(name, {}))

    def index(self) -> list[dict[str, str]]:
        """List every version of every model with its state, READY or UNAVAILABLE, and the reason."""
        return [
            {"name": name, "version": version, "state": "READY" if slot.model else "UNAVAILABLE", "reason": slot.reason}
            for name, versions in self._slots.items()
            for version, slot in versions.items()
        ]

    def why_not_ready(self) -> str:
        """Give the reason why this server should get no requests, or nothing."""
        if self.is_draining:
            return "the server is stopping"
        slots = ((name, slot) for name, versions in self._slots.items() for slot in versions.values())
        return "; ".join(f"model '{name}' {slot.reason}" for name, slot in slots if slot.model is None)

    @contextmanager
    def track(self, name: str) -> Iterator[None]:
        """Count and time one request, from its first byte to its answer."""
        label = name if name in self._slots else "unknown"
        started_s = time.perf_counter()
        failure: BaseException | None = None
        self.metrics.in_flight.inc()
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            self.metrics.in_flight.dec()
            self.metrics.requests.labels(label, outcome_of(failure)).inc()
            self.metrics.request_s.labels(label).observe(time.perf_counter() - started_s)

    async def infer_tensors(
        self, name: str, version: str | None, inputs: Tensors, outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Give the named outputs (all of them by default) for a model's inputs."""
        model = self.find(name, version)
        known = [spec.name for spec in model.session.signature.outputs]
        wanted = known if outputs is None else list(outputs)
        if unknown := [output for output in wanted if output not in known]:
            raise InputError(f"no output is called '{unknown[0]}'", hint=f"this model gives {known}")
        model.session.signature.check(inputs)
        session = self._timed(model)
        answered = await self._workers.run(lambda: session.infer(inputs))
        return {output: answered[output] for output in wanted}

    async def infer_items(self, name: str, version: str | None, items: Sequence[Item]) -> list[Answer]:
        """Answer pictures or rows in the task's own words."""
        model = self.find(name, version)
        session = self._timed(model)
        return await self._workers.run(lambda: infer_items(model.task, session, items))

    def abandon(self) -> None:
        """Tell all who still wait for an answer that it will not come."""
        self._workers.abandon(NotReady("the server stopped before the answer was there", hint="ask another one"))

    def close(self) -> None:
        """Free the threads and the models; drops what still waits. No call may follow."""
        if self._workers.close(deadline_s=_LAST_ANSWER_S):
            for model in self.models():
                model.session.close()

    def _slot(self, name: str, version: str | None) -> _Slot:
        versions = self._slots.get(name)
        if not versions:
            raise NotFound(f"no model is called '{name}'", hint=f"this server has {', '.join(self._slots) or 'none'}")
        if version is None:
            return versions[next(reversed(versions))]
        if version not in versions:
            raise NotFound(f"model '{name}' has no version '{version}'", hint=f"it has {', '.join(versions)}")
        return versions[version]

    def _timed(self, model: ServedModel) -> Session:
        return _TimedSession(model.session, self.metrics.inference_s.labels(model.name).observe)


class _TimedSession:
    """Pass calls on to a session and tell how long each took, in seconds."""

    def __init__(self, session: Session, observe_s: Callable[[float], None]) -> None:
        self.signature = session.signature
        self._session = session
        self._observe_s = observe_s

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        started_s = time.perf_counter()
        outputs = self._session.infer(inputs)
        self._observe_s(time.perf_counter() - started_s)
        return outputs

    def close(self) -> None:
        self._session.close()
