"""What can be shown of TensorRT without a GPU: its options, its refusals, and that the calls that we make exist."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from ferryman.core.engine import EngineRequest, GpuOptions
from ferryman.core.errors import ConfigError, FerrymanError, InputError, MissingExtra, SourceError, StepError
from ferryman.core.plugins import find
from ferryman.core.signature import Array, Signature, Tensors, TensorSpec
from ferryman.runtimes._tensorrt_build import check_model, has_unsigned_int8, keep_timings, make_logger, timings_file
from ferryman.runtimes.onnx import OnnxSession
from ferryman.runtimes.tensorrt import TensorRTRuntime, run_in_parts
from tests.bundle.making import describe, make_affine, save

CALLS = {
    "Builder": {"create_network": 1, "create_builder_config": 0, "create_optimization_profile": 0,
                "build_serialized_network": 2},
    "OnnxParser": {"__init__": 2, "parse_from_file": 1, "get_error": 1},
    "ParserError": {"node_operator": 0, "node_name": 0, "desc": 0},
    "IBuilderConfig": {"set_memory_pool_limit": 2, "set_flag": 1, "clear_flag": 1, "add_optimization_profile": 1,
                       "create_timing_cache": 1, "set_timing_cache": 2, "get_timing_cache": 0},
    "IOptimizationProfile": {"set_shape": 4},
    "ITimingCache": {"serialize": 0},
    "Runtime": {"__init__": 1, "deserialize_cuda_engine": 1},
    "ICudaEngine": {"get_tensor_name": 1, "get_tensor_dtype": 1, "get_tensor_profile_shape": 2,
                    "create_execution_context": 0},
    "IExecutionContext": {"set_input_shape": 2, "set_tensor_address": 2, "get_tensor_shape": 1, "execute_async_v3": 1},
}  # fmt: skip
"""The calls that we make, with the number of their arguments."""
NAMES = {
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "MemoryPoolType": ("WORKSPACE",),
    "BuilderFlag": ("SPARSE_WEIGHTS", "TF32"),
    "ICudaEngine": ("num_io_tensors",),
    "OnnxParser": ("num_errors",),
}


def takes(method: Any, count: int) -> bool:  # of a native class
    """Tell whether some form of a method takes so many arguments, by the signatures in its description."""
    forms = re.findall(rf"{method.__name__}\(self: [^,)]+(.*?)\) ->", method.__doc__ or "")
    return any(
        len(re.findall(r", \w+: ", form)) - len(re.findall(r" = ", form)) <= count <= len(re.findall(r", \w+: ", form))
        for form in forms
    )


def test_the_calls_that_we_make_are_in_tensorrts_own_api() -> None:
    trt = pytest.importorskip("tensorrt", reason="NOT TESTED: TensorRT is not installed")
    for name, methods in CALLS.items():
        for method, count in methods.items():
            assert takes(getattr(getattr(trt, name), method), count), f"{name}.{method} with {count} arguments"
    for name, members in NAMES.items():
        for member in members:
            assert hasattr(getattr(trt, name), member), f"{name}.{member}"
    logger = make_logger(trt)
    logger.log(trt.ILogger.Severity.INFO, "it is going well")
    assert not logger.last
    logger.log(trt.ILogger.Severity.ERROR, "it\n went  wrong")
    assert logger.last == "it went wrong"
    assert np.dtype(trt.nptype(trt.DataType.HALF)) == np.float16


def test_the_calls_of_cuda_that_we_make_exist() -> None:
    pytest.importorskip("cuda.bindings", reason="NOT TESTED: CUDA's Python bindings are not installed")
    runtime = pytest.importorskip("cuda.bindings.runtime")
    for name in ("DriverGetVersion", "GetDeviceCount", "GetDeviceProperties", "Malloc", "Free", "MemcpyAsync",
                 "StreamCreate", "StreamDestroy", "StreamSynchronize"):  # fmt: skip
        assert callable(getattr(runtime, f"cuda{name}"))
    assert {"cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"} <= set(dir(runtime.cudaMemcpyKind))


def test_without_a_device_it_says_what_is_missing(tmp_path: Path) -> None:
    try:
        TensorRTRuntime().identity()
    except MissingExtra as error:
        assert re.search("bindings|driver|GPU|TensorRT", str(error))
        assert re.search("pip install|GPU", error.hint)
        with pytest.raises(FerrymanError):
            TensorRTRuntime().load(replace(describe(make_affine(tmp_path)), path=tmp_path), threads=1)
    else:
        assert find("runtimes", "tensorrt").is_available


def test_on_a_gpu_an_engine_answers_as_onnx_runtime_does(tmp_path: Path) -> None:
    try:
        TensorRTRuntime().identity()
    except MissingExtra as error:
        pytest.skip(f"NOT TESTED: {error}")
    source = describe(make_affine(tmp_path))
    for folder in ("engine", "shared"):
        (tmp_path / folder).mkdir()
    for _ in range(2):  # the second time with what was measured before
        TensorRTRuntime().build(source, tmp_path / "engine", EngineRequest(tmp_path / "shared", {"max_batch": 8}))
    session = TensorRTRuntime().load(replace(source, path=tmp_path / "engine", format="tensorrt"), threads=1)
    reference = OnnxSession(source.path, threads=1)
    for rows in (1, 8, 20, 3):  # 20: three calls
        asked = {"values": np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)}
        given, wanted = (np.asarray(one.infer(asked)["sum"], np.float32) for one in (session, reference))
        np.testing.assert_allclose(given, wanted, rtol=1e-5)
    with pytest.raises(InputError, match="no rows"):
        session.infer({"values": np.empty((0, 3), np.float32)})
    session.close()
    (tmp_path / "engine" / "engine.plan").write_bytes(b"damaged")
    with pytest.raises(SourceError, match="can't read"):
        TensorRTRuntime().load(replace(source, path=tmp_path / "engine", format="tensorrt"), threads=1)


def test_without_its_packages_the_hint_brings_them() -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    with pytest.raises(MissingExtra) as caught:
        find("runtimes", "tensorrt").require()
    assert caught.value.hint == 'pip install "ferryman[tensorrt]"'


@pytest.mark.parametrize(
    "options", [{"workspace_mb": -1}, {"max_batch": True}, {"sparse": 1}, {"tf32": "yes"}, {"fp16": True}]
)
def test_an_option_that_isnt_one_is_refused_before_anything_is_built(options: dict[str, Any], tmp_path: Path) -> None:
    request = EngineRequest(tmp_path, options)
    with pytest.raises(ConfigError, match=next(iter(options))):
        TensorRTRuntime().build(describe(make_affine(tmp_path)), tmp_path, request)


def test_the_largest_call_is_the_users_choice_then_the_tuned_one() -> None:
    assert GpuOptions(max_batch=3).rows(16) == 3
    assert GpuOptions().rows(16) == 16
    assert GpuOptions().rows(0) == 8


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def test_only_what_has_rows_is_cut_and_joined() -> None:
    signature = Signature(inputs=(spec("size", 1, 3), spec("rows", "n", 3)), outputs=(spec("sum", "rows_out", 3),))
    taken: list[int] = []

    def add(inputs: Tensors) -> dict[str, Array]:
        taken.append(inputs["rows"].shape[0])
        return {"sum": np.add(inputs["rows"], inputs["size"])}

    given = {"size": np.ones((1, 3), np.float32), "rows": np.arange(60, dtype=np.float32).reshape(20, 3)}
    np.testing.assert_array_equal(run_in_parts(add, signature, given, 8)["sum"], given["rows"] + 1)
    assert taken == [8, 8, 4]


@pytest.mark.parametrize("shape", [(5, 4), ("boxes", 4)])
def test_a_call_whose_answer_cant_be_joined_is_refused(shape: tuple[int | str, ...]) -> None:
    signature = Signature(inputs=(spec("rows", "n", 3),), outputs=(spec("rows_out", "n", 3), spec("anchors", *shape)))

    def run(inputs: Tensors) -> dict[str, Array]:
        return {"rows_out": inputs["rows"], "anchors": np.zeros((5, 4), np.float32)}

    assert run_in_parts(run, signature, {"rows": np.ones((8, 3), np.float32)}, 8)["anchors"].shape == (5, 4)
    with pytest.raises(InputError, match=r"20 rows, .* takes 8 .* output 'anchors'") as caught:
        run_in_parts(run, signature, {"rows": np.ones((20, 3), np.float32)}, 8)
    assert "max_batch" in caught.value.hint


def test_a_call_whose_inputs_have_other_rows_than_each_other_isnt_cut() -> None:
    signature = Signature(inputs=(spec("left", "n", 3), spec("right", "m", 3)), outputs=(spec("sum", "n", 3),))
    given = {"left": np.ones((20, 3), np.float32), "right": np.ones((4, 3), np.float32)}
    with pytest.raises(InputError, match="its inputs differ"):
        run_in_parts(lambda inputs: {"sum": inputs["left"]}, signature, given, 8)


def test_what_was_measured_is_kept_for_each_device_and_costs_no_engine(tmp_path: Path) -> None:
    about = {"tensorrt": "10.16", "compute": "9.0", "memory_mb": "81559"}
    files = {timings_file(tmp_path, {**about, "device": f"NVIDIA {name}"}) for name in ("H100", "H200", "H100/2")}
    assert len(files) == 3 and {file.parent for file in files} == {tmp_path}

    class Config:  # TensorRT's can be had on its devices only
        def __init__(self, measured: bytes | None) -> None:
            self.measured = measured

        def get_timing_cache(self) -> Any:  # a tensorrt.ITimingCache, which has `serialize`
            return None if self.measured is None else self

        def serialize(self) -> bytes:
            return self.measured or b""

    file = tmp_path / "device.timings"
    keep_timings(Config(b"fast"), file)
    keep_timings(Config(None), file)
    keep_timings(Config(b"fast"), tmp_path / "none" / "device.timings")
    assert file.read_bytes() == b"fast"
    assert [path.name for path in tmp_path.iterdir()] == ["device.timings"]


def test_a_size_that_is_free_beside_the_batch_is_refused_by_name(tmp_path: Path) -> None:
    check_model(describe(make_affine(tmp_path)))
    text = save(
        tmp_path / "text.onnx",
        [helper.make_node("Neg", ["tokens"], ["answer"])],
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["batch", "length"])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", "length"])],
    )
    with pytest.raises(StepError, match="'tokens' has the free size 'length'"):
        check_model(describe(text))


def constant(zero: Any) -> Any:  # a number of NumPy; an onnx.NodeProto
    return helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.asarray(zero)))


@pytest.mark.parametrize(
    ("zero", "is_refused"),
    [(np.uint8(0), True), (np.int8(3), True), (np.int8(0), False), (None, True)],
    ids=["uint8", "3", "0", "none: unsigned"],
)
@pytest.mark.parametrize("is_node", [False, True], ids=["initializer", "node"])
def test_int8_as_cpus_like_it_is_refused(zero: Any, is_refused: bool, is_node: bool, tmp_path: Path) -> None:
    point = ["zero"] if zero is not None else []
    path = save(
        tmp_path / "int8.onnx",
        [
            *([constant(zero)] if is_node and point else []),
            helper.make_node("QuantizeLinear", ["values", "scale", *point], ["quantized"]),
            helper.make_node("DequantizeLinear", ["quantized", "scale", *point], ["answer"]),
        ],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 3])],
        scale=np.float32(0.1),
        **({"zero": np.asarray(zero)} if point and not is_node else {}),
    )
    assert has_unsigned_int8(path) == is_refused
    if is_refused:
        with pytest.raises(StepError, match="zero point"):
            check_model(describe(path))


@pytest.mark.parametrize(("kind", "is_unsigned"), [(TensorProto.INT8, False), (TensorProto.UINT8, True)])
def test_without_a_zero_point_the_numbers_are_of_the_kind_that_is_named(
    kind: int, is_unsigned: bool, tmp_path: Path
) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["values", "scale"], ["quantized"], output_dtype=kind),
            helper.make_node("DequantizeLinear", ["quantized", "scale"], ["answer"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.asarray(np.float32(0.1)), "scale")],
    )
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path / "int8.onnx")
    assert has_unsigned_int8(tmp_path / "int8.onnx") == is_unsigned
