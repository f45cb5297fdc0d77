import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtimes.making_litert import make_convolution, open_litert

from ferryman.build.plan import make_plan
from ferryman.cli.plan_table import render_plan
from ferryman.core.deployment import BuildSection
from ferryman.core.errors import FerrymanError, SourceError
from ferryman.sources.litert import LiteRTSource

schema = pytest.importorskip(
    "ai_edge_litert.schema_py_generated", reason="NOT TESTED: the extra litert is not installed"
)


def test_it_is_known_by_its_bytes_and_not_by_its_name(tmp_path: Path) -> None:
    model = make_convolution(tmp_path / "model.bin")
    (tmp_path / "notes.tflite").write_text("no model", encoding="utf-8")
    assert LiteRTSource().recognises(model)
    assert not LiteRTSource().recognises(tmp_path / "notes.tflite")
    with pytest.raises(SourceError, match="looks like a text file"):
        open_litert(tmp_path / "notes.tflite")


def test_what_scales_whole_numbers_is_kept_for_the_loader(tmp_path: Path) -> None:
    artifact = open_litert(make_convolution(tmp_path / "model.tflite", quantized=True))
    assert artifact.loader["scaling"]["images"] == [pytest.approx(1 / 127.5), 0]
    assert "scaling" not in open_litert(make_convolution(tmp_path / "float.tflite")).loader


def test_a_quantized_file_is_called_what_it_is(tmp_path: Path) -> None:
    def quantize_weights_alone(model: Any) -> None:
        weights = model.subgraphs[0].tensors[1]
        weights.type, weights.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        weights.quantization.scale, weights.quantization.zeroPoint = [1 / 254], [0]
        model.buffers[1].data = model.buffers[1].data[::4]

    quantized = open_litert(make_convolution(tmp_path / "model.tflite", quantized=True))
    assert quantized.precision == "int8"
    plan = make_plan("litert", BuildSection(), calibration=64, precision=quantized.precision)
    [as_it_is] = plan.candidates
    assert (as_it_is.name, as_it_is.steps) == ("litert-int8", ())
    assert as_it_is.is_exact, "no step lowers it: it answers as the source does"
    assert "as it is (int8)" in render_plan(plan, width=100, color=False)
    weights = make_convolution(tmp_path / "weights.tflite", change=quantize_weights_alone)
    assert open_litert(weights).precision == "int8-dynamic"
    assert open_litert(make_convolution(tmp_path / "float.tflite")).precision == "fp32"


@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_are_refused_or_answer_and_never_end_this_process(seed: int, tmp_path: Path) -> None:
    whole = make_convolution(tmp_path / "model.tflite").read_bytes()
    generator = np.random.default_rng(seed)
    damaged = bytearray(whole[: generator.integers(8, len(whole))] if seed % 3 == 0 else whole)
    for place in generator.integers(8, len(damaged), 12):
        damaged[place] = generator.integers(256)
    (tmp_path / "damaged.tflite").write_bytes(damaged)
    try:
        artifact = open_litert(tmp_path / "damaged.tflite")
    except FerrymanError as error:
        assert isinstance(error, SourceError)
        assert error.hint
    else:
        assert artifact.signature.inputs


def test_a_graph_that_calls_itself_crashes_a_process_of_its_own(tmp_path: Path) -> None:
    def call_itself(model: Any) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.IF
        code.version = 1
        model.operatorCodes = [code]
        (graph,) = model.subgraphs
        graph.tensors[0].type, graph.tensors[0].shape = schema.TensorType.BOOL, [1]
        operator, options = graph.operators[0], schema.IfOptionsT()
        options.thenSubgraphIndex = options.elseSubgraphIndex = 0
        operator.inputs, operator.outputs = [0, 0], [3]
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.IfOptions, options

    hostile = make_convolution(tmp_path / "hostile.tflite", change=call_itself)
    with pytest.raises(SourceError, match=r"crashes LiteRT \(signal 11\)"):
        open_litert(hostile)


def test_the_file_s_process_may_have_what_its_container_grants() -> None:
    told = (
        "import resource, ferryman.core.limits as limits\n"
        "limits.memory_limit_bytes = lambda: 2_000_000_000\n"
        "from ferryman.sources._litert_probe import _limit_memory\n"
        "_limit_memory(); print(resource.getrlimit(resource.RLIMIT_AS)[0])"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, timeout=60, check=True)
    assert int(done.stdout) == 1_600_000_000


def test_an_operator_that_litert_does_not_have_is_named(tmp_path: Path) -> None:
    def ask_for_another(model: Any) -> None:
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = (
            schema.BuiltinOperator.CUSTOM
        )
        model.operatorCodes[0].customCode = "FlexSvd"
        model.subgraphs[0].operators[0].builtinOptionsType = 0
        model.subgraphs[0].operators[0].builtinOptions = None

    with pytest.raises(SourceError, match="FlexSvd") as refused:
        open_litert(make_convolution(tmp_path / "model.tflite", change=ask_for_another))
    assert "built-in operators only" in refused.value.hint


def test_the_published_mobilenet_is_opened_with_its_own_types(shared_data: Path) -> None:
    artifact = open_litert(shared_data / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    (taken,), (given,) = artifact.signature.inputs, artifact.signature.outputs
    assert (taken.dtype, taken.shape) == ("uint8", (1, 224, 224, 3))
    assert (given.dtype, given.shape) == ("float32", (1, 1001))
    assert artifact.loader["last_operators"] == {given.name: "Softmax"}
