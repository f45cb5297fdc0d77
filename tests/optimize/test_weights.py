from pathlib import Path

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import NotApplicable
from ferryman.optimize._weights import _in_blocks, _packed
from ferryman.optimize.weights import Weights4, Weights8
from tests.optimize.making import answer, artifact_of, context_of, make_products, make_tree, ops_of, rows
from tests.optimize.test_equalize import make_uneven


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
@pytest.mark.parametrize(("step", "tolerance"), [(Weights8(), 0.01), (Weights4(), 0.12)])
def test_products_answer_nearly_the_same_with_few_bits(
    tmp_path: Path, op: str, step: Weights8, tolerance: float
) -> None:
    source = make_products(tmp_path / "model.onnx", op=op)
    made = step.run(source, context_of(tmp_path / "work"))
    errors = [np.abs(answer(made, item) - answer(source, item)).max() for item in rows(8)]
    reach = max(np.abs(answer(source, item)).max() for item in rows(8))
    assert 0 < max(errors) < tolerance * reach
    assert made.precision == step.precision
    assert "DequantizeLinear" in ops_of(made)


def test_large_weights_take_a_quarter_and_less_of_the_bytes(tmp_path: Path, shared_data: Path) -> None:
    source = artifact_of(shared_data / "models" / "squeezenet_v1.1.onnx")
    eight = Weights8().run(source, context_of(tmp_path / "eight"))
    four = Weights4().run(source, context_of(tmp_path / "four"))
    assert eight.size_bytes < 0.27 * source.size_bytes
    assert four.size_bytes < 0.18 * source.size_bytes
    assert Weights4().run(source, context_of(tmp_path / "again")).digest == four.digest


def test_a_head_can_stay_as_it_is(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx", op="MatMul")
    with pytest.raises(NotApplicable):
        Weights8(exclude_nodes=("first",)).run(source, context_of(tmp_path / "work"))
    assert _dequantized(Weights8(exclude_head=True).run(source, context_of(tmp_path / "work"))) == 1


def test_depthwise_convolutions_take_8_bits_where_others_take_4(tmp_path: Path) -> None:
    import onnx

    source = make_uneven(tmp_path / "model.onnx")
    made = Weights4().run(source, context_of(tmp_path / "work"))
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(made.path).graph.initializer}
    assert kinds["c_w_restored0_values"] == onnx.TensorProto.INT4
    assert "d_w_restored0_values" not in kinds, "144 weights are too few to gain anything"
    want = answer(source, {"images": np.ones((1, 3, 16, 16), np.float32)})
    assert answer(made, {"images": np.ones((1, 3, 16, 16), np.float32)}).shape == want.shape


def test_a_tree_has_no_weights_to_store(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="nothing to store in 8 bits"):
        Weights8().run(make_tree(tmp_path / "model.onnx"), context_of(tmp_path / "work"))


def test_a_block_loses_no_more_than_half_a_step_or_what_clipping_saves() -> None:
    values = np.random.default_rng(0).normal(size=(5, 70)).astype(np.float32)
    stored = _in_blocks(values, 0)
    assert (stored.values.shape, stored.scales.shape, stored.block) == ((5, 70), (5, 3), 32)
    back = stored.values * np.repeat(stored.scales, 32, axis=1)[:, :70]
    plain = np.abs(values).max() / 7
    assert ((back - values) ** 2).mean() < plain**2 / 12


def test_two_values_share_a_byte_the_first_in_its_low_half() -> None:
    assert _packed(np.array([1, -1, 7], np.int8)) == bytes([0xF1, 0x07])


def _dequantized(artifact: Artifact) -> int:
    return ops_of(artifact).count("DequantizeLinear")
