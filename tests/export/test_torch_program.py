"""ONNX models as exported programs, TorchScript and machine code: equal answers, sizes that vary, clear refusals."""

import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import NotApplicable, StepError
from ferryman.core.plugins import runtime_for
from ferryman.core.signature import Array
from ferryman.core.step import StepContext
from ferryman.export.torch_program import OnnxToTorch
from ferryman.export.torchscript import ToTorchScript
from ferryman.sources._onnx_graph import signature_of
from ferryman.sources.torch import ExportedProgramSource
from ferryman.verify.parity import tensor_parity
from tests.optimize.making import make_convolutions, make_tree

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = {
    "yolox_nano": ("models/yolox_nano.onnx", 255.0),
    "deeppcb": ("models/deeppcb_nano_320.onnx", 255.0),
    "squeezenet": ("models/squeezenet_v1.1.onnx", 255.0),
    "factory": (str(REPOSITORY / "src/ferryman/demo/factory_nano.onnx"), 1.0),
}


def opened(path: Path) -> Artifact:
    return Artifact(path, "onnx", signature_of(onnx.load(path)), digest_path(path))


def inputs_of(artifact: Artifact, batch: int, scale: float = 1.0) -> dict[str, Array]:
    generator = np.random.default_rng(batch)
    return {
        spec.name: (generator.random([size if isinstance(size, int) else batch for size in spec.shape]) * scale).astype(
            spec.dtype
        )
        for spec in artifact.signature.inputs
    }


def answer(artifact: Artifact, inputs: dict[str, Array]) -> dict[str, Array]:
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    try:
        given: dict[str, Array] = session.infer(inputs)
        return given
    finally:
        session.close()


def distance(source: Artifact, made: Artifact, *, scale: float = 1.0) -> float:
    """Give the largest error of any output, by its largest value, at a batch of 1 and (where it is free) 3."""
    errors: list[float] = []
    for batch in (1, 3):
        inputs = inputs_of(source, batch, scale)
        parity = tensor_parity([answer(source, inputs)], [answer(made, inputs)])
        errors += parity.max_rel.values()
    return max(errors)


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_answers_the_same_in_torch(name: str, shared_data: Path, tmp_path: Path) -> None:
    path, scale = MODELS[name]
    source = opened(shared_data / path)
    program = OnnxToTorch().run(source, StepContext(tmp_path / "program"))
    assert program.format == "torch-export"
    assert program.signature == source.signature
    assert distance(source, program, scale=scale) < 1e-5
    module = ToTorchScript().run(program, StepContext(tmp_path / "script"))
    assert module.signature == source.signature
    assert distance(source, module, scale=scale) < 1e-5


