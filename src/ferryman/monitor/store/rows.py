"""Records as bytes and back: compact JSON, in which no value of a signal can break anything."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from ferryman.core.record import Record, Value
from ferryman.monitor.store.frames import MAX_FRAME_BYTES

MAX_TEXT = 1024
"""Longest text of a signal, an id or a name that is kept, in characters."""
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_INFINITE: dict[str, float] = {"+": math.inf, "-": -math.inf}
Raw = list[Any]
"""A decoded record: Record's fields in their order, as `record_of` takes them."""


def encode(record: Record, counts: Counter[str]) -> bytes:
    """Give one record as JSON; counts texts that were `shortened`, and records whose signals were `too_large`."""
    columns = {_text(name, counts): _plain(values, counts) for name, values in record.columns.items()}
    coded = _dump(_listed(record, columns, counts))
    if len(coded) > MAX_FRAME_BYTES:
        counts["too_large"] += 1
        coded = _dump(_listed(record, {}, counts))
    return coded


def decode(coded: bytes) -> Raw:
    """Give a record as a list; `value_of` reads the values of its columns."""
    raw: Raw = orjson.loads(coded)
    return raw


def value_of(coded: Any) -> Value:  # what JSON holds
    """Give a signal's value as it was."""
    if isinstance(coded, list):
        return _INFINITE[coded[0]]
    return coded if coded is None or isinstance(coded, str) else float(coded)


def record_of(raw: Raw) -> Record:
    """Give a decoded record as a Record."""
    columns = {name: [value_of(value) for value in values] for name, values in raw[14].items()}
    times = [math.nan if value is None else float(value) for value in (raw[3], *raw[7:12])]
    return Record(
        id=raw[0], model=raw[1], version=raw[2], at_s=times[0], outcome=raw[4], transport=raw[5], trace=raw[6],
        total_s=times[1], queue_s=times[2], prepare_s=times[3], infer_s=times[4], finish_s=times[5],
        asks=raw[12], rows=raw[13], columns=columns,
    )  # fmt: skip


def _listed(record: Record, columns: dict[str, Any], counts: Counter[str]) -> Raw:  # JSON
    return [
        _text(record.id, counts), _text(record.model, counts), _text(record.version, counts), record.at_s,
        _text(record.outcome, counts), _text(record.transport, counts), _text(record.trace, counts),
        record.total_s, record.queue_s, record.prepare_s, record.infer_s, record.finish_s,
        record.asks, record.rows, columns,
    ]  # fmt: skip


def _dump(listed: Raw) -> bytes:
    try:
        return orjson.dumps(listed, option=_OPTIONS)
    except TypeError:  # half of a surrogate pair, which no UTF-8 has
        return orjson.dumps(_sound(listed), option=_OPTIONS)


def _sound(value: Any) -> Any:  # JSON
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_sound(inner) for inner in value]
    if isinstance(value, dict):
        return {_sound(name): _sound(inner) for name, inner in value.items()}
    return value


def _plain(values: Sequence[Value], counts: Counter[str]) -> Sequence[Any]:  # JSON
    try:
        if math.isfinite(sum(values)):  # type: ignore[arg-type]  # texts raise
            return list(values)
    except (TypeError, ValueError, OverflowError):
        pass
    return [_coded(value, counts) for value in values]


def _coded(value: Value, counts: Counter[str]) -> Any:  # JSON
    if value is None:
        return None
    if isinstance(value, str):
        return _text(value, counts)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        counts["unreadable_values"] += 1
        return None
    if math.isfinite(number):
        return number
    return None if math.isnan(number) else ["+" if number > 0 else "-"]


def _text(value: str, counts: Counter[str]) -> str:
    if len(value) <= MAX_TEXT:
        return value
    counts["shortened"] += 1
    return value[: MAX_TEXT - 3] + "..."
