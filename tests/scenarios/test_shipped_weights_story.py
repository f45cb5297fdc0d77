"""The detector that the project ships, taken up by a new user: init guesses all, build refuses and repairs INT8."""

import json
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from ferryman.demo.belt import LABELS, write_dataset
from tests.cli.running import ferryman

DATA = ["--calibration", "calib/images/*.jpg", "--evaluation", "val/images/*.jpg", "--labels", "val/labels/*.txt"]


@pytest.mark.slow
def test_what_init_guesses_for_the_shipped_detector_builds_verifies_and_finds_defects(tmp_path: Path) -> None:
    with as_file(files("ferryman.demo") / "factory_nano.onnx") as weights:
        (tmp_path / "factory.onnx").write_bytes(weights.read_bytes())
    write_dataset(tmp_path / "calib", count=32, seed=1)
    write_dataset(tmp_path / "val", count=24, seed=2)
    started = ferryman("init", "factory.onnx", *DATA, folder=tmp_path)
    assert "metadata names its 4 classes" in started.stderr
    assert all(f'"{label}"' in (tmp_path / "ferryman.toml").read_text() for label in LABELS)
    with (tmp_path / "ferryman.toml").open("a", encoding="utf-8") as stream:
        stream.write('\n[build]\ncandidates = ["onnx-fp32", "onnx-int8"]\n')
    told = json.loads(ferryman("build", "--json", "--quiet", folder=tmp_path).stdout)
    by_name = {candidate["name"]: candidate for candidate in told["proof"]["candidates"]}
    assert told["holds"]
    assert told["proof"]["source_value"] > 0.4, "a wrong guess of the input or the decoder would show here"
    assert by_name["onnx-int8"]["attempts"][0]["holds"] is False
    assert by_name["onnx-int8"]["status"] == "repaired"
    assert ferryman("verify", "dist/factory", "--quiet", folder=tmp_path).returncode == 0
    asked = ferryman("infer", "dist/factory", "val/images/0001.jpg", "--draw", "drawn.jpg", folder=tmp_path)
    assert (asked.returncode, (tmp_path / "drawn.jpg").is_file()) == (0, True)
