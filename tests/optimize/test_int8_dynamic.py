from pathlib import Path

import numpy as np
import pytest

from ferryman.core.errors import StepError
from ferryman.optimize.int8_dynamic import DynamicInt8
from tests.optimize.making import answer, context_of, make_convolutions, make_products, make_tree, ops_of, rows


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_products_are_computed_in_int8_without_calibration(tmp_path: Path, op: str) -> None:
    source = make_products(tmp_path / "model.onnx", op=op)
    quantized = DynamicInt8().run(source, context_of(tmp_path / "work"))
    item = rows(1, batch=5)[0]
    want = answer(source, item)
    assert ops_of(quantized).count("MatMulInteger") == 2
    assert np.abs(answer(quantized, item) - want).max() < 0.05 * np.abs(want).max()
    assert quantized.precision == "int8-dynamic"


def test_excluded_products_stay_in_float(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    quantized = DynamicInt8(exclude_nodes=("second",)).run(source, context_of(tmp_path / "work"))
    assert ops_of(quantized).count("MatMulInteger") == 1


def test_convolutions_alone_have_nothing_to_gain(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    with pytest.raises(StepError, match="no matrix products") as caught:
        DynamicInt8().run(source, context_of(tmp_path / "work"))
    assert "dynamic quantization has nothing to gain" in caught.value.hint


def test_trees_have_nothing_to_quantize(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model.onnx")
    with pytest.raises(StepError, match="nothing to quantize"):
        DynamicInt8().run(source, context_of(tmp_path / "work"))
