from pathlib import Path

import numpy as np
import pytest

from ferryman.core.errors import StepError
from ferryman.optimize.fp16 import HalfPrecision
from tests.optimize.making import (
    answer,
    artifact_of,
    context_of,
    make_convolutions,
    make_products,
    make_tree,
    ops_of,
    rows,
)


def test_weights_take_half_the_room_and_answers_stay(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    half = HalfPrecision().run(source, context_of(tmp_path / "work"))
    item = rows(1)[0]
    np.testing.assert_allclose(answer(half, item), answer(source, item), atol=0.02)
    assert half.size_bytes < 0.7 * source.size_bytes
    assert artifact_of(half.path).signature == source.signature
    assert (half.precision, half.made_by) == ("fp16", ("fp16",))


def test_precision_changes_once_on_the_way_in_and_once_a_branch_on_the_way_out(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    assert ops_of(HalfPrecision().run(source, context_of(tmp_path / "work"))).count("Cast") == 3
    assert ops_of(HalfPrecision(exclude_tail=False).run(source, context_of(tmp_path / "work"))).count("Cast") == 2


def test_the_tail_keeps_its_precision(tmp_path: Path) -> None:
    import onnx

    source = make_convolutions(tmp_path / "model.onnx")
    kept = onnx.load(HalfPrecision().run(source, context_of(tmp_path / "a")).path)
    lost = onnx.load(HalfPrecision(exclude_tail=False).run(source, context_of(tmp_path / "b")).path)
    assert "stride" in {tensor.name for tensor in kept.graph.initializer}
    assert "stride_fp16" in {tensor.name for tensor in lost.graph.initializer}


def test_a_weight_beyond_float16_keeps_its_layer_in_float32(tmp_path: Path) -> None:
    import onnx

    source = make_products(tmp_path / "model.onnx")
    model = onnx.load(source.path)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "first_w")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] = 70000.0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "first_w"))
    onnx.save(model, source.path)
    large = artifact_of(source.path)
    half = HalfPrecision().run(large, context_of(tmp_path / "work"))
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(half.path).graph.initializer}
    assert kinds["first_w"] == onnx.TensorProto.FLOAT
    assert kinds["second_w_fp16"] == onnx.TensorProto.FLOAT16


def test_excluded_nodes_stay_in_float32(tmp_path: Path) -> None:
    import onnx

    source = make_products(tmp_path / "model.onnx")
    half = HalfPrecision(exclude_nodes=("second",)).run(source, context_of(tmp_path / "work"))
    assert "second_w" in {tensor.name for tensor in onnx.load(half.path).graph.initializer}


def test_a_tree_has_nothing_to_convert(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model.onnx")
    with pytest.raises(StepError, match="nothing to convert"):
        HalfPrecision().run(source, context_of(tmp_path / "work"))
    assert not (tmp_path / "work").exists()
