"""Files that somebody else made, set beside a project's source."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman import api
from tests.cli.running import ferryman
from tests.runtimes.making_litert import CHANNELS, SIDE, _weights, make_convolution

pytest.importorskip("ai_edge_litert", reason="NOT TESTED: the extra litert is not installed")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make the convolution of the LiteRT file as ONNX, channels first, with arrays to measure on."""
    from onnx import TensorProto, helper, numpy_helper, save

    kernel, bias = _weights()
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel", "bias"], ["sums"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["sums"], ["scores"], name="relu"),
    ]
    weights = [
        numpy_helper.from_array(np.ascontiguousarray(kernel.transpose(0, 3, 1, 2)), "kernel"),
        numpy_helper.from_array(bias, "bias"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CHANNELS, SIDE, SIDE])],
        weights,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model.onnx")
    pixels = np.random.default_rng(0).uniform(-1, 1, (24, 3, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", pixels=pixels)
    (tmp_path / "ferryman.toml").write_text(
        '[model]\nname = "conv"\nsource = "model.onnx"\n[task]\nkind = "tensor"\n'
        '[data]\ncalibration = "inputs.npz"\n[contract]\nmax_score_shift = 0.05\n',
        encoding="utf-8",
    )
    return tmp_path


def test_channels_last_and_whole_numbers_are_reconciled_and_told(project: Path) -> None:
    examined = api.verify_candidate(project, make_convolution(project / "theirs.tflite", quantized=True))
    assert examined.proof.parity is not None
    assert examined.proof.parity.max_rel["scores"] < 0.05
    told = " ".join(examined.assumed)
    assert "input 'pixels' is taken to be its 'images', its dimensions in the order (0, 2, 3, 1)" in told
    assert "input 'images' is int8" in told


def test_a_file_that_answers_otherwise_shows_it(project: Path) -> None:
    def spoil(model: Any) -> None:
        model.buffers[1].data = np.frombuffer(
            np.random.default_rng(5).normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32).tobytes(), np.uint8
        )

    examined = api.verify_candidate(project, make_convolution(project / "theirs.tflite", change=spoil))
    assert examined.proof.parity is not None
    assert examined.proof.parity.max_rel["scores"] > 0.3


def _products(path: Path, *outputs: tuple[str, str]) -> Path:
    """Write x [batch, 3] times a matrix for each output: (its name, which of the two matrices)."""
    from onnx import TensorProto, helper, numpy_helper, save

    generator = np.random.default_rng(0)
    matrices = [numpy_helper.from_array(generator.normal(size=(3, 2)).astype(np.float32), name) for name in "AB"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", matrix], [name]) for name, matrix in outputs],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name, _ in outputs],
        matrices,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """Make a project of two products of one shape, without data, metric or scores."""
    _products(tmp_path / "model.onnx", ("left", "A"), ("right", "B"))
    (tmp_path / "ferryman.toml").write_text(
        '[model]\nname = "two"\nsource = "model.onnx"\n[task]\nkind = "tensor"\n', encoding="utf-8"
    )
    return tmp_path


def test_a_file_of_equal_tensors_needs_no_other_evidence(unlabelled: Path) -> None:
    examined = api.verify_candidate(unlabelled, _products(unlabelled / "theirs.onnx", ("left", "A"), ("right", "B")))
    assert examined.holds, examined.proof.reason
    assert "max_error" in {clause.name for clause in examined.proof.clauses if clause.holds}


def test_outputs_of_one_shape_are_known_by_their_values(unlabelled: Path) -> None:
    theirs = _products(unlabelled / "theirs.onnx", ("out:0", "B"), ("out:1", "A"))
    examined = api.verify_candidate(unlabelled, theirs)
    assert examined.holds, examined.proof.reason
    assert examined.assumed == (
        "output 'left' is taken to be its 'out:1'",
        "output 'right' is taken to be its 'out:0'",
    )


def test_other_tensors_still_need_evidence(unlabelled: Path) -> None:
    examined = api.verify_candidate(unlabelled, _products(unlabelled / "theirs.onnx", ("left", "A"), ("right", "A")))
    assert not examined.holds
    assert "nothing measures what the lower precision costs" in examined.proof.reason


@pytest.mark.slow
def test_the_published_int8_detector_that_finds_nothing_is_refused(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(shared_data)
    (tmp_path / "ferryman.toml").write_text(
        '[model]\nname = "yolox"\nsource = "data/models/yolox_nano.onnx"\n'
        '[task]\nkind = "detect"\ndecoder = "yolox"\nlabels = "coco80"\nnms = { iou = 0.65, score = 0.01 }\n'
        'input = { fit = "letterbox", anchor = "top-left", pad = 114, channels = "BGR" }\n'
        "[data.evaluation]\nitems = 'data/coco128_val/images/*.jpg'\nlabels = 'data/coco128_val/labels/*.txt'\n"
        "limit = 32\n[contract]\nmetric = 'map'\nmax_drop = 0.005\n",
        encoding="utf-8",
    )
    broken = shared_data / "models" / "yolox_nano_int8_BROKEN_negative_control.tflite"
    asked = ferryman("verify", ".", "--candidate", str(broken), "--json", "--quiet", folder=tmp_path)
    assert asked.returncode == 3
    told = json.loads(asked.stdout)
    assert told["proof"]["status"] == "refused"
    assert told["proof"]["accuracy"]["drop"] > 0.2
    divergence = told["proof"]["divergence"]
    assert divergence["op"] == "Concat", "boxes, objectness and classes share one scale from here on"
    assert "CONCATENATION" in divergence["node"]
    assert divergence["sqnr_db"] < 15 < 40 < divergence["inputs_sqnr_db"]
    shown = ferryman("verify", ".", "--candidate", str(broken), "--quiet", folder=tmp_path)
    assert "is the first stage that diverges" in shown.stdout
