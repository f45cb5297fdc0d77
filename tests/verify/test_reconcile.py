from collections.abc import Sequence

import numpy as np
import pytest

from ferryman.core.errors import InputError, SourceError
from ferryman.core.signature import Array, Signature, Tensors, TensorSpec
from ferryman.verify.reconcile import (
    ReconciledSession,
    assumptions,
    fitting_orders,
    pair_inputs,
    pair_outputs,
    refuse_batch,
)


def _specs(**shapes: Sequence[int | str]) -> list[TensorSpec]:
    return [TensorSpec(name=name, dtype="float32", shape=tuple(shape)) for name, shape in shapes.items()]


def test_equal_names_and_shapes_need_no_assumption() -> None:
    pairs = pair_inputs(_specs(images=(1, 3, 8, 6)), _specs(images=(1, 3, 8, 6)))
    assert assumptions(pairs, "input") == []


def test_channels_at_the_end_and_another_name_are_seen_and_told() -> None:
    (pair,) = pair_inputs(_specs(images=("batch", 3, 8, 6)), _specs(input_1=(1, 8, 6, 3)))
    assert (pair.theirs, pair.order) == ("input_1", (0, 2, 3, 1))
    assert assumptions([pair], "input") == [
        "input 'images' is taken to be its 'input_1', its dimensions in the order (0, 2, 3, 1)"
    ]


def test_outputs_come_back_in_the_sources_order() -> None:
    wanted = Signature(inputs=tuple(_specs(images=(1, 3, 8, 6))), outputs=tuple(_specs(boxes=(1, 7, 20))))
    theirs = Signature(inputs=tuple(_specs(x=(1, 8, 6, 3))), outputs=tuple(_specs(y=(1, 20, 7))))

    class Theirs:
        signature = theirs

        def infer(self, inputs: Tensors) -> dict[str, Array]:
            assert inputs["x"].shape == (1, 8, 6, 3)
            return {"y": np.arange(140, dtype=np.float32).reshape(1, 20, 7)}

        def close(self) -> None:
            """Nothing to free."""

    given = Theirs().infer({"x": np.zeros((1, 8, 6, 3), np.float32)})
    right = {"boxes": given["y"].transpose(0, 2, 1)}
    pairs = (pair_inputs(wanted.inputs, theirs.inputs), pair_outputs(wanted.outputs, theirs.outputs, right, given))
    session = ReconciledSession(Theirs(), wanted, pairs)
    answer = session.infer({"images": np.zeros((1, 3, 8, 6), np.float32)})["boxes"]
    assert np.array_equal(answer[0, :, 3], np.arange(21, 28, dtype=np.float32))


def test_of_two_orders_that_fit_the_one_with_the_sources_values_is_taken() -> None:
    want = np.random.default_rng(0).random((1, 5, 5)).astype(np.float32)
    specs = _specs(out=(1, 5, 5))
    (turned,) = pair_outputs(specs, specs, {"out": want}, {"out": want.transpose(0, 2, 1) + 0.01})
    (same,) = pair_outputs(specs, specs, {"out": want}, {"out": want + 0.01})
    assert (turned.order, same.order) == ((0, 2, 1), (0, 1, 2))


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_of_outputs_of_one_shape_each_gets_the_one_with_its_values(dtype: str) -> None:
    wanted, theirs = _specs(left=(1, 7, 5), right=(1, 7, 5)), _specs(first=(1, 7, 5), second=(1, 5, 7))
    left, right = (np.random.default_rng(seed).normal(0, 99, (1, 7, 5)).astype(dtype) for seed in (0, 1))
    got = {"first": right + 1, "second": left.transpose(0, 2, 1) + 1}
    pairs = pair_outputs(wanted, theirs, {"left": left, "right": right}, got)
    assert [(pair.name, pair.theirs, pair.order) for pair in pairs] == [
        ("left", "second", (0, 2, 1)),
        ("right", "first", (0, 1, 2)),
    ]


def test_equal_names_are_believed_whatever_the_values() -> None:
    specs = _specs(left=(1, 5), right=(1, 5))
    ones, zeros = np.ones((1, 5), np.float32), np.zeros((1, 5), np.float32)
    pairs = pair_outputs(specs, specs, {"left": ones, "right": zeros}, {"left": zeros, "right": ones})
    assert all(pair.is_plain for pair in pairs)


def test_an_output_without_a_finite_value_is_the_last_choice() -> None:
    wanted, theirs = _specs(left=(1, 5), right=(1, 5)), _specs(a=(1, 5), b=(1, 5))
    value = np.arange(5, dtype=np.float32).reshape(1, 5)
    got = {"a": np.full((1, 5), np.nan, np.float32), "b": value}
    pairs = pair_outputs(wanted, theirs, {"left": value, "right": value + 9}, got)
    assert [pair.theirs for pair in pairs] == ["b", "a"]


def test_many_dimensions_are_refused_and_turned_without_trying_every_order() -> None:
    with pytest.raises(SourceError, match="no input like 'x'"):
        pair_inputs(_specs(x=(*[2] * 15, 3)), _specs(y=(*[2] * 15, 5)))
    (pair,) = pair_inputs(_specs(x=("batch", *range(2, 17))), _specs(y=(1, *range(16, 1, -1))))
    assert pair.order == (0, *range(15, 0, -1))
    assert len(list(fitting_orders([2] * 16, [2] * 16))) == 120
    assert list(fitting_orders([1] * 16, [1] * 16)) == [tuple(range(16))]


def test_what_does_not_fit_is_named_with_what_there_is() -> None:
    with pytest.raises(SourceError, match=r"no input like 'images' \[1, 3, 8, 8\]: it has images \[1, 3, 4, 4\]"):
        pair_inputs(_specs(images=(1, 3, 8, 8)), _specs(images=(1, 3, 4, 4)))
    with pytest.raises(SourceError, match="wants an input 'mask'"):
        pair_inputs(_specs(images=(1, 3)), _specs(images=(1, 3), mask=(1, 9)))


def test_another_fixed_batch_is_refused() -> None:
    mine, four = (Signature(inputs=tuple(_specs(x=(size, 3))), outputs=()) for size in ("batch", 4))
    with pytest.raises(InputError, match="takes 4 samples at once"):
        refuse_batch(mine, four)
    refuse_batch(mine, Signature(inputs=tuple(_specs(x=(1, 3))), outputs=()))
