"""Corrected biases bring the means of channels back to where the float model has them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.optimize._silu import FLAT_BELOW, before_silu
from ferryman.optimize.int8 import StaticInt8
from tests.optimize.making import answer, context_of, make_convolutions, pictures
from tests.optimize.test_equalize import make_uneven


def _mean_error(made: Artifact, source: Artifact) -> float:
    errors = [answer(made, item) - answer(source, item) for item in pictures(16, seed=3)]
    return float(np.abs(np.mean(errors, axis=(0, 1, 3, 4))).mean())


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_mean_of_each_channel_comes_back(tmp_path: Path, per_channel: bool) -> None:
    source = make_uneven(tmp_path / "model.onnx")
    errors = {}
    for corrects in (False, True):
        step = StaticInt8(correct_bias=corrects, per_channel=per_channel, exclude_tail=True)
        made = step.run(source, context_of(tmp_path / f"work{corrects}", pictures(32)))
        errors[corrects] = _mean_error(made, source)
    assert errors[True] < 0.5 * errors[False]


def test_a_convolution_without_a_bias_gets_one_only_to_correct_it(tmp_path: Path) -> None:
    import onnx

    source = make_uneven(tmp_path / "model.onnx")
    counts = {}
    for corrects in (False, True):
        made = StaticInt8(correct_bias=corrects).run(source, context_of(tmp_path / f"w{corrects}", pictures(32)))
        counts[corrects] = sum(
            len(node.input) > 2 for node in onnx.load(made.path).graph.node if node.op_type == "Conv"
        )
    assert (counts[False], counts[True]) == (2, 5)


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    step = StaticInt8(correct_bias=True)
    first = step.run(source, context_of(tmp_path / "one", pictures(32)))
    assert step.run(source, context_of(tmp_path / "two", pictures(32))).digest == first.digest


def _silu(path: Path, *, shown: bool) -> Any:  # onnx.ModelProto
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Sigmoid", ["x"], ["gate"], name="gate"),
            helper.make_node("Mul", ["gate", "x"], ["y"], name="silu"),
        ],
        "silu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (["y", "x"] if shown else ["y"])],
    )
    return helper.make_model(graph)


def test_what_goes_into_silu_alone_needs_no_range_far_below_zero(tmp_path: Path) -> None:
    assert list(before_silu(_silu(tmp_path, shown=False))) == ["x"]
    assert list(before_silu(_silu(tmp_path, shown=True))) == [], "the caller sees it, too"
    assert abs(FLAT_BELOW / (1 + np.exp(-FLAT_BELOW))) < 0.003
