from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError, SourceError
from ferryman.core.runtime import Tracer
from ferryman.core.signature import Signature, TensorSpec
from ferryman.optimize.fp16 import HalfPrecision
from ferryman.optimize.int8 import StaticInt8
from ferryman.runtimes.onnx import OnnxRuntime
from tests.optimize.making import context_of, make_convolutions, make_products, pictures, rows


def _make_text(path: Path) -> Artifact:
    """Write a model that passes text through."""
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("Identity", ["word"], ["same"])],
        "text",
        [helper.make_tensor_value_info("word", TensorProto.STRING, [None])],
        [helper.make_tensor_value_info("same", TensorProto.STRING, [None])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Artifact(path, "onnx", Signature(inputs=(), outputs=()), "")


def test_the_signature_is_read_from_the_file(tmp_path: Path) -> None:
    session = OnnxRuntime().load(make_convolutions(tmp_path / "model.onnx"), threads=1)
    assert session.signature == Signature(
        inputs=(TensorSpec(name="images", dtype="float32", shape=("batch", 3, 16, 16)),),
        outputs=(TensorSpec(name="output", dtype="float32", shape=("batch", 10, 8, 8)),),
    )


def test_a_batch_answers_as_its_items_do(tmp_path: Path) -> None:
    session = OnnxRuntime().load(make_products(tmp_path / "model.onnx"), threads=1)
    batch = rows(1, batch=5)[0]
    together = session.infer(batch)["logits"]
    apart = [session.infer({"row": batch["row"][index : index + 1]})["logits"] for index in range(5)]
    np.testing.assert_allclose(together, np.concatenate(apart), rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]  # float32


@pytest.mark.parametrize("words", [["ä", "b"], np.array(["ä", "b"]), np.array(["ä", "b"], dtype=object)])
def test_text_goes_in_and_comes_out(tmp_path: Path, words: object) -> None:
    session = OnnxRuntime().load(_make_text(tmp_path / "model.onnx"), threads=1)
    answer = session.infer({"word": np.array(words)})["same"]
    assert session.signature.inputs[0].dtype == "string"
    assert answer.tolist() == ["ä", "b"]


def test_bytes_are_read_as_utf8(tmp_path: Path) -> None:
    session = OnnxRuntime().load(_make_text(tmp_path / "model.onnx"), threads=1)
    assert session.infer({"word": np.array(["ä".encode()])})["same"].tolist() == ["ä"]


def test_foreign_byte_order_and_gaps_in_memory_are_read_right(tmp_path: Path) -> None:
    session = OnnxRuntime().load(make_products(tmp_path / "model.onnx"), threads=1)
    row = rows(1, batch=4)[0]["row"]
    want = session.infer({"row": row})["logits"]
    assert np.array_equal(session.infer({"row": row.astype(">f4")})["logits"], want)
    assert np.array_equal(session.infer({"row": np.asfortranarray(row)})["logits"], want)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'row' is missing"),
        ({"rows": np.zeros((1, 16), np.float32)}, "no input is called 'rows'"),
        ({"row": np.zeros((1, 16), np.float64)}, "has dtype float64"),
        ({"row": np.zeros((1, 15), np.float32)}, r"has shape \[1, 15\]"),
        ({"row": np.array(["a"])}, "has dtype string"),
    ],
)
def test_what_the_model_cannot_take_is_the_users_error(tmp_path: Path, inputs: object, message: str) -> None:
    session = OnnxRuntime().load(make_products(tmp_path / "model.onnx"), threads=1)
    with pytest.raises(InputError, match=message):
        session.infer(inputs)  # type: ignore[arg-type]  # wrong on purpose


def test_sizes_that_only_the_engine_refuses_are_the_users_error_too(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b")],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n"])],
    )
    path = tmp_path / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    session = OnnxRuntime().load(Artifact(path, "onnx", Signature(inputs=(), outputs=()), ""), threads=1)
    with pytest.raises(InputError, match="the model can't take these inputs"):
        session.infer({"a": np.zeros(3, np.float32), "b": np.zeros(2, np.float32)})
    assert session.infer({"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)})["sum"].tolist() == [2, 2]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07" * 50])
def test_a_damaged_file_is_refused_on_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"ONNX Runtime refuses model\.onnx") as caught:
        OnnxRuntime().load(Artifact(path, "onnx", Signature(inputs=(), outputs=()), ""), threads=1)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no ONNX file"):
        OnnxRuntime().load(Artifact(tmp_path / "gone.onnx", "onnx", Signature(inputs=(), outputs=()), ""), threads=1)


