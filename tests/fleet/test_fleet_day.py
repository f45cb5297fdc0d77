"""A small fleet's bad day, as benchmarks/fleet.py has it for 200 boxes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.tool("docker-registry")
def test_every_box_ends_on_a_whole_and_right_version_whatever_goes_wrong(tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text("{}")
    environment = {**os.environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks.fleet", "--boxes", "12", "--kills", "4", "--json"]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    served = [row[1] for row in told["rows"]]
    assert served[:5] == [{"one": 12}] * 5
    assert served[5] == {"one": 3, "two": 9}
    assert served[6] == {"two": 12}
    assert told["kills"] == 4
