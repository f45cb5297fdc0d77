from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import DataError, StepError
from ferryman.core.plugins import find
from ferryman.core.step import StepContext
from ferryman.export.executorch import ToExecuTorch, ToExecuTorchInt8
from tests.export.edge import SIZE, answer, check_killed, check_no_space, furthest, picture, torch_program

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.toolchain("executorch"), pytest.mark.slow]
CALIBRATION = [picture(seed) for seed in range(4)]


@pytest.mark.parametrize(("step", "tolerance"), [(ToExecuTorch(), 1e-5), (ToExecuTorchInt8(), 0.1)])
def test_answers_are_the_sources(step: ToExecuTorch, tolerance: float, tmp_path: Path) -> None:
    source = torch_program(tmp_path)
    made = step.run(source, StepContext(tmp_path / "work", CALIBRATION))
    assert furthest(answer(made, picture(1)), answer(source, picture(1))) < tolerance
    assert [spec.name for spec in made.signature.outputs] == [spec.name for spec in source.signature.outputs]
    assert made.signature.max_batch == 1


def test_8_bits_make_a_smaller_file_and_equal_bytes_each_time(tmp_path: Path) -> None:
    source = torch_program(tmp_path, width=64)
    whole = ToExecuTorch().run(source, StepContext(tmp_path / "whole"))
    first = ToExecuTorchInt8().run(source, StepContext(tmp_path / "one", CALIBRATION))
    second = ToExecuTorchInt8().run(source, StepContext(tmp_path / "two", CALIBRATION))
    assert first.size_bytes < whole.size_bytes
    assert first.digest == second.digest


def _shares_weights(folder: Path) -> Artifact:
    """Save a head that looks at two levels with the same weights, and decodes what it sees there."""

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.down = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 8, 3, 2, 1)
            self.head = torch.nn.Conv2d(8, 4, 1)
            self.head.weight_1 = torch.nn.Parameter(torch.tensor(2.0))  # as a copy of the weights might be named

        def forward(self, images: Any) -> Any:
            levels = [torch.relu(self.stem(images))]
            levels.append(torch.relu(self.down(levels[0])))
            return torch.exp(
                torch.cat(
                    [
                        (self.head(level) * self.head.weight_1).reshape(-1, 4, 256 // 4**i)
                        for i, level in enumerate(levels)
                    ],
                    2,
                )
            )

    torch.manual_seed(0)
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(1, 3, SIZE, SIZE),)), path)
    opened: Artifact = (
        find("sources", "torch-export").cls().open(path, ModelSection(name="model", source=str(path)), folder)
    )
    return opened


@pytest.mark.parametrize("kept", [{}, {"exclude_tail": True}, {"exclude_head": True}])
def test_layers_that_share_weights_are_quantized_and_loaded(kept: dict[str, bool], tmp_path: Path) -> None:
    source = _shares_weights(tmp_path)
    made = ToExecuTorchInt8(**kept).run(source, StepContext(tmp_path / "work", CALIBRATION))
    assert furthest(answer(made, picture(1)), answer(source, picture(1))) < 0.1


def test_8_bits_without_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="executorch-int8 has no calibration samples"):
        ToExecuTorchInt8().run(torch_program(tmp_path), StepContext(tmp_path / "work"))


def test_an_operator_that_executorch_lacks_is_named(tmp_path: Path) -> None:
    source = torch_program(tmp_path, add=lambda pooled: torch.special.i0e(pooled))
    with pytest.raises(StepError, match="i0e"):
        ToExecuTorch().run(source, StepContext(tmp_path / "work"))
    assert not list((tmp_path / "work").iterdir())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    made = ToExecuTorch().run(torch_program(tmp_path), StepContext(tmp_path / "work"))
    made.path.write_bytes(b"damaged")
    with pytest.raises(StepError, match="no ExecuTorch program"):
        answer(made, picture(1))


def test_a_converter_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    check_killed(ToExecuTorch(), torch_program(tmp_path), tmp_path / "work", [])


def test_no_space_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    check_no_space(ToExecuTorch(), torch_program(tmp_path, width=2048), tmp_path / "work", [])


@pytest.mark.parametrize("name", ["yolox_nano.onnx", "squeezenet_v1.1.onnx", "deeppcb_nano_320.onnx"])
def test_real_models_answer_as_their_source(name: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "models" / name
    source: Any = find("sources", "onnx").cls().open(path, ModelSection(name="model", source=str(path)), tmp_path)
    program = find("steps", "onnx-to-torch").require()().run(source, StepContext(tmp_path / "torch"))
    made = ToExecuTorch().run(program, StepContext(tmp_path / "work"))
    spec = source.signature.inputs[0]
    inputs = {spec.name: 255 * np.random.default_rng(0).random((1, *spec.shape[1:]), dtype=np.float32)}
    assert furthest(answer(made, inputs), answer(source, inputs)) < 1e-3
