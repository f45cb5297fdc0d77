"""What is spelled for a whole call is what each of its answers would be by itself."""

from math import inf
from typing import Any

import numpy as np
import pytest

from ferryman.core.signature import Array
from ferryman.server.data.ask import Priority
from ferryman.server.data.shares import Batch, Share
from ferryman.server.data.v2.messages import TensorRequest, encode_tensors
from ferryman.server.data.v2.rows import encode_share

CHANCE = np.random.default_rng(7)


def asked(request_id: str | None) -> TensorRequest:
    return TensorRequest(request_id, {}, None, frozenset(), False, inf, Priority.NORMAL)


def alone(outputs: Any, request_id: str | None) -> bytes:
    return encode_tensors(asked(request_id), outputs, name="a", version="1", is_finite=True)[0]


@pytest.mark.parametrize("request_id", [None, 'one "of" many'])
@pytest.mark.parametrize(
    "arrays",
    [
        {"y": CHANCE.normal(size=(5, 2)).astype(np.float32)},
        {"y": CHANCE.normal(size=(3,)), "n": np.arange(3, dtype=np.int64)},
        {"y": np.array([[True], [False]]), "z": CHANCE.normal(size=(2, 2, 3)).astype(np.float32)},
        {"y": np.array([[1e-30, -0.0, 16777217.0]], np.float32)},
        {"y": np.zeros((4, 0), np.float32)},
    ],
)
def test_answers_spelled_together_are_those_spelled_alone(arrays: dict[str, Array], request_id: str | None) -> None:
    batch = Batch(arrays)
    for place in range(len(arrays["y"])):
        outputs = {name: values[place : place + 1] for name, values in arrays.items()}
        share = Share(batch, place)
        assert encode_share(share, request_id, name="a", version="1") == alone(outputs, request_id)
        assert alone(share, request_id) == alone(outputs, request_id)


@pytest.mark.parametrize("values", [np.zeros((3, 65), np.float32), np.array([["a"], ["b"]], object)])
def test_long_rows_and_texts_are_left_to_those_who_spell_them_alone(values: Array) -> None:
    assert encode_share(Share(Batch({"y": values}), 0), None, name="a", version="1") is None
