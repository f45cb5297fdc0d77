"""Evening out channels leaves the float answers as they were, and the ranges of channels nearer to each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import NotApplicable
from ferryman.core.signature import Tensors
from ferryman.core.step import StepContext
from ferryman.optimize._channels import Wanted, reduce_channels
from ferryman.optimize._equalize import equalize, ranks_of
from ferryman.optimize._onnx import infer_shapes, load
from ferryman.optimize.int8 import StaticInt8
from ferryman.runtimes.onnx import OnnxSession
from tests.optimize.making import answer, artifact_of, context_of, pictures

Model = Any  # onnx.ModelProto
WIDTH = 8
UNEVEN = np.geomspace(0.01, 10, WIDTH, dtype=np.float32)
"""How far apart the channels of a layer are: three orders of magnitude."""


def _save(path: Path, nodes: list[Any], shapes: tuple[list[int], list[int]], weights: dict[str, Any]) -> Artifact:
    from onnx import TensorProto, helper, numpy_helper, save

    graph = helper.make_graph(
        nodes,
        "uneven",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return artifact_of(path)


def make_uneven(path: Path) -> Artifact:
    """Write a fire module: conv, ReLU, two convolutions side by side, ReLU, concat, pool, depthwise and 1x1."""
    from onnx import helper

    random = np.random.default_rng(3)
    weights = {
        "a_w": random.normal(size=(WIDTH, 3, 3, 3)) * UNEVEN[:, None, None, None],
        "a_b": random.normal(size=WIDTH) * UNEVEN,
        "b_w": random.normal(size=(WIDTH, WIDTH, 1, 1)) * UNEVEN[:, None, None, None],
        "c_w": random.normal(size=(WIDTH, WIDTH, 3, 3)) * UNEVEN[::-1, None, None, None],
        "c_b": random.normal(size=WIDTH),
        "d_w": random.normal(size=(2 * WIDTH, 1, 3, 3)),
        "e_w": random.normal(size=(4, 2 * WIDTH, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["images", "a_w", "a_b"], ["a"], name="a", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["ar"], name="ar"),
        helper.make_node("Conv", ["ar", "b_w"], ["b"], name="b"),
        helper.make_node("Conv", ["ar", "c_w", "c_b"], ["c"], name="c", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["cr"], name="cr"),
        helper.make_node("Concat", ["b", "cr"], ["joined"], name="joined", axis=1),
        helper.make_node("MaxPool", ["joined"], ["pooled"], name="pooled", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pooled", "d_w"], ["d"], name="d", group=2 * WIDTH, pads=[1] * 4),
        helper.make_node("Conv", ["d", "e_w"], ["output"], name="e"),
    ]
    return _save(path, nodes, ([1, 3, 16, 16], [1, 4, 8, 8]), weights)


def make_normalized(path: Path) -> Artifact:
    """Write LayerNormalization with some loud channels, then two products, as a transformer's block begins."""
    from onnx import helper

    random = np.random.default_rng(4)
    weights = {
        "scale": UNEVEN,
        "shift": random.normal(size=WIDTH) * UNEVEN,
        "q_w": random.normal(size=(WIDTH, 6)),
        "k_w": random.normal(size=(WIDTH, 6)),
    }
    nodes = [
        helper.make_node("LayerNormalization", ["images", "scale", "shift"], ["normal"], name="normal", axis=-1),
        helper.make_node("MatMul", ["normal", "q_w"], ["q"], name="q"),
        helper.make_node("MatMul", ["normal", "k_w"], ["k"], name="k"),
        helper.make_node("Add", ["q", "k"], ["output"], name="add"),
    ]
    return _save(path, nodes, ([1, 5, WIDTH], [1, 5, 6]), weights)


def _spread(model: Model, tensor: str, axis: int, context: StepContext) -> float:
    peaks = reduce_channels(model, [Wanted(tensor, axis, ranks_of(model)[tensor])], context, by="peak")[tensor]
    return float(peaks.max() / peaks.min())


def _answer_of(model: Model, item: Tensors, folder: Path) -> Any:  # float32 array
    import onnx

    onnx.save(model, folder / "rewritten.onnx")
    session = OnnxSession(folder / "rewritten.onnx", threads=1)
    try:
        return session.infer(item)["output"]
    finally:
        session.close()


