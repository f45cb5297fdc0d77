from pathlib import Path

import numpy as np
import pytest

from ferryman.core.errors import SourceError
from ferryman.optimize.clean import clean
from tests.optimize.making import answer, artifact_of, make_convolutions, make_products, make_tree, ops_of, pictures


def test_folding_keeps_names_and_answers(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    cleaned = clean(source, tmp_path / "work")
    item = pictures(1)[0]
    assert not {"Identity", "BatchNormalization"} & set(ops_of(cleaned))
    assert artifact_of(cleaned.path).signature == source.signature
    np.testing.assert_allclose(answer(cleaned, item), answer(source, item), rtol=1e-5, atol=1e-6)
    assert cleaned.made_by == ("clean",)
    assert cleaned.precision == "fp32"


def test_a_clean_model_comes_back_as_it_is(tmp_path: Path) -> None:
    once = clean(make_convolutions(tmp_path / "model.onnx"), tmp_path / "once")
    assert clean(once, tmp_path / "twice") is once
    assert not (tmp_path / "twice").exists()


def test_only_standard_operators_are_written(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(clean(make_convolutions(tmp_path / "model.onnx"), tmp_path / "work").path)
    assert {entry.domain for entry in model.opset_import} == {""}
    onnx.checker.check_model(model, full_check=True)


def test_nodes_without_a_name_get_one(tmp_path: Path) -> None:
    import onnx

    source = make_products(tmp_path / "model.onnx")
    model = onnx.load(source.path)
    model.graph.node[0].name = ""
    onnx.save(model, source.path)
    names = [node.name for node in onnx.load(clean(artifact_of(source.path), tmp_path / "work").path).graph.node]
    assert all(names)
    assert len(set(names)) == 3


def test_operators_of_machine_learning_are_left_alone(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model.onnx")
    assert clean(source, tmp_path / "work") is source


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model.onnx")
    source.path.write_bytes(source.path.read_bytes()[:40])
    with pytest.raises(SourceError, match="can't be read as ONNX"):
        clean(source, tmp_path / "work")
