"""The server behind each copy on a Ray node: it is believed only where it answers right, and ends with its owner."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Golden
from tests.bundle.making import bundle_affine
from tests.targets.ray_cluster import PYTHON, SOURCES

pytestmark = pytest.mark.tool(PYTHON)

_PROGRAM = """
import json, os, signal, sys, threading, time
from ferryman.core.errors import DeployError
from ferryman.targets.rayserve import serving as module
from ferryman.targets.rayserve.serving import Serving
bundle, python, what = sys.argv[1:]
options = ["--threads", "1", *(["--keys", what] if what.startswith("/") else [])]
serving = Serving(bundle, python=python, options=options, tell=lambda line: None)
folder = serving._path.parent
if what == "busy":  # a node without time for it: it listens, and doesn't answer for a while
    module._ASK_S = 0.1
    while not serving._path.exists():
        time.sleep(0.001)
    os.kill(serving._process.pid, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (serving._process.pid, signal.SIGCONT)).start()
try:
    serving.wait(30)
    said = {"digests": serving.digests(), "why": serving.why_not_ready()}
    if what == "killed":
        serving._process.kill()
        serving._process.wait()
        said["why"] = serving.why_not_ready()
except DeployError as error:
    said = {"error": str(error)}
serving.stop()
serving.stop()
print(json.dumps({**said, "left": folder.exists()}))
"""


def ask(bundle: Path, python: str = sys.executable, what: str = "") -> dict[str, Any]:
    ray = shutil.which(PYTHON) or ""
    done = subprocess.run(
        [ray, "-c", _PROGRAM, str(bundle), python, what], capture_output=True, text=True, timeout=60, check=True,
        env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not said.pop("left"), "its folder is still there"
    return said


def test_a_server_that_answers_right_tells_what_it_serves_and_one_that_ends_is_missed(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    assert ask(bundle.path, what="killed") == {
        "digests": {"affine": bundle.manifest.digest},
        "why": "its server has ended",
    }


def test_a_server_that_listens_and_has_no_time_to_answer_yet_is_waited_for(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    assert ask(bundle.path, what="busy")["digests"] == {"affine": bundle.manifest.digest}


def test_a_server_that_answers_its_golden_samples_wrong_is_refused_with_the_reason(tmp_path: Path) -> None:
    good = bundle_affine(tmp_path / "good")
    answer = json.loads(json.dumps(good.golden[0].answer))
    answer["outputs"]["sum"]["data"][0][0] += 1
    golden = [Golden("item-0", good.golden[0].item, answer)]
    wrong = write_bundle(
        tmp_path / "wrong", deployment=good.deployment, artifact=good.artifact, proof=good.proof,
        golden=golden, tolerance=dict(good.tolerance), baseline={}, versions={},
    )  # fmt: skip
    assert "1 of 1 golden samples wrong" in ask(wrong.path)["error"]


def test_what_is_no_bundle_and_what_is_no_python_are_told_in_words(tmp_path: Path) -> None:
    assert "nowhere" in ask(tmp_path / "nowhere")["error"]
    assert "No such file" in ask(tmp_path, python="/no/python")["error"]


def test_a_server_that_wants_keys_is_refused_as_its_digest_can_not_be_checked(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    subprocess.run(
        [sys.executable, "-m", "ferryman", "keys", "add", "web", "--file", str(keys)], check=True, capture_output=True
    )
    bundle = bundle_affine(tmp_path / "affine")
    assert "the digest can't be checked" in ask(bundle.path, what=str(keys))["error"]
