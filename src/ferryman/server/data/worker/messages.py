"""What a worker reads and writes: jobs as frames' content, outcomes as the answer's."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ferryman.core.errors import FerrymanError
from ferryman.core.signature import Array
from ferryman.core.task import Item
from ferryman.server.data.worker.parcel import Parcel, read_array
from ferryman.server.data.worker.running import Outcome
from ferryman.server.data.worker.wire import decode_json, encode_error, encode_json


def read_tensors(meta: dict[str, Any], payload: memoryview) -> dict[str, Array]:  # JSON
    """Give the inputs of a job of tensors."""
    return {name: read_array(place, payload) for name, place in meta["i"]}


def read_items(meta: dict[str, Any], payload: memoryview) -> list[list[Item]]:  # JSON
    """Give the items of each ask of a job."""
    return [[_read_item(item, payload) for item in items] for items in meta["q"]]


def _read_item(raw: list[Any], payload: memoryview) -> Item:  # JSON
    kind = raw[0]
    if kind == "bytes":
        return bytes(payload[raw[1] : raw[1] + raw[2]])
    if kind == "json":
        row: dict[str, Any] = decode_json(bytes(payload[raw[1] : raw[1] + raw[2]]))
        return row
    if kind == "array":
        return read_array(raw[1], payload)
    if kind == "path":
        return Path(raw[1])
    named: dict[str, Any] = decode_json(bytes(payload[raw[1] : raw[1] + raw[2]]))
    return {**named, **{name: read_array(place, payload) for name, place in raw[3]}}


def write_outcome(outcome: Outcome, wanted: Sequence[str] | None) -> tuple[dict[str, Any], Parcel]:  # JSON
    """Give the answer's JSON and payload; only the outputs that somebody wants are sent."""
    parcel = Parcel()
    times = outcome.times
    meta: dict[str, Any] = {"s": [times.queue_s, times.prepare_s, times.infer_s, times.finish_s]}  # JSON
    if outcome.groups:
        meta["g"] = list(_write_groups(outcome, wanted, parcel))
    if outcome.answers:
        meta["a"] = list(_write_answers(outcome, parcel))
    if outcome.not_finite:
        meta["n"] = sorted(outcome.not_finite)
    if outcome.errors:  # at last: what can't be said has become one
        meta["e"] = [[place, *encode_error(error)] for place, error in outcome.errors.items()]
    return meta, parcel


def _write_groups(outcome: Outcome, wanted: Sequence[str] | None, parcel: Parcel) -> Iterator[list[Any]]:  # JSON
    for group in outcome.groups:
        outputs = group.outputs.items()
        try:
            places = [[name, parcel.add(values)] for name, values in outputs if wanted is None or name in wanted]
        except Exception as error:  # noqa: BLE001 - a plug-in's outputs may be anything
            unsaid = FerrymanError(f"the model's outputs can't be sent: {error}")
            outcome.errors.update({group.first + place: unsaid for place in range(len(group.rows))})
        else:
            yield [group.first, group.rows, places]


def _write_answers(outcome: Outcome, parcel: Parcel) -> Iterator[list[Any]]:  # JSON
    for place, answers in outcome.answers.items():
        if place in outcome.errors:
            continue
        try:
            encoded = encode_json(answers)
        except Exception as error:  # noqa: BLE001 - a plug-in's answers may be anything
            outcome.errors[place] = FerrymanError(f"the task's answers can't be sent: {error}")
        else:
            yield [place, *parcel.add_bytes(encoded)]
