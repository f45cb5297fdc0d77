"""INT8 that was trained for its rounding is nearer to the float model than INT8 that was not."""

from pathlib import Path

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError, DataError
from ferryman.optimize.int8 import StaticInt8
from ferryman.optimize.qat import TrainedInt8
from tests.optimize.making import answer, context_of, make_convolutions, ops_of, pictures
from tests.optimize.test_equalize import make_uneven


def _error(made: Artifact, source: Artifact) -> float:
    unseen = pictures(16, seed=3)
    return float(np.mean([np.square(answer(made, item) - answer(source, item)).mean() for item in unseen]))


@pytest.mark.slow
@pytest.mark.toolchain("torch")
@pytest.mark.parametrize("per_channel", [True, False])
def test_training_brings_the_answers_nearer_to_those_of_the_float_model(tmp_path: Path, per_channel: bool) -> None:
    source = make_uneven(tmp_path / "model.onnx")
    plain = StaticInt8(per_channel=per_channel, exclude_tail=True)
    trained = TrainedInt8(per_channel=per_channel, steps=60, rate=0.001)
    errors = {
        step.name: _error(step.run(source, context_of(tmp_path / step.name, pictures(64))), source)
        for step in (plain, trained)
    }
    assert errors["int8-qat"] < 0.7 * errors["int8"], errors


@pytest.mark.slow
@pytest.mark.toolchain("torch")
def test_it_is_quantized_as_the_untrained_one_and_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    made = [TrainedInt8(steps=5).run(source, context_of(tmp_path / name, pictures(32))) for name in ("one", "two")]
    assert made[0].digest == made[1].digest
    assert made[0].precision == "int8-qat"
    untrained = StaticInt8(exclude_tail=True).run(source, context_of(tmp_path / "untrained", pictures(32)))
    assert ops_of(made[0]) == ops_of(untrained)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["model.onnx"]


def test_numbers_without_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps = 0"):
        TrainedInt8(steps=0)
    with pytest.raises(ConfigError, match="rate = -1"):
        TrainedInt8(rate=-1)
    for option in ("samples", "noise"):
        with pytest.raises(ConfigError, match=f"{option} = -1"):
            TrainedInt8(**{option: -1})  # type: ignore[arg-type]  # options of several types


def test_too_few_samples_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    with pytest.raises(DataError, match="int8-qat needs at least 32 calibration samples; there are 3"):
        TrainedInt8().run(source, context_of(tmp_path / "work", pictures(3)))
