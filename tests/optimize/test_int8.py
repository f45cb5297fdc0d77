from pathlib import Path

import numpy as np
import pytest

from ferryman.core.errors import ConfigError, DataError, StepError
from ferryman.core.signature import Tensors
from ferryman.optimize.int8 import StaticInt8
from ferryman.runtimes._tensorrt_build import has_unsigned_int8
from ferryman.runtimes.onnx import OnnxSession
from tests.optimize.making import (
    answer,
    context_of,
    make_convolutions,
    make_products,
    make_tree,
    ops_of,
    pictures,
    rows,
)


def _quantized(path: Path) -> set[str]:
    """Name the convolutions whose weights are stored in 8 bits."""
    import onnx

    model = onnx.load(path)
    made = {name: node for node in model.graph.node for name in node.output}
    return {node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in made}


@pytest.mark.parametrize("calibrator", ["minmax", "entropy", "percentile", "mse"])
def test_answers_stay_near_the_float_model(tmp_path: Path, calibrator: str) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    step = StaticInt8(calibrator=calibrator, percentile=99.9)
    quantized = step.run(source, context_of(tmp_path / "work", pictures(32)))
    item = pictures(1, seed=99)[0]
    want, got = answer(source, item), answer(quantized, item)
    assert np.abs(got - want).max() < 0.08 * np.abs(want).max()
    assert not np.array_equal(got, want)
    assert (quantized.precision, quantized.made_by) == ("int8", ("int8",))


def test_an_old_opset_is_raised_for_scales_by_channel(tmp_path: Path) -> None:
    import onnx

    source = make_convolutions(tmp_path / "model.onnx", opset=11)
    quantized = StaticInt8().run(source, context_of(tmp_path / "work", pictures(32)))
    model = onnx.load(quantized.path)
    assert model.opset_import[0].version >= 13
    scales = [tensor for tensor in model.graph.initializer if tensor.name == "pointwise_w_scale"]
    assert list(scales[0].dims) == [8]


def test_one_scale_a_tensor_is_an_option(tmp_path: Path) -> None:
    import onnx

    source = make_convolutions(tmp_path / "model.onnx")
    quantized = StaticInt8(per_channel=False).run(source, context_of(tmp_path / "work", pictures(32)))
    scales = {tensor.name: tensor for tensor in onnx.load(quantized.path).graph.initializer}
    assert list(scales["pointwise_w_scale"].dims) == []


def test_activations_can_be_signed(tmp_path: Path) -> None:
    import onnx

    source = make_convolutions(tmp_path / "model.onnx")
    quantized = StaticInt8(activation="int8").run(source, context_of(tmp_path / "work", pictures(32)))
    points = {tensor.name: tensor for tensor in onnx.load(quantized.path).graph.initializer}
    assert points["images_zero_point"].data_type == onnx.TensorProto.INT8


@pytest.mark.parametrize("calibrator", ["minmax", "mse"])
def test_symmetric_int8_is_signed_without_zero_points_and_answers_as_well(tmp_path: Path, calibrator: str) -> None:
    import onnx

    source = make_convolutions(tmp_path / "model.onnx")
    step = StaticInt8(symmetric=True, calibrator=calibrator)
    quantized = step.run(source, context_of(tmp_path / "work", pictures(32)))
    assert _quantized(quantized.path)
    assert not has_unsigned_int8(quantized.path)
    graph = onnx.load(quantized.path).graph
    assert not [tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT32]
    item = pictures(1, seed=99)[0]
    want, got = answer(source, item), answer(quantized, item)
    assert np.abs(got - want).max() < 0.08 * np.abs(want).max()
    assert not np.array_equal(got, want)


def test_symmetric_int8_has_no_biases_to_correct() -> None:
    with pytest.raises(ConfigError, match="correct_bias"):
        StaticInt8(symmetric=True, correct_bias=True)


