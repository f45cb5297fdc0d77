"""A build that is killed at any moment harms nothing, and the next one goes on from where it was."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman import api
from tests.build.making import write_toml
from tests.cli.running import ferryman

STAGES = ["source model on the samples", "onnx-int8: quantize", "onnx-int8: memory and cold start", "latency", "bundle"]


def build_until(project: Path, cache: Path, stage: str) -> int:
    """Build in a process of its own and kill it -9 once it tells of a stage; gives its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ferryman", "build"],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "FERRYMAN_CACHE": str(cache)},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if stage in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=60)
    return process.returncode


def leftovers(cache: Path) -> list[str]:
    """List what no finished build leaves in the cache."""
    found = [path for path in cache.rglob("*") if path.name.startswith((".", "unfinished-")) or "part" in path.suffix]
    return [path.relative_to(cache).as_posix() for path in found]


@pytest.mark.slow
def test_a_build_that_is_killed_again_and_again_gets_there_and_keeps_the_old_bundle(
    project: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    write_toml(project, build='candidates = ["onnx-fp32"]')
    before = json.loads(ferryman("build", "--json", "--quiet", folder=project).stdout)["digest"]
    write_toml(project, build='candidates = ["onnx-fp32", "onnx-int8"]', contract='prefer = "size"')
    for stage in STAGES:
        assert build_until(project, cache, stage) == -signal.SIGKILL, f"it never came to '{stage}'"
        assert api.load(project / "dist" / "squares").manifest.digest == before
    finished = ferryman("build", "--json", "--quiet", folder=project, FERRYMAN_CACHE=str(cache))
    told = json.loads(finished.stdout)
    assert (finished.returncode, told["winner"]) == (0, "onnx-int8")
    assert told["ran"] <= 3, "only what was cut off runs again"
    assert told["cached"] > 10
    assert leftovers(cache) == []
    assert [path.name for path in (project / "dist").iterdir()] == ["squares"]
    assert api.load(project / "dist" / "squares").manifest.digest == told["digest"] != before


def test_what_a_killed_build_left_in_the_cache_goes_with_the_next(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    write_toml(project, build='candidates = ["onnx-fp32"]')
    (cache / "unfinished-of_a_dead_build" / "artifact").mkdir(parents=True)
    assert ferryman("build", "--quiet", folder=project, FERRYMAN_CACHE=str(cache)).returncode == 0
    assert leftovers(cache) == []


def test_an_interrupt_says_how_to_go_on_and_exits_130(project: Path, tmp_path: Path) -> None:
    write_toml(project, build='candidates = ["onnx-fp32", "onnx-int8"]')
    process = subprocess.Popen(
        [sys.executable, "-m", "ferryman", "build"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "FERRYMAN_CACHE": str(tmp_path / "cache")},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "onnx-int8" in line:
            process.send_signal(signal.SIGINT)
            break
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert "run it again to resume" in errors
    assert "Traceback" not in errors
    assert not (project / "dist").exists()
    assert leftovers(tmp_path / "cache") == []


def test_builds_that_share_a_cache_at_the_same_time_both_finish(project: Path, tmp_path: Path) -> None:
    write_toml(project, build='candidates = ["onnx-fp32"]')
    command = [sys.executable, "-m", "ferryman", "build", "--quiet", "--json"]
    environment = {**os.environ, "FERRYMAN_CACHE": str(tmp_path / "cache")}
    processes = [
        subprocess.Popen(
            [*command, "--output", str(tmp_path / name)],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )
        for name in ("first", "second")
    ]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    digests = {json.loads(output)["digest"] for output, _ in answers}
    assert len(digests) == 1
    assert leftovers(tmp_path / "cache") == []
