from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError, SourceError
from ferryman.core.privacy import forbid_telemetry
from ferryman.core.runtime import Tracer
from ferryman.core.signature import Signature, TensorSpec
from ferryman.export.openvino import ToOpenVINO
from ferryman.optimize.openvino_int8 import OpenVINOInt8
from ferryman.runtimes.onnx import OnnxRuntime
from ferryman.runtimes.openvino import OpenVINORuntime
from tests.optimize.making import context_of, make_convolutions, make_products, pictures, rows

forbid_telemetry()  # or else the very import below would report to the maker
pytest.importorskip("openvino", reason="NOT TESTED: the extra openvino is not installed")


@pytest.fixture
def converted(tmp_path: Path) -> Artifact:
    return ToOpenVINO().run(make_convolutions(tmp_path / "model.onnx"), context_of(tmp_path / "work"))


def test_a_batch_of_any_size_is_answered(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    artifact = ToOpenVINO().run(source, context_of(tmp_path / "work"))
    session = OpenVINORuntime().load(artifact, threads=1)
    for size in (1, 3, 7):
        item = rows(1, batch=size)[0]
        want = OnnxRuntime().load(source, threads=1).infer(item)["logits"]
        np.testing.assert_allclose(session.infer(item)["logits"], want, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]  # float32


def test_an_answer_stays_when_the_next_question_comes(converted: Artifact) -> None:
    session = OpenVINORuntime().load(converted, threads=1)
    first = session.infer(pictures(1, seed=1)[0])["output"]
    before = first.copy()
    session.infer(pictures(1, seed=2)[0])
    assert np.array_equal(first, before)


def test_threads_get_the_answers_to_their_own_questions(converted: Artifact) -> None:
    session = OpenVINORuntime().load(converted, threads=1)
    items = pictures(24)
    want = [session.infer(item)["output"] for item in items]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda item: session.infer(item)["output"], items))
    assert all(np.array_equal(left, right) for left, right in zip(want, got, strict=True))


def test_foreign_byte_order_and_gaps_in_memory_are_read_right(converted: Artifact) -> None:
    session = OpenVINORuntime().load(converted, threads=1)
    picture = pictures(1)[0]["images"]
    want = session.infer({"images": picture})["output"]
    assert np.array_equal(session.infer({"images": picture.astype(">f4")})["output"], want)
    assert np.array_equal(session.infer({"images": np.asfortranarray(picture)})["output"], want)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [({}, "is missing"), ({"images": np.zeros((1, 3, 8, 8), np.float32)}, r"has shape \[1, 3, 8, 8\]")],
)
def test_what_the_model_cannot_take_is_the_users_error(converted: Artifact, inputs: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OpenVINORuntime().load(converted, threads=1).infer(inputs)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_missing_file_is_named(converted: Artifact, name: str) -> None:
    (converted.path / name).unlink()
    with pytest.raises(SourceError, match=f"has no {name}"):
        OpenVINORuntime().load(converted, threads=1)


def test_a_damaged_file_is_refused(converted: Artifact) -> None:
    (converted.path / "model.xml").write_text("<net", "utf-8")
    with pytest.raises(SourceError, match="OpenVINO can't read"):
        OpenVINORuntime().load(converted, threads=1)


def test_a_model_without_the_promised_tensor_is_refused(converted: Artifact) -> None:
    other = Signature(
        inputs=converted.signature.inputs, outputs=(TensorSpec(name="boxes_of", dtype="float32", shape=(1,)),)
    )
    with pytest.raises(SourceError, match="no tensor 'boxes_of'"):
        OpenVINORuntime().load(replace(converted, signature=other), threads=1)


def test_bfloat16_is_not_used_unasked(converted: Artifact) -> None:
    session = OpenVINORuntime().load(converted, threads=1)
    assert session._compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert session._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_a_trace_gives_the_tensors_of_the_source(tmp_path: Path, converted: Artifact) -> None:
    source = replace(converted, path=tmp_path / "model.onnx", format="onnx")
    names = [stage.tensor for stage in OnnxRuntime().stages(source)]
    want = next(iter(OnnxRuntime().trace(source, pictures(1), names)))
    got = next(iter(OpenVINORuntime().trace(converted, pictures(1), names)))
    assert isinstance(OpenVINORuntime(), Tracer)
    assert {"relu", "depthwise", "concat", "pool", "scores", "output"} <= set(got)
    for name, tensor in got.items():
        np.testing.assert_allclose(tensor, want[name], rtol=1e-3, atol=1e-4)  # type: ignore[arg-type]  # float32


def test_a_trace_of_a_quantized_model_gives_what_the_next_layer_reads(tmp_path: Path, converted: Artifact) -> None:
    pytest.importorskip("nncf")
    quantized = OpenVINOInt8().run(converted, context_of(tmp_path / "int8", pictures(32)))
    tensors = next(iter(OpenVINORuntime().trace(quantized, pictures(1), ["depthwise"])))
    assert len(np.unique(tensors["depthwise"])) <= 256


def test_stages_know_what_feeds_them(converted: Artifact) -> None:
    by_tensor = {stage.tensor: stage for stage in OpenVINORuntime().stages(converted)}
    assert set(by_tensor["add"].feeds) == {"pointwise", "relu"}
    assert by_tensor["output"].op == "Concat"
