import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError, DataError, StepError
from ferryman.core.privacy import forbid_telemetry
from ferryman.core.signature import Tensors
from ferryman.core.step import StepContext
from ferryman.export.openvino import ToOpenVINO
from ferryman.optimize._openvino import members_of, read
from ferryman.optimize.clean import clean
from ferryman.optimize.groups import groups
from ferryman.optimize.openvino_int8 import OpenVINOInt8
from ferryman.runtimes.openvino import OpenVINORuntime
from tests.optimize.making import artifact_of, context_of, make_convolutions, make_products, pictures, rows

forbid_telemetry()  # or else the very import below would report to the maker
pytest.importorskip("nncf", reason="NOT TESTED: the extra openvino is not installed")


def _converted(folder: Path) -> Artifact:
    return ToOpenVINO().run(make_convolutions(folder / "model.onnx"), context_of(folder / "openvino"))


def _quantized(artifact: Artifact) -> set[str]:
    """Name the layers whose weights are stored in 8 bits."""
    found = set()
    model = read(artifact.path)
    kinds = {node.get_friendly_name(): node.get_type_name() for node in model.get_ordered_ops()}
    for entry in members_of(model):
        types = [kinds[name] for name in entry.nodes]
        if any("Convolution" in kind for kind in types) and "Convert" in types:
            found.add(entry.layer.name)
    return found


def _answer(artifact: Artifact, inputs: Tensors) -> "np.typing.NDArray[np.generic]":
    session = OpenVINORuntime().load(artifact, threads=1)
    output = session.infer(inputs)[artifact.signature.outputs[0].name]
    session.close()
    return output


@pytest.mark.parametrize("calibrator", ["minmax", "percentile"])
def test_answers_stay_near_the_float_model(tmp_path: Path, calibrator: str) -> None:
    source = _converted(tmp_path)
    quantized = OpenVINOInt8(calibrator=calibrator).run(source, context_of(tmp_path / "work", pictures(32)))
    item = pictures(1, seed=99)[0]
    want, got = _answer(source, item), _answer(quantized, item)
    # 0.07 on a processor without VNNI, where products are added in 16 bits.
    assert np.abs(got - want).max() < 0.1 * np.abs(want).max()  # type: ignore[operator]  # both are float32
    assert (quantized.precision, quantized.made_by) == ("int8", ("openvino", "openvino-int8"))


def test_all_convolutions_are_quantized_by_default(tmp_path: Path) -> None:
    quantized = OpenVINOInt8().run(_converted(tmp_path), context_of(tmp_path / "work", pictures(32)))
    assert _quantized(quantized) == {"stem", "depthwise", "pointwise", "box_head", "class_head"}


def test_layers_go_by_the_names_of_the_onnx_graph(tmp_path: Path) -> None:
    context = context_of(tmp_path / "work", pictures(32))
    source = _converted(tmp_path)
    assert _quantized(OpenVINOInt8(only_nodes=("pointwise",)).run(source, context)) == {"pointwise"}
    assert "depthwise" not in _quantized(OpenVINOInt8(exclude_nodes=("depthwise",)).run(source, context))


def test_the_head_can_stay_in_float(tmp_path: Path) -> None:
    context = context_of(tmp_path / "work", pictures(32))
    quantized = OpenVINOInt8(exclude_head=True).run(_converted(tmp_path), context)
    assert _quantized(quantized) == {"stem", "depthwise", "pointwise"}


def test_excluded_operators_go_by_their_onnx_name(tmp_path: Path) -> None:
    context = context_of(tmp_path / "work", pictures(32))
    with pytest.raises(StepError, match="nothing to quantize"):
        OpenVINOInt8(exclude_ops=("Conv",)).run(_converted(tmp_path), context)


def test_matrix_products_are_quantized(tmp_path: Path) -> None:
    source = ToOpenVINO().run(make_products(tmp_path / "model.onnx"), context_of(tmp_path / "openvino"))
    quantized = OpenVINOInt8().run(source, context_of(tmp_path / "work", rows(32)))
    item = rows(1, batch=4)[0]
    np.testing.assert_allclose(
        _answer(quantized, item).astype(np.float32), _answer(source, item).astype(np.float32), atol=0.8
    )


def test_progress_is_told_and_the_terminal_stays_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[str, int, int]] = []

    def listen(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        heard.append((stage, done, total))

    source = _converted(tmp_path)
    before = logging.getLoggerClass()
    OpenVINOInt8().run(source, replace_progress(context_of(tmp_path / "work", pictures(32)), listen))
    assert ("find ranges", 32, 32) in heard
    assert capfd.readouterr() == ("", "")
    assert logging.getLoggerClass() is before


def replace_progress(context: StepContext, listen: object) -> StepContext:
    return replace(context, progress=listen)  # type: ignore[arg-type]  # a Progress by shape


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^openvino-int8 needs at least 32 calibration samples; there are 3"):
        OpenVINOInt8().run(_converted(tmp_path), context_of(tmp_path / "work", pictures(3)))
    assert not (tmp_path / "work").exists()


def test_entropy_is_not_a_calibrator_of_nncf() -> None:
    with pytest.raises(ConfigError, match="calibrator = 'entropy'"):
        OpenVINOInt8(calibrator="entropy")


@pytest.mark.slow
def test_quantizing_only_pointwise_layers_repairs_a_real_detector(shared_data: Path, tmp_path: Path) -> None:
    source = clean(artifact_of(shared_data / "models" / "yolox_nano.onnx"), tmp_path / "clean")
    pointwise = next(group.nodes for group in groups(source.path) if group.name == "conv-pointwise")
    converted = ToOpenVINO().run(source, context_of(tmp_path / "openvino"))
    generator = np.random.default_rng(0)
    samples: list[Tensors] = [
        {"images": generator.integers(0, 255, (1, 3, 416, 416)).astype(np.float32)} for _ in range(2)
    ]
    step = OpenVINOInt8(only_nodes=pointwise, min_samples=2)
    assert _quantized(step.run(converted, context_of(tmp_path / "work", samples))) == set(pointwise)
