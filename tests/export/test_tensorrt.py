import json
from pathlib import Path

import numpy as np
import pytest

from ferryman import api
from ferryman.build.plan import make_plan
from ferryman.core.deployment import BuildSection
from ferryman.core.engine import GpuOptions, choose_device_runtime
from ferryman.core.errors import ConfigError, FerrymanError, MissingExtra
from ferryman.core.plugins import Plugin, find
from ferryman.export.tensorrt import ToTensorRT
from tests.bundle.making import describe, make_affine
from tests.optimize.making import context_of


def can_run() -> bool:
    try:
        find("runtimes", "tensorrt").require()().identity()
    except MissingExtra:
        return False
    return True


def test_the_model_is_kept_with_how_its_engine_is_built(tmp_path: Path) -> None:
    source = describe(make_affine(tmp_path))
    made = ToTensorRT(workspace_mb=64, sparse=True).run(source, context_of(tmp_path / "one"))
    assert (made.format, made.precision, made.signature) == ("tensorrt", "fp32", source.signature)
    assert (made.path / "model.onnx").read_bytes() == source.path.read_bytes()
    options = json.loads((made.path / "engine.json").read_text())
    assert GpuOptions(**options) == GpuOptions(workspace_mb=64, sparse=True)
    assert ToTensorRT(workspace_mb=64, sparse=True).run(source, context_of(tmp_path / "two")).digest == made.digest
    assert ToTensorRT().run(source, context_of(tmp_path / "three")).digest != made.digest


def test_the_plan_says_on_device_and_why() -> None:
    if can_run():
        pytest.skip("TensorRT runs here")
    plan = make_plan("onnx", BuildSection(formats=("tensorrt",)), calibration=100)
    found = {one.name: one for one in plan.candidates if one.format == "tensorrt"}
    assert list(found) == ["tensorrt-fp32", "tensorrt-fp16", "tensorrt-int8"]
    assert found["tensorrt-int8"].steps == ("int8", "tensorrt")
    for one in found.values():
        assert one.unavailable.startswith("on device: ")
        assert "pip install" in one.unavailable or "GPU" in one.unavailable
        assert not one.serves


def test_a_plan_that_doesnt_ask_for_it_is_as_it_was() -> None:
    assert not [one for one in make_plan("onnx", BuildSection(), calibration=100).candidates if "tensorrt" in one.name]


@pytest.mark.parametrize("error", [FerrymanError("CUDA failed: mismatch", hint="nvidia-smi"), OSError("no libcuda")])
def test_a_broken_installation_is_asked_only_where_it_is_wanted_and_ends_no_build(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Broken:
        def identity(self) -> dict[str, str]:
            asked.append("identity")
            raise error

    real = Plugin.require
    # What a vendor's installation does wrong can't be had here.
    monkeypatch.setattr(Plugin, "require", lambda self: Broken if self.name == "tensorrt" else real(self))
    assert make_plan("onnx", BuildSection(), calibration=100).candidates
    assert not asked
    plan = make_plan("onnx", BuildSection(formats=("tensorrt",)), calibration=100)
    said = [one.unavailable for one in plan.candidates if one.format == "tensorrt"]
    assert asked and all(text.startswith("on device: ") and str(error) in text for text in said)


def test_an_engine_is_named_for_models_that_it_is_built_from() -> None:
    assert choose_device_runtime("off", "onnx") is None
    plugin = choose_device_runtime("tensorrt", "onnx")
    assert plugin is not None and plugin.name == "tensorrt"
    with pytest.raises(ConfigError, match="built from onnx; the model in this bundle is 'sklearn'"):
        choose_device_runtime("tensorrt", "sklearn")


def test_the_proof_and_the_comparison_say_on_device(tmp_path: Path) -> None:
    if can_run():
        pytest.skip("TensorRT runs here")
    make_affine(tmp_path)
    np.savez(tmp_path / "samples.npz", values=np.arange(12, dtype=np.float32).reshape(4, 3))
    (tmp_path / "ferryman.toml").write_text(
        '[model]\nname = "tiny"\nsource = "affine.onnx"\n[task]\nkind = "tensor"\n[data]\ncalibration = "samples.npz"\n'
        '[build]\nformats = ["tensorrt"]\ncandidates = ["onnx-fp32"]\n'
    )
    built = api.build(tmp_path)
    said = {one.name: (one.status, one.reason) for one in built.proof.candidates}
    status, reason = said["tensorrt-fp32"]
    assert status == "on device"
    assert "TensorRT" in reason or "tensorrt" in reason
    assert built.holds, "what only its device can make is not missed"
    _, compared = api.parity(built.bundle.path)
    assert {one.name: one.status for one in compared.proof.candidates}["tensorrt-fp32"] == "on device"
    page = api.plan(tmp_path)
    assert any(one.unavailable.startswith("on device: ") for one in page.candidates)
