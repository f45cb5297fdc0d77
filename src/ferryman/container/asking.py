"""Ask a served model the same things again and again, and tell right answers from wrong ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from ferryman.client.http import Client
from ferryman.client.load.messages import infer_request
from ferryman.conformance.broken import Broken, NotTried
from ferryman.conformance.case import Case
from ferryman.conformance.target import Target
from ferryman.conformance.tensors import DTYPES, NOT_IN_JSON, Tensor, compare
from ferryman.container.outcome import NotChecked
from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError
from ferryman.core.signature import Tensors
from ferryman.core.task import Answer, Item, Task, bind_task

_TIMEOUT_S = 20.0
_DATATYPES = {dtype.name: name for name, dtype in DTYPES.items() if name not in ("BYTES", "BF16")}


class Asker(Protocol):
    """Ask one model of a server at an address that changes with each start."""

    model: str

    def ask(self, url: str) -> list[Any]:  # answers of a kind that only the asker knows
        """Give the answers to all samples; raises FerrymanError or Broken where one can't be had."""

    def wrong(self, answers: Sequence[Any]) -> list[str]:
        """Say what is wrong with answers: nothing where they are right."""

    def requests(self, url: str) -> list[bytes]:
        """Give the same questions as whole HTTP requests."""


@dataclass
class GoldenAsker:
    """Ask a bundle's golden samples: as items where the server knows the task, as tensors where it doesn't."""

    bundle: Bundle
    model: str

    @cached_property
    def _task(self) -> Task:
        return bind_task(self.bundle.deployment.task, self.bundle.artifact.signature)

    def ask(self, url: str) -> list[Answer]:
        """Give one answer a sample, in the task's own words."""
        case = Case(Target(url, timeout_s=_TIMEOUT_S), self.model)
        items = [sample.item for sample in self.bundle.golden]
        if not self._takes_items(case):
            return [self._through_tensors(case, item) for item in items]
        with Client(url, _TIMEOUT_S) as client:
            return [client.infer_item(self.model, item) for item in items]

    def wrong(self, answers: Sequence[Any]) -> list[str]:
        """Compare with the stored answers, within the bundle's tolerance."""
        found = []
        for sample, answer in zip(self.bundle.golden, answers, strict=True):
            beyond = self._task.agreement([sample.answer], [answer]).beyond(self.bundle.tolerance)
            found += [
                f"sample '{sample.name}': {name} {value:.4g} is beyond {self.bundle.tolerance[name]:g}"
                for name, value in beyond.items()
            ]
        return found

    def requests(self, url: str) -> list[bytes]:
        """Give the golden samples as whole HTTP requests."""
        case = Case(Target(url, timeout_s=_TIMEOUT_S), self.model)
        items = [sample.item for sample in self.bundle.golden]
        host = case.target.address
        if self._takes_items(case):
            return [infer_request(self.model, item, host=host) for item in items]
        return [_message(case, self._tensors(item)) for item in items]

    def _takes_items(self, case: Case) -> bool:
        served = str((case.metadata.get("parameters") or {}).get("task", ""))
        return served == self.bundle.deployment.task.kind and served != "tensor"

    def _tensors(self, item: Item) -> list[Tensor]:
        size = self.bundle.artifact.signature.max_batch or 1
        return _as_tensors(self._task.preprocess([item] * size).inputs)

    def _through_tensors(self, case: Case, item: Item) -> Answer:
        size = self.bundle.artifact.signature.max_batch or 1
        batch = self._task.preprocess([item] * size)
        outputs = {name: _plain(one) for name, one in _answer(case, _as_tensors(batch.inputs)).items()}
        return self._task.postprocess(outputs, batch)[0]


@dataclass
class MadeAsker:
    """Ask with a given V2 request, or values made from the model's metadata; the first answer counts as right."""

    model: str
    request: Mapping[str, Any] | None = None  # JSON
    _tensors: list[Tensor] = field(default_factory=list)
    _first: dict[str, Tensor] = field(default_factory=dict)

    def ask(self, url: str) -> list[dict[str, Tensor]]:
        """Give the model's outputs."""
        given = {self.model: self.request} if self.request else {}
        case = Case(Target(url, timeout_s=_TIMEOUT_S, inputs=given), self.model)
        if not self._tensors:
            try:
                self._tensors = case.inputs
            except NotTried as reason:
                raise NotChecked(str(reason), hint="--bundle DIR or --request FILE has inputs that fit") from None
        answer = _answer(case, self._tensors)
        self._first = self._first or answer
        return [answer]

    def wrong(self, answers: Sequence[Any]) -> list[str]:
        """Compare with the first answer."""
        try:
            compare(self._first, answers[0], way="asked again, the model")
        except Broken as error:
            return [str(error)]
        return []

    def requests(self, url: str) -> list[bytes]:
        """Give the question as a whole HTTP request."""
        return [_message(Case(Target(url, timeout_s=_TIMEOUT_S), self.model), self._tensors)]


def _answer(case: Case, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    if _goes_as_json(case, tensors):
        return case.outputs_of(case.ask_json(tensors))
    return case.outputs_of(case.ask_binary(tensors, is_binary_out=True))


def _goes_as_json(case: Case, tensors: Sequence[Tensor]) -> bool:
    needs_bytes = any(tensor.datatype in NOT_IN_JSON for tensor in tensors)
    return not needs_bytes and "binary_tensor_data" not in case.target.extensions


def _message(case: Case, tensors: Sequence[Tensor]) -> bytes:
    if _goes_as_json(case, tensors):
        body = json.dumps({"inputs": [tensor.to_json() for tensor in tensors]}).encode()
        head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        path = f"/v2/models/{quote(case.model, safe='')}/infer"
        return f"POST {path} HTTP/1.1\r\nHost: {case.target.address}\r\n{head}\r\n".encode() + body
    return infer_request(case.model, {one.name: _plain(one) for one in tensors}, host=case.target.address)


def _as_tensors(inputs: Tensors) -> list[Tensor]:
    return [_as_tensor(name, np.asarray(array)) for name, array in inputs.items()]


def _as_tensor(name: str, array: Any) -> Tensor:  # an array of any dtype
    if array.dtype.kind in "OSU":
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in array.ravel().tolist()]
        return Tensor(name, "BYTES", np.array(texts, object).reshape(array.shape))
    if array.dtype.name not in _DATATYPES:
        raise FerrymanError(f"input '{name}' has dtype {array.dtype}, which the protocol V2 lacks")
    return Tensor(name, _DATATYPES[array.dtype.name], array)


def _plain(tensor: Tensor) -> Any:  # an array of any dtype
    if tensor.datatype != "BYTES":
        return tensor.array
    return np.array([text.decode() for text in tensor.array.ravel().tolist()], object).reshape(tensor.array.shape)