def test_batch_normalization_is_folded_before_quantizing(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    quantized = StaticInt8().run(source, context_of(tmp_path / "work", pictures(32)))
    assert "BatchNormalization" in ops_of(source)
    assert "BatchNormalization" not in ops_of(quantized)


def test_excluded_nodes_stay_in_float(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    context = context_of(tmp_path / "work", pictures(32))
    everything = _quantized(StaticInt8().run(source, context).path)
    without = _quantized(StaticInt8(exclude_nodes=("depthwise",)).run(source, context).path)
    assert {"stem", "depthwise", "pointwise"} <= everything
    assert "depthwise" not in without


def test_a_layer_can_be_named_by_its_tensor(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    context = context_of(tmp_path / "work", rows(32))
    by_tensor = StaticInt8(exclude_nodes=("logits",)).run(source, context)
    by_node = StaticInt8(exclude_nodes=("second",)).run(source, context)
    assert by_tensor.digest == by_node.digest


def test_only_named_nodes_are_quantized(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    quantized = StaticInt8(only_nodes=("pointwise",)).run(source, context_of(tmp_path / "work", pictures(32)))
    assert _quantized(quantized.path) == {"pointwise"}


def test_an_excluded_head_leaves_the_last_convolutions_in_float(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    context = context_of(tmp_path / "work", pictures(32))
    assert _quantized(StaticInt8(exclude_tail=True).run(source, context).path) >= {"box_head", "class_head"}
    assert _quantized(StaticInt8(exclude_head=True).run(source, context).path) == {"stem", "depthwise", "pointwise"}


def test_an_excluded_tail_is_not_quantized(tmp_path: Path) -> None:
    import onnx

    source = make_convolutions(tmp_path / "model.onnx")
    quantized = StaticInt8(exclude_tail=True).run(source, context_of(tmp_path / "work", pictures(32)))
    names = {name for node in onnx.load(quantized.path).graph.node for name in node.output}
    assert "scores_QuantizeLinear_Output" not in names
    assert "boxes_QuantizeLinear_Output" not in names


def test_excluded_operators_stay_in_float(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    context = context_of(tmp_path / "work", pictures(32))
    fewer = ops_of(StaticInt8(exclude_ops=("Add", "Concat", "MaxPool", "Sigmoid", "Mul")).run(source, context))
    every = ops_of(StaticInt8().run(source, context))
    assert fewer.count("QuantizeLinear") < every.count("QuantizeLinear")


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx", batch=2)
    generator = np.random.default_rng(0)
    samples: list[Tensors] = [{"images": generator.random((2, 3, 16, 16), dtype=np.float32)} for _ in range(4)]
    quantized = StaticInt8(min_samples=4).run(source, context_of(tmp_path / "work", samples))
    session = OnnxSession(quantized.path, threads=1)
    assert session.signature == source.signature
    assert session.infer(samples[0])["output"].shape == (2, 10, 8, 8)


def test_matrix_products_are_quantized(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    quantized = StaticInt8().run(source, context_of(tmp_path / "work", rows(32)))
    assert "DequantizeLinear" in ops_of(quantized)


def test_ranges_are_found_once_for_tries_with_other_nodes(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")

    class Counted(list[Tensors]):
        reads = 0

        def __getitem__(self, index: object) -> Tensors:  # type: ignore[override]  # slices are not asked for
            Counted.reads += 1
            return super().__getitem__(index)  # type: ignore[call-overload,no-any-return]  # as above

        def __iter__(self) -> object:  # type: ignore[override]  # counts items too
            for item in super().__iter__():
                Counted.reads += 1
                yield item

    samples = Counted(pictures(32))
    context = context_of(tmp_path / "work", samples, cache=tmp_path / "cache")
    context = type(context)(tmp_path / "work", samples, calibration_digest="these", cache=tmp_path / "cache")
    first = StaticInt8().run(source, context)
    after_first = Counted.reads
    second = StaticInt8(exclude_nodes=("depthwise",)).run(source, context)
    assert after_first >= 32
    assert Counted.reads - after_first <= 1  # the first sample's shape is checked each time
    assert first.digest != second.digest
    assert StaticInt8().run(source, context_of(tmp_path / "other", pictures(32))).digest == first.digest


def test_other_samples_are_not_served_from_the_cache(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    cache = tmp_path / "cache"
    first = StaticInt8().run(source, context_of(tmp_path / "a", pictures(32, seed=1), cache=cache))
    second = StaticInt8().run(source, context_of(tmp_path / "b", pictures(32, seed=2), cache=cache))
    assert first.digest != second.digest


def test_too_few_samples_are_refused_with_both_numbers(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    with pytest.raises(DataError, match=r"^int8 needs at least 32 calibration samples; there are 5"):
        StaticInt8().run(source, context_of(tmp_path / "work", pictures(5)))
    assert not (tmp_path / "work").exists()


def test_samples_of_another_model_are_refused(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    with pytest.raises(DataError, match="calibration sample 0 does not fit the model: no input is called 'row'"):
        StaticInt8().run(source, context_of(tmp_path / "work", rows(32)))


def test_one_sample_of_another_shape_is_named(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    samples = [*pictures(31), {"images": np.zeros((1, 3, 8, 8), np.float32)}]
    with pytest.raises(DataError, match="calibration sample 31"):
        StaticInt8().run(source, context_of(tmp_path / "work", samples))


def test_nan_in_the_samples_names_a_tensor(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    samples = [*pictures(31), {"images": np.full((1, 3, 16, 16), np.nan, np.float32)}]
    with pytest.raises(DataError, match=r"calibration sample 31 .* not a number"):
        StaticInt8().run(source, context_of(tmp_path / "work", samples))


def test_a_tree_has_nothing_to_quantize(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model.onnx")
    with pytest.raises(StepError, match="nothing to quantize"):
        StaticInt8().run(source, context_of(tmp_path / "work", rows(32)))


def test_a_misspelt_node_names_the_nearest(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="exclude_nodes: no layer or tensor is called 'pointwize'") as caught:
        StaticInt8(exclude_nodes=("pointwize",)).run(source, context_of(tmp_path / "work", pictures(32)))
    assert "pointwise" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [("calibrator", "minmex"), ("activation", "uint16"), ("percentile", 10.0), ("min_samples", 0)],
)
def test_a_wrong_option_is_refused_at_once(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        StaticInt8(**{key: value})  # type: ignore[arg-type]  # wrong on purpose


def test_lists_from_a_toml_file_become_tuples() -> None:
    step = StaticInt8(exclude_nodes=["a"])  # type: ignore[arg-type]  # as TOML gives it
    assert step.exclude_nodes == ("a",)
    assert hash(step)
