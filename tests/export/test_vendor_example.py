"""The worked example of a vendor's tool: installed as a user installs it, in an environment of its own, and run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.optimize.making import make_convolutions

EXAMPLE = REPOSITORY / "examples" / "vendor_plugin"
CHECK = """
import json, sys
from pathlib import Path
from ferryman.core.plugins import find, runtime_for
from ferryman.core.step import StepContext
from tests.optimize.making import artifact_of, pictures
import numpy as np

source = artifact_of(Path(sys.argv[1]))
made = find("steps", "tract").require()().run(source, StepContext(Path(sys.argv[2])))
again = find("steps", "tract").require()().run(source, StepContext(Path(sys.argv[2]) / "again"))
answers = []
for artifact in (source, made):
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    answers.append(session.infer(pictures(1)[0]))
    session.close()
error = max(float(np.abs(answers[0][name] - answers[1][name]).max()) for name in answers[0])
files = sorted(path.name for path in Path(sys.argv[2]).iterdir())
print(json.dumps({"error": error, "same": made.digest == again.digest, "files": files}))
"""


def _environment(folder: Path) -> dict[str, str]:
    """Give an environment in which the example is installed beside Ferryman, without touching the one of the tests."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(REPOSITORY)])}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vendor")
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*words, "--target", str(folder / "site"), str(EXAMPLE)], check=True, timeout=300)
    return folder


def test_the_example_is_found_and_says_how_to_add_its_toolchain(installed: Path) -> None:
    words = [sys.executable, "-m", "ferryman", "toolchain", "list", "--json"]
    environment = {**_environment(installed), "FERRYMAN_TOOLCHAINS": str(installed / "none")}
    listed = subprocess.run(words, env=environment, check=True, capture_output=True, text=True, timeout=300)
    tract = next(one for one in json.loads(listed.stdout)["toolchains"] if one["name"] == "tract")
    assert tract["is_installed"] is False


@pytest.mark.slow
def test_the_example_compiles_and_answers_as_the_source(installed: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ferryman", "toolchain", "add", "tract"]
    added = subprocess.run(words, env=_environment(installed), capture_output=True, text=True, timeout=600)
    if added.returncode and "retrieve" in added.stderr + added.stdout:
        pytest.skip("NOT TESTED: the toolchain 'tract' can't be downloaded here")
    assert added.returncode == 0, added.stderr
    make_convolutions(tmp_path / "model.onnx")
    words = [sys.executable, "-c", CHECK, str(tmp_path / "model.onnx"), str(tmp_path / "work")]
    done = subprocess.run(words, env=_environment(installed), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["error"] < 1e-5
    assert found["same"]
    assert found["files"] == ["again", "model.nnef.tar"]
