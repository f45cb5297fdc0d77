"""`OnnxSource`: signatures, repairs, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.sources.onnx import OnnxSource

MakeSection = Callable[..., ModelSection]
Save = Callable[[Any], Path]
Open = Callable[[Any], Artifact]


@pytest.fixture
def open_model(save_onnx: Save, section: MakeSection, tmp_path: Path) -> Open:
    def open_saved(model: Any) -> Artifact:  # onnx.ModelProto
        return OnnxSource().open(save_onnx(model), section(), tmp_path / "work")

    return open_saved


def answer(path: Path) -> np.ndarray[Any, Any]:  # of any dtype
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.ones((4, 3), np.float32)})[0])


def test_a_sound_model_is_used_as_it_is(linear_onnx: Any, open_model: Open, tmp_path: Path) -> None:
    artifact = open_model(linear_onnx)
    assert artifact.path == tmp_path / "model" / "model.onnx"
    assert artifact.digest == digest_file(artifact.path)
    assert not (tmp_path / "work").exists()
    assert artifact.loader == {}
    [spec] = artifact.signature.inputs
    assert (spec.name, spec.dtype, spec.shape) == ("x", "float32", ("batch", 3))
    assert artifact.signature.outputs[0].shape == ("batch", 2)


def test_weights_listed_as_inputs_are_weights_only(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3, 2]))
    artifact = open_model(linear_onnx)
    assert [spec.name for spec in artifact.signature.inputs] == ["x"]
    assert [value.name for value in onnx.load(artifact.path).graph.input] == ["x"]
    assert artifact.loader["repairs"] == ["1 weights that were listed as inputs are weights only"]
    assert answer(artifact.path)[0].tolist() == [7, 10]


def test_nodes_get_names_of_their_own(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.node[0].name = "add"
    linear_onnx.graph.node[1].name = "add"
    artifact = open_model(linear_onnx)
    names = [node.name for node in onnx.load(artifact.path).graph.node]
    assert len(set(names)) == 2
    assert names[0] == "add"


def test_dimensions_without_a_name_get_one(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    linear_onnx.graph.output[0].type.tensor_type.shape.dim[0].dim_value = -1
    artifact = open_model(linear_onnx)
    assert artifact.signature.inputs[0].shape == ("batch", 3)
    assert artifact.signature.outputs[0].shape == ("batch", 2)
    assert answer(artifact.path).shape == (4, 2)


def test_a_missing_output_shape_is_inferred(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.output[0].type.tensor_type.ClearField("shape")
    artifact = open_model(linear_onnx)
    assert artifact.signature.outputs[0].shape == ("batch", 2)
    assert "the shape of y was inferred" in artifact.loader["repairs"]


def test_a_doubled_opset_line_is_merged(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.opset_import.append(helper.make_opsetid("", 17))
    artifact = open_model(linear_onnx)
    assert len(onnx.load(artifact.path).opset_import) == 1


def test_the_same_repair_gives_the_same_bytes(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.node[0].name = ""
    assert open_model(linear_onnx).digest == open_model(linear_onnx).digest


@pytest.mark.parametrize(("opset", "words"), [(8, "opset 8; the oldest"), (999, "opset 999; the installed onnx")])
def test_an_opset_out_of_range_is_named(opset: int, words: str, linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.opset_import[0].version = opset
    with pytest.raises(SourceError, match=words):
        open_model(linear_onnx)


@pytest.mark.parametrize("opset", [9, 13, 17, 21])
def test_opsets_from_9_up_are_taken(opset: int, linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.opset_import[0].version = opset
    assert open_model(linear_onnx).format == "onnx"


def test_a_truncated_model_is_recognised_and_refused(linear_onnx: Any, section: MakeSection, tmp_path: Path) -> None:
    content = linear_onnx.SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: len(content) // 2])
    assert OnnxSource().recognises(path)
    with pytest.raises(SourceError, match="cut short"):
        OnnxSource().open(path, section(), tmp_path)


def test_every_truncation_is_a_clear_error(linear_onnx: Any, section: MakeSection, tmp_path: Path) -> None:
    content = linear_onnx.SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(SourceError):
            OnnxSource().open(path, section(), tmp_path)


def test_flipped_bytes_never_end_in_a_library_error(linear_onnx: Any, section: MakeSection, tmp_path: Path) -> None:
    content = linear_onnx.SerializeToString()
    path = tmp_path / "model.onnx"
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            OnnxSource().open(path, section(), tmp_path / "work")
        except SourceError as error:
            assert str(error)


def test_a_dimension_of_zero_is_refused(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    with pytest.raises(SourceError, match=r"\[0, 3\]"):
        open_model(linear_onnx)


def test_a_model_without_outputs_is_refused(linear_onnx: Any, open_model: Open) -> None:
    del linear_onnx.graph.output[:]
    with pytest.raises(SourceError, match="no outputs"):
        open_model(linear_onnx)


def test_an_unknown_operator_is_named(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.node[0].domain = "acme.vision"
    linear_onnx.graph.node[0].op_type = "Blur"
    linear_onnx.opset_import.append(helper.make_opsetid("acme.vision", 1))
    with pytest.raises(SourceError, match=r"acme\.vision::Blur"):
        open_model(linear_onnx)


def test_an_operator_of_onnx_runtime_is_taken(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.node[1].op_type = "Gelu"
    linear_onnx.graph.node[1].domain = "com.microsoft"
    del linear_onnx.graph.node[1].input[1]
    linear_onnx.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert open_model(linear_onnx).signature.outputs[0].shape == ("batch", 2)


def test_a_graph_that_breaks_the_rules_is_refused(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.node[0].input[0] = "nowhere"
    with pytest.raises(SourceError, match="breaks the rules of ONNX"):
        open_model(linear_onnx)


def test_shapes_that_contradict_each_other_are_refused(linear_onnx: Any, open_model: Open) -> None:
    linear_onnx.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    with pytest.raises(SourceError, match="breaks the rules of ONNX"):
        open_model(linear_onnx)


def test_the_real_models_open(shared_data: Path, section: MakeSection, tmp_path: Path) -> None:
    detector = OnnxSource().open(shared_data / "models" / "yolox_nano.onnx", section(), tmp_path)
    assert detector.path == shared_data / "models" / "yolox_nano.onnx"
    assert detector.signature.outputs[0].shape == (1, 3549, 85)
    classifier = OnnxSource().open(shared_data / "models" / "squeezenet_v1.1.onnx", section(), tmp_path)
    assert classifier.signature.inputs[0].shape == ("N", 3, 227, 227)
    assert classifier.path.parent == tmp_path, "18 nodes have no name: the repaired copy is used"