def test_threads_get_the_answers_to_their_own_questions(tmp_path: Path) -> None:
    session = OnnxRuntime().load(make_convolutions(tmp_path / "model.onnx"), threads=1)
    items = pictures(24)
    want = [session.infer(item)["output"] for item in items]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda item: session.infer(item)["output"], items))
    assert all(np.array_equal(left, right) for left, right in zip(want, got, strict=True))


def test_stages_are_float_tensors_in_order_with_what_feeds_them(tmp_path: Path) -> None:
    runtime = OnnxRuntime()
    stages = runtime.stages(make_convolutions(tmp_path / "model.onnx"))
    by_tensor = {stage.tensor: stage for stage in stages}
    order = {stage.tensor: index for index, stage in enumerate(stages)}
    assert isinstance(runtime, Tracer)
    assert by_tensor["add"].feeds == ("pointwise", "relu")
    assert (by_tensor["boxes"].node, by_tensor["boxes"].op) == ("decode", "Mul")
    assert all(order[feed] < order[stage.tensor] for stage in stages for feed in stage.feeds)


def test_a_trace_gives_the_tensors_that_lead_to_the_answer(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    runtime, items = OnnxRuntime(), pictures(2)
    traced = list(runtime.trace(source, items, ["relu", "boxes", "output", "no such tensor"]))
    session = runtime.load(source, threads=1)
    for item, tensors in zip(items, traced, strict=True):
        assert set(tensors) == {"relu", "boxes", "output"}
        assert tensors["relu"].min() >= 0
        np.testing.assert_allclose(tensors["output"], session.infer(item)["output"], rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]  # float32


def test_a_trace_of_a_quantized_model_gives_what_the_next_layer_reads(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    quantized = StaticInt8().run(source, context_of(tmp_path / "work", pictures(32)))
    runtime, items = OnnxRuntime(), pictures(1)
    tensors = next(iter(runtime.trace(quantized, items, ["pointwise", "scores"])))
    levels = np.unique(tensors["pointwise"].astype(np.float64))
    steps = np.diff(levels)
    assert len(levels) <= 256
    np.testing.assert_allclose(steps / steps.min(), np.round(steps / steps.min()), atol=1e-3)


def test_a_trace_of_a_half_precision_model_is_float32(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    half = HalfPrecision().run(source, context_of(tmp_path / "work"))
    tensors = next(iter(OnnxRuntime().trace(half, pictures(1), ["pointwise", "output"])))
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_a_trace_leaves_the_file_and_its_folder_as_they_were(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    before = source.path.read_bytes()
    list(OnnxRuntime().trace(source, pictures(1), ["relu"]))
    assert source.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def _make_layers(path: Path, *, has_weights_only: bool, shares: bool) -> Artifact:
    """Write a layer in 8 bits, beside one of which only the weights are, with a scale a channel and no zero points."""
    from onnx import TensorProto, helper, numpy_helper, save

    weights = np.random.default_rng(0).integers(-127, 127, (16, 8)).astype(np.int8)
    constants = {
        "w": weights, "v": weights, "by_channel": np.full(8, 0.01, np.float32), "zeros": np.zeros(8, np.int8),
        "scale": np.float32(0.02), "zero": np.uint8(128),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["w", "by_channel", "zeros"], ["wf"], axis=1),
        helper.make_node("MatMul", ["xq", "wf"], ["y"]),
    ]
    if has_weights_only:
        nodes += [
            helper.make_node("DequantizeLinear", ["w" if shares else "v", "by_channel"], ["wo"], axis=1),
            helper.make_node("MatMul", ["x", "wo"], ["z"]),
        ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in "yz"[: 1 + has_weights_only]],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return Artifact(path, "onnx", Signature(inputs=(), outputs=()), "")


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("has_weights_only", [False, True])
def test_products_of_8_bits_answer_on_every_processor(tmp_path: Path, has_weights_only: bool, shares: bool) -> None:
    weights = np.random.default_rng(0).integers(-127, 127, (16, 8)).astype(np.float32) * 0.01
    inputs = np.full((3, 16), 2.54, np.float32)  # 127 steps above zero: pairs of products overflow 16 bits
    made = _make_layers(tmp_path / "m.onnx", has_weights_only=has_weights_only, shares=shares)
    session = OnnxRuntime().load(made, threads=1)
    answers = session.infer({"x": inputs})
    largest = np.abs(inputs @ weights).max()
    for name, values in answers.items():
        off = np.abs(np.asarray(values, np.float32) - inputs @ weights).max() / largest
        # Beside such weights ONNX Runtime knows no exact products on processors without VNNI: there they saturate.
        assert off < (0.5 if has_weights_only and name == "y" else 1e-4)
