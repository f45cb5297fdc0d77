"""A build that also exports models with their task in the graph, for programs that have nothing of ours."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ferryman import api
from ferryman.core.errors import ConfigError
from tests.build.conftest import Build
from tests.build.test_formats_exports import write_table

BOTH = 'candidates = ["onnx-fp32", "openvino-fp32"]\nformats = ["openvino"]\nin_graph = "pre+post"'
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "in-graph.md"


def run_code(text: str, folder: Path) -> Any:
    """Run the one Python block of a text in a folder, and give what it found."""
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ends = (
        'import json, sys\nassert "ferryman" not in sys.modules\nprint(json.dumps([boxes.tolist(), scores.tolist()]))'
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}\n{ends}"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_both_formats_are_exported_with_their_task_and_run_without_ferryman(build: Build, project: Path) -> None:
    built = build(build=BOTH)
    assert built.holds
    lines = {line.name: line for line in built.proof.candidates if line.name.endswith("-in-graph")}
    assert {name: line.status for name, line in lines.items()} == {
        "onnx-fp32-in-graph": "accepted",
        "openvino-fp32-in-graph": "accepted",
    }
    assert set(lines) < set(built.bundle.exports)
    picture = next((project / "evaluation").glob("*.png"))
    (wanted,) = api.infer(built.bundle, [picture])
    pixels = cv2.imread(str(picture))
    for name in lines:
        export = built.bundle.path / "exports" / name
        cv2.imwrite(str(export / "picture.png"), pixels)
        for text in ((export / "README.md").read_text(), *([GUIDE.read_text()] if name.startswith("onnx") else [])):
            boxes, scores = run_code(text.replace("picture.jpg", "picture.png"), export)
            order, own = np.lexsort(np.transpose(boxes)), np.lexsort(np.transpose(wanted["boxes"]))  # scores are equal
            np.testing.assert_allclose(np.asarray(boxes)[order], np.asarray(wanted["boxes"])[own], atol=2e-3)
            np.testing.assert_allclose(np.asarray(scores)[order], np.asarray(wanted["scores"])[own], atol=1e-5)


@pytest.mark.slow
def test_parity_examines_them_again(build: Build) -> None:
    compared = api.parity(build(build=BOTH).bundle.path)[1]
    assert compared.holds
    line = next(line for line in compared.proof.candidates if line.name == "onnx-fp32-in-graph")
    assert (line.status, line.agreement["unmatched"]) == ("accepted", 0)


@pytest.mark.slow
def test_an_int8_model_is_joined_as_it_is(build: Build) -> None:
    built = build(build='candidates = ["onnx-int8"]\nin_graph = "pre"')
    line = built.proof.candidates[-1]
    assert (line.name, line.status) == ("onnx-int8-in-graph", "accepted"), line.reason
    assert built.bundle.exports[line.name].signature.outputs == built.bundle.artifact.signature.outputs


def test_a_task_that_has_no_graph_is_refused_before_any_work(tmp_path: Path) -> None:
    write_table(tmp_path)
    with (tmp_path / "ferryman.toml").open("a") as stream:
        stream.write('in_graph = "pre"\n')
    with pytest.raises(ConfigError, match=r"build.in_graph: a task of kind 'tabular' has nothing"):
        api.build(tmp_path)
