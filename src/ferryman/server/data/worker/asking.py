"""The server's side of a job: asks into a message, a worker's message into replies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from ferryman.core.errors import FerrymanError, InputError
from ferryman.core.signature import Array
from ferryman.core.task import Answer, Item
from ferryman.server.data.ask import Ask, Reply, Stages
from ferryman.server.data.shares import Batch, Share
from ferryman.server.data.worker.parcel import Parcel, read_array
from ferryman.server.data.worker.wire import decode_error, decode_json, encode_json

Result = Reply | FerrymanError


class Answers(Sequence[Answer]):
    """Hold the answers of one ask as the JSON that the worker sent; read only where somebody looks into them.

    `text` is that JSON, a list, to be put into a response as it is; None where it holds a number that JSON lacks.
    """

    __slots__ = ("_parsed", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: list[Answer] | None = None

    @property
    def text(self) -> bytes | None:
        """Give the list as JSON."""
        return None if self._raw[:1] == b"!" else self._raw

    @overload
    def __getitem__(self, place: int) -> Answer: ...
    @overload
    def __getitem__(self, place: slice) -> list[Answer]: ...
    def __getitem__(self, place: int | slice) -> Answer | list[Answer]:
        return self._list()[place]

    def __len__(self) -> int:
        return len(self._list())

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._list())

    def __eq__(self, other: object) -> bool:
        return self._list() == (list(other) if isinstance(other, Sequence) else other)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return repr(self._list())

    def _list(self) -> list[Answer]:
        if self._parsed is None:
            self._parsed = decode_json(self._raw)
        return self._parsed


def write_tensors(asks: Sequence[Ask], parcel: Parcel) -> dict[str, Any]:  # JSON
    """Lay the tensors of asks one after the other; raises FerrymanError where they don't fit together."""
    first = asks[0].tensors or {}
    if len(asks) == 1:
        places = [[name, parcel.add(values)] for name, values in first.items()]
        rows = [asks[0].rows]
    else:
        tensors: list[Mapping[str, Array]] = [ask.tensors for ask in asks]  # type: ignore[misc]  # a job of tensors
        places = [[name, parcel.add_rows([each[name] for each in tensors])] for name in first]
        rows = [ask.rows for ask in asks]
        total = sum(rows)
        if any(place[1][0] != total for _, place in places):
            raise FerrymanError(f"asks of {total} rows hold tensors of other lengths")
    meta: dict[str, Any] = {"i": places, "r": rows}  # JSON
    if all([ask.outputs for ask in asks]):
        meta["w"] = sorted({name for ask in asks for name in ask.outputs or ()})
    return meta


def write_items(asks: Sequence[Ask], parcel: Parcel) -> tuple[dict[str, Any], dict[int, FerrymanError]]:  # JSON
    """Lay the items of asks; gives the errors of those that can't be sent, which are sent empty."""
    refused: dict[int, FerrymanError] = {}
    asked: list[list[Any]] = []
    for place, ask in enumerate(asks):
        try:
            asked.append([_write_item(item, parcel) for item in ask.items or ()])
        except FerrymanError as error:
            asked.append([])
            refused[place] = error
    return {"q": asked}, refused


def _write_item(item: Item, parcel: Parcel) -> list[Any]:  # JSON
    if isinstance(item, bytes | bytearray | memoryview):
        return ["bytes", *parcel.add_bytes(item)]
    if isinstance(item, np.ndarray):
        return ["array", parcel.add(item)]
    if isinstance(item, Path):
        return ["path", str(item)]
    if not isinstance(item, Mapping):
        raise InputError(f"a {type(item).__name__} is nothing that this model takes")
    arrays = {name: value for name, value in item.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in item.items() if name not in arrays} if arrays else item
    try:
        content = encode_json(rest)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"an item can't be sent: {error}", hint="give text, numbers, lists or nothing") from None
    if not arrays:
        return ["json", *parcel.add_bytes(content)]
    placed = [[name, parcel.add(value)] for name, value in arrays.items()]
    return ["named", *parcel.add_bytes(content), placed]


def read_results(asks: Sequence[Ask], meta: dict[str, Any], payload: memoryview) -> list[Result]:  # JSON
    """Give one reply or error for each ask; raises ValueError, LookupError or TypeError for a message that is none."""
    queue_s, prepare_s, infer_s, finish_s = meta["s"]
    rows = sum([ask.rows for ask in asks])
    stages = Stages(queue_s, prepare_s, infer_s, finish_s, len(asks), rows)
    reply = partial(Reply, stages=stages)
    bad = frozenset(meta.get("n", ()))
    results: list[Result | None] = [None] * len(asks)
    for place, *error in meta.get("e", ()):
        results[place] = decode_error(error)
    for group in meta.get("g", ()):
        _read_group(group, payload, asks, results, (stages, bad))
    for place, offset, size in meta.get("a", ()):
        answers = Answers(bytes(payload[offset : offset + size]))
        results[place] = reply(outputs=None, answers=answers, is_finite=place not in bad)
    return [result if result is not None else FerrymanError("the worker forgot a request") for result in results]


def _read_group(
    group: Sequence[Any],  # JSON
    payload: memoryview,
    asks: Sequence[Ask],
    results: list[Result | None],
    shared: tuple[Stages, frozenset[int]],
) -> None:
    first, rows, places = group
    stages, bad = shared
    arrays = [(name, read_array(place, payload)) for name, place in places]
    if len(rows) == 1:
        results[first] = _reply(dict(arrays), asks[first], stages, first not in bad)
        return
    # This loop is the cost of every batched request.
    for place, outputs in enumerate(_cut(arrays, rows), first):
        ask = asks[place]
        if ask.outputs is None:
            results[place] = Reply(outputs, None, place not in bad, stages)
        else:
            results[place] = _reply(outputs, ask, stages, place not in bad)


def _cut(arrays: Sequence[tuple[str, Array]], rows: Sequence[int]) -> Iterable[Mapping[str, Array]]:
    """Give each ask its rows of every array."""
    if max(rows) == 1 and all(len(values) == len(rows) for _, values in arrays):
        batch = Batch(dict(arrays))
        return [Share(batch, place) for place in range(len(rows))]
    ends = list(accumulate(rows))
    return [{name: values[end - count : end] for name, values in arrays} for end, count in zip(ends, rows, strict=True)]


def _reply(outputs: Mapping[str, Array], ask: Ask, stages: Stages, is_finite: bool) -> Result:
    if ask.outputs is not None:
        if unknown := [name for name in ask.outputs if name not in outputs]:
            return InputError(f"no output is called '{unknown[0]}'", hint=f"this model gives {sorted(outputs)}")
        outputs = {name: outputs[name] for name in ask.outputs}
    return Reply(outputs, None, is_finite, stages)
