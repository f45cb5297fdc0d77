from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import digest_path
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import StepError
from ferryman.core.plugins import find
from ferryman.core.step import StepContext
from ferryman.export.coreml import ToCoreML, ToCoreMLHalf, ToCoreMLInt8
from tests.export.edge import answer, check_killed, check_no_space, furthest, picture, torch_program

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.toolchain("coreml"), pytest.mark.slow]


@pytest.mark.parametrize(
    ("step", "tolerance"), [(ToCoreML(), 1e-5), (ToCoreMLHalf(), 5e-3), (ToCoreMLInt8(threshold=16), 5e-2)]
)
def test_answers_are_the_sources(step: ToCoreML, tolerance: float, tmp_path: Path) -> None:
    source = torch_program(tmp_path)
    made = step.run(source, StepContext(tmp_path / "work"))
    error = furthest(answer(made, picture(1)), answer(source, picture(1)))
    assert (0 if tolerance < 1e-4 else 1e-7) < error + 1e-12 < tolerance
    assert [spec.name for spec in made.signature.outputs] == [spec.name for spec in source.signature.outputs]
    assert made.signature.max_batch == 1


def test_a_table_of_places_is_no_weight(tmp_path: Path) -> None:
    places = torch.linspace(0, 300, 2048).reshape(1, 2048)
    source = torch_program(
        tmp_path, add=lambda pooled: pooled + (places + pooled[:, :1] * 1e-6).mean(1, keepdim=True) - 150
    )
    made = ToCoreMLInt8().run(source, StepContext(tmp_path / "work"))
    weights = next(made.path.rglob("weight.bin")).read_bytes()
    assert np.float16(places[0, 700].item()).tobytes() in weights


def test_the_batch_is_an_option(tmp_path: Path) -> None:
    source = torch_program(tmp_path)
    made = ToCoreML(batch=3).run(source, StepContext(tmp_path / "work"))
    assert furthest(answer(made, picture(1, 3)), answer(source, picture(1, 3))) < 1e-5


def test_equal_programs_make_equal_bytes(tmp_path: Path) -> None:
    source = torch_program(tmp_path)
    first = ToCoreMLInt8().run(source, StepContext(tmp_path / "one"))
    second = ToCoreMLInt8().run(source, StepContext(tmp_path / "two"))
    assert digest_path(first.path) == digest_path(second.path)


def test_what_overflows_in_16_bits_overflows_in_the_verification(tmp_path: Path) -> None:
    source = torch_program(tmp_path, add=lambda pooled: pooled + (pooled.abs() * 1e6).sum(1, keepdim=True) * 0)
    whole = ToCoreML().run(source, StepContext(tmp_path / "whole"))
    half = ToCoreMLHalf().run(source, StepContext(tmp_path / "half"))
    assert all(np.isfinite(value).all() for value in answer(whole, picture(1)).values())
    assert not all(np.isfinite(value).all() for value in answer(half, picture(1)).values())


def test_an_operation_without_an_evaluation_is_no_tick(tmp_path: Path) -> None:
    source = torch_program(tmp_path, add=lambda pooled: torch.cumsum(pooled, 1))
    made = ToCoreML().run(source, StepContext(tmp_path / "work"))
    with pytest.raises(StepError, match="can't be verified here: there is no evaluation of the operation 'cumsum'"):
        answer(made, picture(1))


def test_an_operation_that_core_ml_lacks_is_named(tmp_path: Path) -> None:
    source = torch_program(tmp_path, add=lambda pooled: torch.special.i0e(pooled))
    with pytest.raises(StepError, match="i0e") as told:
        ToCoreML().run(source, StepContext(tmp_path / "work"))
    assert told.value.hint
    assert not list((tmp_path / "work").iterdir())


def test_a_converter_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    check_killed(ToCoreML(), torch_program(tmp_path), tmp_path / "work", [])


def test_no_space_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    check_no_space(ToCoreML(), torch_program(tmp_path, width=2048), tmp_path / "work", [])


@pytest.mark.parametrize("name", ["yolox_nano.onnx", "squeezenet_v1.1.onnx", "deeppcb_nano_320.onnx"])
def test_real_models_answer_as_their_source(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "models" / name
    source: Any = find("sources", "onnx").cls().open(path, ModelSection(name="model", source=str(path)), tmp_path)
    program = find("steps", "onnx-to-torch").require()().run(source, StepContext(tmp_path / "torch"))
    made = ToCoreML().run(program, StepContext(tmp_path / "work"))
    spec = source.signature.inputs[0]
    inputs = {spec.name: 255 * np.random.default_rng(0).random((1, *spec.shape[1:]), dtype=np.float32)}
    assert furthest(answer(made, inputs), answer(source, inputs)) < 1e-3
