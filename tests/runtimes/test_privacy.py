"""No engine reports to its maker, or leaves notes about its user."""

import subprocess
import sys
from pathlib import Path

from tests.bundle.making import make_affine

LOAD = """
import sys
from pathlib import Path
import numpy as np
from tests.bundle.making import describe
from ferryman.core.plugins import runtime_for
session = runtime_for("onnx").require()().load(describe(Path(sys.argv[1])), threads=1)
print(session.infer({"values": np.ones((1, 3), np.float32)})["sum"])
session.close()
"""


def test_onnx_runtime_writes_nothing_into_the_home_folder(tmp_path: Path) -> None:
    model, home = make_affine(tmp_path), tmp_path / "home"
    home.mkdir()
    told = subprocess.run(
        [sys.executable, "-c", LOAD, str(model)], env={"HOME": str(home)}, capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2], timeout=60,
    )  # fmt: skip
    assert "[[3. 3. 3.]]" in told.stdout and "telemetry" not in told.stderr
    assert list(home.rglob("*")) == []
