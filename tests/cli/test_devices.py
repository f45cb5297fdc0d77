"""What the command line says of engines that are built on the device."""

import json
from pathlib import Path

from ferryman.core.plugins import find
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman


def test_doctor_says_which_engines_can_be_built_here_and_why_others_cant(tmp_path: Path) -> None:
    found = json.loads(ferryman("doctor", "--json", XDG_CACHE_HOME=str(tmp_path)).stdout)["engines of this device"]
    assert found["kept"] == f"{tmp_path / 'ferryman' / 'engines'} (not there yet)"
    if not find("runtimes", "tensorrt").is_available:
        assert found["tensorrt"].startswith("can't be built here: runtime 'tensorrt' needs tensorrt")
        assert 'pip install "ferryman[tensorrt]"' in found["tensorrt"]
    if find("runtimes", "openvino").is_available:
        assert found["openvino"].startswith("can be built here: ")


def test_serve_refuses_an_engine_that_there_isnt_and_names_those_that_there_are(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "affine").path
    answer = ferryman("serve", str(path), "--port", "0", "--device-engine", "tensort")
    assert answer.returncode == 2
    assert "no engine that is built on the device is called 'tensort'" in answer.stderr
    assert "auto, off, openvino, tensorrt" in answer.stderr