def test_the_file_itself_says_its_inputs_and_that_the_batch_is_free(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    made = OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    reopened = ExportedProgramSource().open(made.path, ModelSection(name="model", source="model.pt2"), tmp_path)
    assert reopened.signature.inputs == source.signature.inputs
    assert [spec.shape for spec in reopened.signature.outputs] == [spec.shape for spec in source.signature.outputs]


def test_weights_keep_their_names_and_constants_become_numbers(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    made = OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    program = torch.export.load(made.path)
    assert {"stem_w", "stem_b", "box_head_w"} <= set(program.state_dict)


def test_a_fixed_batch_stays_fixed(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx", batch=1)
    made = OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    assert made.signature.max_batch == 1
    assert distance(source, made) < 1e-5


def test_equal_models_are_equal_bytes_in_every_process_and_tell_nothing_of_the_machine(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    program = OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    modules = [ToTorchScript().run(program, StepContext(tmp_path / f"script{i}")) for i in range(2)]
    code = f"""
from pathlib import Path
from ferryman.core.step import StepContext
from ferryman.export.torch_program import OnnxToTorch
from ferryman.export.torchscript import ToTorchScript
from tests.export.test_torch_program import opened
made = OnnxToTorch().run(opened(Path({str(source.path)!r})), StepContext(Path({str(tmp_path / "other")!r})))
print(made.digest, ToTorchScript().run(made, StepContext(Path({str(tmp_path / "other")!r}))).digest)
"""
    told = subprocess.run(  # a process of its own: names that torch numbers begin anew there
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300, cwd=REPOSITORY
    ).stdout
    assert told.split() == [program.digest, modules[0].digest]
    assert modules[0].digest == modules[1].digest
    for made in (program, modules[0]):
        with zipfile.ZipFile(made.path) as archive:
            content = b"".join(archive.read(name) for name in archive.namelist())
        assert b"stack_trace" not in content
        assert str(REPOSITORY).encode() not in content
        assert str(tmp_path).encode() not in content


def test_a_script_that_is_not_frozen_keeps_its_weights_as_parameters(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    program = OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    frozen = ToTorchScript().run(program, StepContext(tmp_path / "frozen"))
    open_ = ToTorchScript(freeze=False).run(program, StepContext(tmp_path / "open"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert not list(torch.jit.load(frozen.path).parameters())
        assert "p_stem_w" in dict(torch.jit.load(open_.path).named_parameters())
    assert distance(source, open_) < 1e-5


def write_graph(path: Path, nodes: list[Any], output: list[Any], constants: dict[str, Any] | None = None) -> Artifact:
    """Write a graph from images [batch, 3, height, width] to `output`, and open it."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return opened(path)


def test_arithmetic_on_sizes_follows_every_size_that_varies(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["images"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "first"], ["batch"]),
        helper.make_node("Slice", ["sizes", "two", "four"], ["plane"]),
        helper.make_node("Mul", ["plane", "twice"], ["doubled"]),
        helper.make_node("Slice", ["sizes", "zero", "two"], ["front"]),
        helper.make_node("Concat", ["front", "doubled"], ["larger"], axis=0),
        helper.make_node("Resize", ["images", "", "", "larger"], ["resized"], mode="linear"),
        helper.make_node("Unsqueeze", ["batch", "zero"], ["batches"]),
        helper.make_node("Concat", ["batches", "three", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["resized", "flat"], ["output"]),
    ]
    constants = {
        "first": np.array(0),
        "two": [2],
        "four": [4],
        "zero": [0],
        "twice": [2, 2],
        "three": [3],
        "rest": [-1],
    }
    source = write_graph(tmp_path / "sizes.onnx", nodes, ["batch", 3, "size"], constants)
    made = OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    module = ToTorchScript().run(made, StepContext(tmp_path / "script"))
    for batch, height in ((1, 5), (3, 12)):
        inputs: dict[str, Array] = {"images": np.random.default_rng(0).random((batch, 3, height, 8), np.float32)}
        wanted = answer(source, inputs)["output"]
        for candidate in (made, module):
            np.testing.assert_allclose(
                np.asarray(answer(candidate, inputs)["output"], np.float64), wanted.astype(np.float64), atol=1e-5
            )


def test_the_pattern_that_expands_to_a_batch_follows_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["images"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "zero", "one"], ["batch"]),
        helper.make_node("Concat", ["batch", "wanted"], ["shape"], axis=0),
        helper.make_node("Shape", ["shape"], ["rank"]),
        helper.make_node("ConstantOfShape", ["rank"], ["ones"], value=helper.make_tensor("v", 7, [1], [1])),
        helper.make_node("Mul", ["ones", "minus"], ["minuses"]),
        helper.make_node("Equal", ["shape", "minuses"], ["kept"]),
        helper.make_node("Where", ["kept", "ones", "shape"], ["expanded"]),
        helper.make_node("Expand", ["token", "expanded"], ["output"]),
    ]
    constants = {"zero": [0], "one": [1], "wanted": [-1, 4], "minus": np.array(-1)}
    constants["token"] = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    source = write_graph(tmp_path / "expand.onnx", nodes, ["batch", 1, 4], constants)
    made = OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    assert distance(source, made) == 0


def _refused(tmp_path: Path, nodes: list[Any], output: list[Any], constants: dict[str, Any] | None = None) -> StepError:
    source = write_graph(tmp_path / "odd.onnx", nodes, output, constants)
    with pytest.raises(StepError) as caught:
        OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    assert caught.value.hint
    assert not list(tmp_path.glob("made/*"))
    return caught.value


def test_an_operator_without_a_way_is_named_with_its_node_and_file(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["images"], ["places"], name="find"),
        helper.make_node("Cast", ["places"], ["output"], to=1),
    ]
    assert "NonZero to torch: node 'find' of odd.onnx" in str(_refused(tmp_path, nodes, [4, "count"]))


def test_an_operator_that_no_output_needs_does_not_matter(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["images"], ["places"]), helper.make_node("Relu", ["images"], ["output"])]
    source = write_graph(tmp_path / "odd.onnx", nodes, ["batch", 3, "height", 8])
    OnnxToTorch().run(source, StepContext(tmp_path / "made"))


def test_an_operator_of_another_domain_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("FusedConv", ["images"], ["output"], name="fused", domain="com.microsoft")]
    assert "com.microsoft::FusedConv is no operator of ONNX: node 'fused'" in str(_refused(tmp_path, nodes, ["batch"]))


def test_control_flow_is_named(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["result"])], "body", [], [helper.make_empty_tensor_value_info("result")]
    )
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["condition"], to=TensorProto.BOOL),
        helper.make_node("If", ["condition"], ["output"], name="branch", then_branch=body, else_branch=body),
    ]
    assert "If decides while the model runs" in str(_refused(tmp_path, nodes, ["batch", 3, "height", 8]))


def test_sizes_that_depend_on_values_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["count"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["count", "one"], ["counts"]),
        helper.make_node("Tile", ["vector", "counts"], ["output"], name="repeat"),
    ]
    error = _refused(tmp_path, nodes, ["count"], {"one": [1], "vector": np.ones(2, np.float32)})
    assert "Tile 'repeat' has no way to torch: its input 'counts' is computed from what the model is asked" in str(
        error
    )


def test_an_attribute_without_a_way_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Resize", ["images", "", "scales"], ["output"], name="up", mode="cubic", cubic_coeff_a=-0.5)
    ]
    error = _refused(tmp_path, nodes, ["batch", 3, "high", 16], {"scales": np.array([1, 1, 2, 2], np.float32)})
    assert "Resize 'up' has no way to torch: its cubic coefficient is -0.5" in str(error)


def test_a_graph_that_fixes_what_it_calls_dynamic_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["images", "shape"], ["output"])]
    error = _refused(tmp_path, nodes, [2, "rest"], {"shape": [2, -1]})
    assert "fixes a size" in error.hint


def test_trees_are_not_for_torch(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match=r"trees.*TreeEnsembleRegressor, node 'tree'"):
        OnnxToTorch().run(make_tree(tmp_path / "tree.onnx"), StepContext(tmp_path / "made"))


def test_no_room_on_the_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model.pt2.partial").symlink_to("/dev/full")
    with pytest.raises(StepError, match="No space left on device") as caught:
        OnnxToTorch().run(source, StepContext(tmp_path / "made"))
    assert "make room" in caught.value.hint
    assert not list((tmp_path / "made").iterdir())
