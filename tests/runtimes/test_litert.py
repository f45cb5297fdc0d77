import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError, SourceError
from ferryman.core.runtime import Tracer
from ferryman.core.signature import Signature, TensorSpec
from ferryman.runtimes.litert import LiteRTRuntime
from tests.runtimes.making_litert import INPUT_SCALE, OUTPUT_SCALE, SIDE, expected, make_convolution, open_litert

pytest.importorskip("ai_edge_litert", reason="NOT TESTED: the extra litert is not installed")


def _images(batch: int = 1, *, seed: int = 0) -> "np.typing.NDArray[np.float32]":
    return np.random.default_rng(seed).uniform(-1, 1, (batch, SIDE, SIDE, 3)).astype(np.float32)


_SAYS_A_LINE_MEANWHILE = """
import os, sys
from pathlib import Path
from ai_edge_litert import interpreter
from ferryman.runtimes._litert_file import start_engine

class Chatty(interpreter.Interpreter):
    def __init__(self, *args, **options):
        os.write(2, b"another thread's line\\n")
        super().__init__(*args, **options)

usual, interpreter.Interpreter = interpreter.Interpreter, Chatty
start_engine(Path(sys.argv[1]), threads=1)
interpreter.Interpreter = usual
os.close(2)
print("started without stderr:", start_engine(Path(sys.argv[1]), threads=1) is not None)
"""


def test_starting_leaves_stderr_to_the_rest_of_the_process_and_needs_none(tmp_path: Path) -> None:
    model = make_convolution(tmp_path / "model.tflite")
    command = [sys.executable, "-c", _SAYS_A_LINE_MEANWHILE, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "another thread's line" in done.stderr
    assert done.stdout == "started without stderr: True\n", done.stderr


def test_a_free_batch_is_answered_in_any_size_and_order(tmp_path: Path) -> None:
    artifact = open_litert(make_convolution(tmp_path / "model.tflite", batch=-1))
    assert [spec.shape[0] for spec in (*artifact.signature.inputs, *artifact.signature.outputs)] == ["batch", "batch"]
    session = LiteRTRuntime().load(artifact, threads=1)
    for size in (1, 5, 2, 5, 1):
        images = _images(size, seed=size)
        np.testing.assert_allclose(session.infer({"images": images})["scores"], expected(images), atol=1e-5)  # type: ignore[arg-type]  # float32


def test_a_fixed_batch_is_not_resized(tmp_path: Path) -> None:
    session = LiteRTRuntime().load(open_litert(make_convolution(tmp_path / "model.tflite")), threads=1)
    with pytest.raises(InputError, match=r"shape \[2, 8, 8, 3\]"):
        session.infer({"images": _images(2)})
    assert session.signature.max_batch == 1


def test_whole_numbers_go_in_as_the_file_has_them_and_real_ones_come_out(tmp_path: Path) -> None:
    artifact = open_litert(make_convolution(tmp_path / "model.tflite", quantized=True))
    (taken,), (given,) = artifact.signature.inputs, artifact.signature.outputs
    assert (taken.dtype, given.dtype) == ("int8", "float32")
    images = _images()
    whole = np.clip(np.rint(images / INPUT_SCALE), -128, 127).astype(np.int8)
    scores = LiteRTRuntime().load(artifact, threads=1).infer({"images": whole})["scores"]
    assert np.abs(scores.astype(np.float64) - expected(images)).max() < 2 * OUTPUT_SCALE


def test_an_artifact_that_says_float_has_its_inputs_quantized_here(tmp_path: Path) -> None:
    artifact = open_litert(make_convolution(tmp_path / "model.tflite", quantized=True))
    floats = Signature(
        inputs=(artifact.signature.inputs[0].model_copy(update={"dtype": "float32"}),),
        outputs=artifact.signature.outputs,
    )
    session = LiteRTRuntime().load(replace(artifact, signature=floats), threads=1)
    images = _images() * 3  # beyond what the scale holds: clipped, not wrapped
    scores = session.infer({"images": images})["scores"]
    near = expected(np.clip(images, -128 * INPUT_SCALE, 127 * INPUT_SCALE))
    assert np.abs(scores.astype(np.float64) - near).max() < 2 * OUTPUT_SCALE


def test_a_signature_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    artifact = open_litert(make_convolution(tmp_path / "model.tflite"))
    other = Signature(
        inputs=artifact.signature.inputs, outputs=(TensorSpec(name="boxes", dtype="float32", shape=(1, 4)),)
    )
    with pytest.raises(SourceError, match=r"has no tensor 'boxes'.*it has scores float32"):
        LiteRTRuntime().load(replace(artifact, signature=other), threads=1)


def test_a_file_without_a_signature_goes_by_its_tensors_names(tmp_path: Path) -> None:
    def forget(model: Any) -> None:
        model.signatureDefs = []

    artifact = open_litert(make_convolution(tmp_path / "model.tflite", change=forget))
    assert [spec.name for spec in artifact.signature.inputs] == ["conv_input"]
    assert LiteRTRuntime().load(artifact, threads=1).infer({"conv_input": _images()})["conv_output"].shape[3] == 4


def test_foreign_byte_order_and_gaps_in_memory_are_read_right(tmp_path: Path) -> None:
    session = LiteRTRuntime().load(open_litert(make_convolution(tmp_path / "model.tflite")), threads=1)
    images = _images()
    want = session.infer({"images": images})["scores"]
    assert np.array_equal(session.infer({"images": images.astype(">f4")})["scores"], want)
    assert np.array_equal(session.infer({"images": np.asfortranarray(images)})["scores"], want)


def test_its_tensors_can_be_traced_as_real_numbers(tmp_path: Path) -> None:
    runtime: Tracer = LiteRTRuntime()
    artifact = open_litert(make_convolution(tmp_path / "model.tflite", quantized=True))
    (stage,) = runtime.stages(artifact)
    assert (stage.tensor, stage.op) == ("scores", "CONV_2D")
    whole = np.rint(_images() / INPUT_SCALE).astype(np.int8)
    (traced,) = runtime.trace(artifact, [{"images": whole}], ["scores", "not there"])
    assert list(traced) == ["scores"]
    assert np.abs(traced["scores"].astype(np.float64) - expected(whole * INPUT_SCALE)).max() < 2 * OUTPUT_SCALE


@pytest.mark.slow
def test_other_threads_run_while_a_model_answers(shared_data: Path) -> None:
    path = shared_data / "models" / "mobilenet_v2_1.0_224_quant.tflite"
    artifact = Artifact(path, "litert", Signature(inputs=(), outputs=()), digest="")
    session = LiteRTRuntime().load(artifact, threads=1)
    picture = np.zeros((1, 224, 224, 3), np.uint8)
    turns = 0
    is_over = threading.Event()

    def ask() -> None:
        for _ in range(30):
            session.infer({"input": picture})
        is_over.set()

    asking = threading.Thread(target=ask)
    asking.start()
    while not is_over.wait(0.0005):
        turns += 1
    asking.join()
    assert session.releases_gil
    assert turns > 60, "with the lock held, this thread would run once between two answers at most"
