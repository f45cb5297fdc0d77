"""Find out whether requests may share a call of the engine: only where that changes no answer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ferryman.core.bundle import Bundle
from ferryman.core.errors import InputError
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Signature, Tensors
from ferryman.core.task import Item, Task, infer_items

_MOST_SAMPLES = 8
_LONGEST_S = 0.02
"""What one sample may take, in seconds, so that more than two are tried: a start must not take for ever."""
_LONGEST_CALL_S = 0.05
"""What the largest call may take by that measure, so that it is tried, too."""

_MOST_ROWS = 256
_GAINLESS = 1.7

_RELATIVE = {"float16": 2e-3}
_CLOSE = 1e-4


@dataclass(frozen=True, slots=True)
class Batching:
    """Say how many rows one call may hold; `why_not` tells why it is one where the model itself would take more."""

    max_batch: int
    why_not: str = ""


class _Changed(Exception):
    """Say what is different when samples share a call."""


def prove_batching(bundle: Bundle, task: Task, session: Session, *, most: int = 0, threads: int = 0) -> Batching:
    """Ask samples alone and together, in two orders; they may share calls where every answer stays the same.

    Without `most` (0) they don't where two together take nearly as long as one after the other: sharing would only make
    callers wait for each other, and cost memory. An engine of one thread is timed by its CPU time, which others on the
    machine don't change.

    The samples are the golden ones, and variants of them whose values are of another size: scales that a model takes
    over its whole batch (dynamic INT8, a normalization) then show.
    """
    size = session.signature.max_batch
    if size == 1 or most == 1:
        return Batching(1)
    is_free_to_choose = not most and size is None
    most = most or _MOST_ROWS
    if reason := _shape_reason(session.signature):
        return Batching(1, reason)
    try:
        samples = _answer_alone(_samples(bundle, task, session.signature), session, size or 1)
        if len(samples) < 2:
            raise _Changed("there are no two samples to show that sharing a call changes no answer")
        samples = samples[: size or _MOST_SAMPLES]
        if is_free_to_choose and (times := _times_of_two(samples, session, threads)) > _GAINLESS:
            return Batching(1, f"two requests in one call take {times:.1f} times as long as one: nothing is gained")
        for order in _orders(samples, size, most):
            _compare(order, session)
        _compare_answers(bundle, task, session, len(samples))
    except _Changed as change:
        return Batching(1, str(change))
    return Batching(size or most)


@dataclass(frozen=True, slots=True)
class _Sample:
    inputs: Tensors
    outputs: Tensors
    took_s: float


def _shape_reason(signature: Signature) -> str:
    ports = [*signature.inputs, *signature.outputs]
    flat = next((port for port in ports if not port.shape), None)
    if flat is not None:
        return f"'{flat.name}' has no dimension for a batch"
    firsts = {port.shape[0] for port in signature.inputs}
    sizes = {first for first in firsts if isinstance(first, int)}
    if sizes and len(firsts) > 1:
        return "its inputs differ in their first dimension"
    return ""


def _samples(bundle: Bundle, task: Task, signature: Signature) -> list[Tensors]:
    """Give inputs of one row each, the golden ones between their variants, so that the first two differ in size."""
    rows: list[Tensors] = []
    for golden in bundle.golden[:_MOST_SAMPLES]:
        inputs = _inputs_of(golden.item, task, signature)
        row = {name: values[:1] for name, values in inputs.items()}
        rows += [row, _varied(row, len(rows))]
    return rows or _made_up(signature)


def _inputs_of(item: Item, task: Task, signature: Signature) -> Tensors:
    """Give an item's tensors; of a fixed batch the item may fill one row or all of them."""
    try:
        return task.preprocess([item]).inputs
    except InputError:
        return task.preprocess([item] * (signature.max_batch or 1)).inputs


def _orders(samples: Sequence[_Sample], size: int | None, most: int) -> list[list[_Sample]]:
    """Give the calls to try: both orders, and the largest call where that is quick."""
    count = size or len(samples)
    calls = [_repeated(samples, count), _repeated(samples[::-1], count)]
    if size is None and max(sample.took_s for sample in samples) * most < _LONGEST_CALL_S:
        calls.append(_repeated(samples, most))
    return calls


def _times_of_two(samples: Sequence[_Sample], session: Session, threads: int) -> float:
    """Give how many times as long two samples take in one call as one does; the least of a few, as noise only adds."""
    first = samples[0].inputs
    pair = {name: np.concatenate([first[name], samples[1].inputs[name]]) for name in first}
    turns = 2 if samples[0].took_s > _LONGEST_S / 4 else 7
    try:
        clock = time.process_time if threads == 1 else time.perf_counter
        alone_s = min(_took_s(session, first, clock) for _ in range(turns))
        together_s = min(_took_s(session, pair, clock) for _ in range(turns))
    except Exception as error:  # noqa: BLE001 - an engine may fail in any way at a size that it doesn't take
        raise _Changed(f"it fails when 2 samples share a call: {error}"[:300]) from None
    return together_s / alone_s


