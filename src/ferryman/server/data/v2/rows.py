"""Spell the answers of one call of the engine at once: for short ones that costs far less than one after the other."""

import orjson

from ferryman.server.data.shares import Batch, Share
from ferryman.server.data.v2.codec import datatype_of
from ferryman.server.data.v2.messages import answer_head, tensor_head

_MOST_VALUES = 64  # of one row: longer ones are worth no more at once, and not every request wants them as JSON


def encode_share(share: Share, request_id: str | None, *, name: str, version: str) -> bytes | None:
    """Give the answer of one ask as `encode_tensors` does, all outputs as JSON; None where that has to do it.

    Every number has to be finite.
    """
    batch = share.batch
    if batch.note is None:
        batch.note = _spell(batch)
    ends: list[bytes] = batch.note
    return answer_head(name, version, request_id) + ends[share.place] if ends else None


def _spell(batch: Batch) -> list[bytes]:
    """Give what each row's answer ends with; nothing where the rows are not short lists of numbers."""
    columns: list[list[bytes]] = []
    for name, values in batch.arrays.items():
        count = len(values)
        if values.dtype.kind not in "fiub" or values.size > _MOST_VALUES * count:
            return []
        head = tensor_head(name, datatype_of(values), (1, *values.shape[1:]))
        rows = orjson.dumps(values.reshape(count, -1), option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
        columns.append([b'%s"data":[%s]}' % (head, row) for row in rows])
    return [b'"outputs":[%s]}' % b",".join(tensors) for tensors in zip(*columns, strict=True)]
