"""Inputs against a signature."""

import numpy as np
import pytest

from ferryman.core.errors import InputError
from ferryman.core.signature import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 3)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=("batch",)),),
)


def test_any_batch_fits_a_named_dimension() -> None:
    SIGNATURE.check({"x": np.zeros((1, 3), np.float32)})
    SIGNATURE.check({"x": np.zeros((7, 3), np.float32)})
    assert SIGNATURE.max_batch is None


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "input 'x' is missing"),
        ({"z": np.zeros(3)}, "no input is called 'z'"),
        ({"x": np.zeros((1, 3))}, "has dtype float64; the model takes float32"),
        ({"x": np.zeros((1, 4), np.float32)}, "has shape [1, 4]; the model takes ['batch', 3]"),
        ({"x": np.zeros(3, np.float32)}, "has shape [3]"),
        ({"x": np.array([["a", "b", "c"]], object)}, "has dtype string"),
    ],
)
def test_what_does_not_fit_is_named(
    inputs: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        SIGNATURE.check(inputs)
    assert words in str(caught.value)
    assert caught.value.hint


def test_a_fixed_batch_is_the_largest() -> None:
    fixed = SIGNATURE.model_copy(update={"inputs": (TensorSpec(name="x", dtype="float32", shape=(4, 3)),)})
    assert fixed.max_batch == 4