def _took_s(session: Session, inputs: Tensors, clock: Callable[[], float]) -> float:
    began_s = clock()
    session.infer(inputs)
    return clock() - began_s


def _repeated(samples: Sequence[_Sample], count: int) -> list[_Sample]:
    return [samples[place % len(samples)] for place in range(count)]


def _varied(row: Tensors, place: int) -> Tensors:
    """Give a row like this one, with numbers of another size (integers and text: in another order)."""
    factor = (0.37, 2.9, -1.3)[place // 2 % 3]
    varied: dict[str, Array] = {}
    for name, values in row.items():
        if values.dtype.kind == "f":
            varied[name] = (cast(Any, values) * factor).astype(values.dtype)
        else:
            varied[name] = np.roll(values, 1, axis=-1)
    return varied


def _made_up(signature: Signature) -> list[Tensors]:
    """Give rows of chance, where there are no golden samples and every size is known."""
    if any(isinstance(size, str) or port.dtype == "string" for port in signature.inputs for size in port.shape[1:]):
        return []
    chance = np.random.default_rng(0)
    return [
        {
            port.name: (chance.random((1, *cast(tuple[int, ...], port.shape[1:]))) * scale).astype(port.dtype)
            for port in signature.inputs
        }
        for scale in (1.0, 3.0)
    ]


def _answer_alone(rows: Sequence[Tensors], session: Session, size: int) -> list[_Sample]:
    """Answer rows each by itself (repeated where the batch is fixed); those that the model refuses are left out."""
    samples: list[_Sample] = []
    for row in rows:
        # Requests of other shapes never share a call.
        if any(_is_same(row, s.inputs) for s in samples) or (samples and _shapes(row) != _shapes(samples[0].inputs)):
            continue
        began_s = time.perf_counter()
        try:
            outputs = session.infer({name: np.repeat(values, size, axis=0) for name, values in row.items()})
        except InputError:
            continue
        took_s = time.perf_counter() - began_s
        _require_rows(outputs, size)
        samples.append(_Sample(row, {name: values[:1] for name, values in outputs.items()}, took_s))
        if len(samples) >= (2 if took_s > _LONGEST_S else _MOST_SAMPLES):
            break
    return samples


def _shapes(row: Tensors) -> list[tuple[int, ...]]:
    return [values.shape for values in row.values()]


def _is_same(first: Tensors, second: Tensors) -> bool:
    return all(np.array_equal(values, second[name]) for name, values in first.items())


def _compare(chosen: Sequence[_Sample], session: Session) -> None:
    try:
        outputs = session.infer(
            {name: np.concatenate([sample.inputs[name] for sample in chosen]) for name in chosen[0].inputs}
        )
    except Exception as error:  # noqa: BLE001 - an engine may fail in any way at a size that it doesn't take
        raise _Changed(f"it fails when {len(chosen)} samples share a call: {error}"[:300]) from None
    _require_rows(outputs, len(chosen))
    for place, sample in enumerate(chosen):
        for name, alone in sample.outputs.items():
            _require_close(name, alone, outputs[name][place : place + 1])


def _compare_answers(bundle: Bundle, task: Task, session: Session, count: int) -> None:
    """Ask golden samples together: what the task makes of the tensors must not depend on its neighbours either."""
    golden = bundle.golden[:count]
    if len(golden) < 2:
        return
    try:
        answers = infer_items(task, session, [sample.item for sample in golden])
    except InputError:  # samples of other shapes, say: a job of such items is answered one by one
        return
    for sample, answer in zip(golden, answers, strict=True):
        if beyond := task.agreement([sample.answer], [answer]).beyond(bundle.tolerance):
            raise _Changed(f"golden sample '{sample.name}' is answered otherwise in a shared call: {sorted(beyond)}")


def _require_rows(outputs: Mapping[str, Array], count: int) -> None:
    for name, values in outputs.items():
        if not values.ndim or values.shape[0] != count:
            raise _Changed(f"output '{name}' has shape {list(values.shape)} for {count} samples: not a row for each")


def _require_close(name: str, alone: Array, together: Array) -> None:
    if alone.shape != together.shape:
        raise _Changed(f"output '{name}' has shape {list(together.shape)} where samples share a call")
    if alone.dtype.kind not in "fc":
        if not np.array_equal(alone, together):
            raise _Changed(f"output '{name}' changes when samples share a call")
        return
    first, second = cast(Any, alone).astype(np.float64), cast(Any, together).astype(np.float64)
    finite = np.isfinite(first)
    scale = float(np.abs(first[finite]).max()) if finite.any() else 0.0
    limit = _RELATIVE.get(alone.dtype.name, _CLOSE) * scale + 1e-7
    if not np.allclose(first, second, rtol=0.0, atol=limit, equal_nan=True):
        with np.errstate(invalid="ignore"):
            worst = float(np.nanmax(np.abs(first - second)))
        raise _Changed(
            f"output '{name}' changes by {worst:.3g} (of {scale:.3g}) when samples share a call, over {limit:.3g}"
        )
