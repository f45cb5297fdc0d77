"""What is measured last: one candidate that fails at it takes no other with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferryman import api
from ferryman.build.exports import Result, missing_exports
from ferryman.build.plan import Candidate
from ferryman.build.verdict import untried
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import parse_deployment
from ferryman.core.errors import StepError
from ferryman.core.plugins import runtime_for
from ferryman.core.runtime import Session
from tests.optimize.making import make_convolutions

pytestmark = pytest.mark.slow

TOML = """
[model]
name = "tiny"
source = "tiny.onnx"
[task]
kind = "tensor"
[build]
candidates = {candidates}
formats = {formats}
"""


def build(folder: Path, *, candidates: str = '["onnx-fp32"]', formats: str = "[]") -> api.Built:
    make_convolutions(folder / "tiny.onnx")
    (folder / "ferryman.toml").write_text(TOML.format(candidates=candidates, formats=formats))
    return api.build(folder)


def fail_after_first(load: Callable[..., Session]) -> Callable[..., Session]:
    """Load once (to be examined), then die: as an engine does that the system kills for its memory."""
    loaded: list[Artifact] = []

    def once(self: Any, artifact: Artifact, *, threads: int) -> Session:  # self: a runtime
        if loaded:
            raise StepError("its process was killed by SIGKILL")
        loaded.append(artifact)
        return load(self, artifact, threads=threads)

    return once


def test_an_export_that_dies_while_it_is_timed_is_told_and_the_build_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    runtime = runtime_for("torchscript").cls
    monkeypatch.setattr(runtime, "load", fail_after_first(runtime.load))
    built = build(tmp_path, formats='["torchscript"]')
    line = next(line for line in built.proof.candidates if line.name == "torchscript-fp32")
    assert (line.status, line.latency) == ("failed", None)
    assert "SIGKILL" in line.reason
    assert built.proof.exports == {}
    assert built.proof.warnings == ("asked for, and not exported: torchscript (its process was killed by SIGKILL)",)
    assert not built.holds
    assert built.proof.winner == "onnx-fp32"


def test_a_served_candidate_that_dies_while_it_is_timed_leaves_the_others_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    runtime = runtime_for("openvino").cls
    monkeypatch.setattr(runtime, "load", fail_after_first(runtime.load))
    built = build(tmp_path, candidates='["onnx-fp32", "openvino-fp32"]')
    lines = {line.name: line for line in built.proof.candidates}
    assert lines["openvino-fp32"].status == "failed"
    assert lines["onnx-fp32"].latency is not None
    assert built.proof.winner == "onnx-fp32"


def test_the_served_model_is_not_in_the_bundle_twice(tmp_path: Path) -> None:
    built = build(tmp_path, formats='["onnx"]')
    assert built.proof.exports == {"onnx": "onnx-fp32"}
    assert (built.proof.winner, built.proof.reference) == ("onnx-fp32", "onnx-fp32")
    assert built.bundle.exports == {}


def test_a_toolchain_that_is_missing_is_named_once_and_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERRYMAN_TOOLCHAINS", str(tmp_path / "toolchains"))
    heard: list[str] = []
    make_convolutions(tmp_path / "tiny.onnx")
    (tmp_path / "ferryman.toml").write_text(TOML.format(candidates='["onnx-fp32"]', formats='["mnn", "ncnn"]'))
    built = api.build(tmp_path, progress=lambda stage, **_: heard.append(stage))
    assert not built.holds
    told = "asked for, and not exported: mnn (ferryman toolchain add mnn), ncnn (ferryman toolchain add ncnn)"
    assert built.proof.warnings == (told,)
    assert "latency: 1 of 1 candidates (onnx-fp32)" in heard


def test_what_only_its_device_can_make_is_not_missing() -> None:
    deployment = parse_deployment(
        {"model": {"name": "m", "source": "m.onnx"}, "task": {"kind": "tensor"}, "build": {"formats": ["tensorrt"]}},
        origin="test",
    )
    one = Candidate("tensorrt-fp32", "tensorrt", "fp32", ("tensorrt",))
    assert missing_exports(deployment, [Result(one, untried(one, status="on device", reason="no GPU"))]) == {}
    assert missing_exports(
        deployment, [Result(one, untried(one, status="failed", reason="it died (send it back)"))]
    ) == {"tensorrt": "it died"}