def test_convolutions_answer_the_same_with_channels_evened_out(tmp_path: Path) -> None:
    source = make_uneven(tmp_path / "model.onnx")
    context = context_of(tmp_path / "work", pictures(8))
    model = infer_shapes(load(source.path))
    before = _spread(model, "a", 1, context)
    assert equalize(model, context, per_channel=True) == 4, "a, b and c through the concatenation, and d"
    assert _spread(model, "a", 1, context) < before / 10
    item = pictures(1, seed=9)[0]
    want = answer(source, item)
    assert np.abs(_answer_of(model, item, tmp_path) - want).max() < 1e-4 * np.abs(want).max()


def test_products_behind_a_normalization_answer_the_same_with_channels_evened_out(tmp_path: Path) -> None:
    source = make_normalized(tmp_path / "model.onnx")
    random = np.random.default_rng(5)
    rows: list[Tensors] = [{"images": random.normal(size=(1, 5, WIDTH)).astype(np.float32)} for _ in range(8)]
    context = context_of(tmp_path / "work", rows)
    model = infer_shapes(load(source.path))
    before = _spread(model, "normal", -1, context)
    assert equalize(model, context, per_channel=True) == 1
    assert _spread(model, "normal", -1, context) < before / 10
    want = answer(source, rows[0])
    assert np.abs(_answer_of(model, rows[0], tmp_path) - want).max() < 1e-4 * np.abs(want).max()


def test_uneven_channels_lose_less_in_8_bits_once_they_are_evened_out(tmp_path: Path) -> None:
    source = make_uneven(tmp_path / "model.onnx")
    item = pictures(1, seed=9)[0]
    want = answer(source, item)
    errors = {}
    for evens in (False, True):
        step = StaticInt8(equalize=evens, exclude_tail=True)
        made = step.run(source, context_of(tmp_path / f"work{evens}", pictures(32)))
        errors[evens] = float(np.sqrt(((answer(made, item) - want) ** 2).mean()))
    assert errors[True] < 0.8 * errors[False]


def test_curves_that_bear_no_scale_are_told(tmp_path: Path) -> None:
    from onnx import helper

    random = np.random.default_rng(6)
    nodes = [
        helper.make_node("Conv", ["images", "a_w"], ["a"], name="a"),
        helper.make_node("Sigmoid", ["a"], ["gate"], name="gate"),
        helper.make_node("Mul", ["a", "gate"], ["silu"], name="silu"),
        helper.make_node("Conv", ["silu", "b_w"], ["output"], name="b"),
    ]
    weights = {"a_w": random.normal(size=(8, 3, 1, 1)), "b_w": random.normal(size=(4, 8, 1, 1))}
    source = _save(tmp_path / "model.onnx", nodes, ([1, 3, 16, 16], [1, 4, 16, 16]), weights)
    with pytest.raises(NotApplicable, match="equalize finds no two layers") as caught:
        StaticInt8(equalize=True).run(source, context_of(tmp_path / "work", pictures(32)))
    assert "SiLU" in caught.value.hint


@pytest.mark.parametrize("name", ["deeppcb_nano_320.onnx", "squeezenet_v1.1.onnx"])
def test_a_real_model_answers_the_same_with_channels_evened_out(tmp_path: Path, shared_data: Path, name: str) -> None:
    source = artifact_of(shared_data / "models" / name)
    port = source.signature.inputs[0]
    random = np.random.default_rng(0)
    shape = tuple(size if isinstance(size, int) else 1 for size in port.shape)
    items: list[Tensors] = [{port.name: (random.random(shape) * 255).astype(np.float32)} for _ in range(4)]
    from ferryman.optimize._qdq import prepare

    model = prepare(load(source.path))
    assert equalize(model, context_of(tmp_path, items), per_channel=True) > 5
    import onnx

    onnx.save(model, tmp_path / "rewritten.onnx")
    want, got = answer(source, items[0]), answer(artifact_of(tmp_path / "rewritten.onnx"), items[0])
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()
