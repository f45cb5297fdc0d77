from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.runtime import Stage
from ferryman.core.signature import Array, Signature, Tensors
from ferryman.verify.blame import first_divergence
from ferryman.verify.match import Traced, match_stages

ARTIFACT = Artifact(Path("m"), "any", Signature(inputs=(), outputs=()), "")


class _Told:
    """Be a tracer that shows what it was given: (tensor, operator, what feeds it, value)."""

    def __init__(self, *entries: tuple[str, str, tuple[str, ...], Array]) -> None:
        self._entries = entries

    def stages(self, artifact: Artifact) -> list[Stage]:
        return [Stage(tensor, f"{op} of {tensor}", op, feeds) for tensor, op, feeds, _ in self._entries]

    def trace(
        self, artifact: Artifact, inputs: Sequence[Tensors], tensors: Sequence[str]
    ) -> Iterator[dict[str, Array]]:
        yield {tensor: value for tensor, _, _, value in self._entries if tensor in tensors}


def _noise(seed: int, *shape: int) -> "np.typing.NDArray[np.float32]":
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _traced(*entries: tuple[str, str, tuple[str, ...], Array]) -> Traced:
    return Traced(_Told(*entries), ARTIFACT, {})


def test_tensors_are_known_by_their_values_whatever_their_names_and_order() -> None:
    first, second = _noise(1, 1, 4, 8, 8), _noise(2, 1, 4, 8, 8)
    source = _traced(("a", "Conv", (), first), ("b", "Relu", ("a",), second))
    other = _traced(
        ("x/7", "MUL", (), second.transpose(0, 2, 3, 1)), ("x/3", "CONV_2D", (), first.transpose(0, 2, 3, 1))
    )
    matched = match_stages(source, other)
    assert {name: stage.op for name, stage in matched.makers.items()} == {"a": "CONV_2D", "b": "MUL"}
    assert all(noise.sqnr_db == 80 for noise in matched.noises)


def test_the_first_stage_that_is_wrong_is_named_and_not_those_behind_it() -> None:
    good, wrong, after = _noise(1, 1, 4, 8, 8), _noise(2, 1, 6, 8, 8), _noise(3, 1, 2, 8, 8)
    source = _traced(("a", "Conv", (), good), ("b", "Concat", ("a",), wrong), ("c", "Conv", ("b",), after))
    noisy = [value + 0.8 * _noise(9, *value.shape) for value in (wrong, after)]
    other = _traced(("1", "CONV_2D", (), good), ("2", "CONCATENATION", (), noisy[0]), ("3", "CONV_2D", (), noisy[1]))
    matched = match_stages(source, other)
    found = first_divergence(matched.noises)
    assert found is not None
    assert (found.op, matched.makers[found.tensor].op) == ("Concat", "CONCATENATION")
    assert found.sqnr_db < 10 < 70 < found.inputs_sqnr_db


def test_what_was_fused_away_is_not_to_blame_for_it() -> None:
    before, fused, after = _noise(1, 1, 4, 8, 8), _noise(2, 1, 4, 8, 8), _noise(3, 1, 4, 8, 8)
    source = _traced(("a", "Conv", (), before), ("b", "BatchNorm", ("a",), fused), ("c", "Relu", ("b",), after))
    matched = match_stages(source, _traced(("1", "CONV_2D", (), after)))
    assert [noise.sqnr_db for noise in matched.noises] == [80, 80, 80], "its like is gone, but what it feeds is right"


def test_a_dead_class_beside_large_numbers_is_heard() -> None:
    boxes = np.concatenate([_noise(1, 1, 50, 4) * 400, np.abs(_noise(2, 1, 50, 3))], axis=2)
    dead = boxes.copy()
    dead[..., 4:] = 0
    matched = match_stages(_traced(("out", "Concat", (), boxes)), _traced(("y", "CONCATENATION", (), dead)))
    assert matched.noises[0].sqnr_db < 1


def test_a_model_without_a_like_tensor_has_no_noises() -> None:
    matched = match_stages(_traced(("a", "Conv", (), _noise(1, 1, 4))), _traced(("1", "CONV_2D", (), _noise(1, 1, 5))))
    assert matched.noises == ()
    assert first_divergence(matched.noises) is None


@pytest.mark.parametrize("empty", [np.zeros((1, 4, 0), np.float32), np.full((1, 4, 3), np.nan, np.float32)])
def test_empty_tensors_and_such_without_numbers_do_no_harm(empty: Array) -> None:
    assert match_stages(_traced(("a", "Conv", (), empty)), _traced(("1", "CONV_2D", (), empty))) is not None


def test_a_tensor_of_many_equal_sizes_is_known_without_a_copy_for_every_order() -> None:
    deep = _noise(1, *[2] * 12)  # 479 001 600 orders
    matched = match_stages(_traced(("a", "Reshape", (), deep)), _traced(("x", "RESHAPE", (), deep)))
    assert [noise.sqnr_db for noise in matched.noises] == [80]
