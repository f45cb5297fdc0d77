"""What a bundle of somebody else's may not run: its formats, its reference, its loader's wishes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.build.parity import _why_not, compare_formats
from ferryman.build.run import _carried
from ferryman.bundle.write import write_bundle
from ferryman.core.artifact import Artifact
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, PlanError
from ferryman.core.plugins import plugins
from tests.bundle.making import bundle_model, make_affine


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    items = [{"values": np.ones((1, 3), np.float32)}]
    return bundle_model(tmp_path / "bundle", make_affine(tmp_path), {"kind": "tensor"}, items)


def note_loads(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> list[Artifact]:  # a Runtime's class
    """Give the list of artifacts that are loaded from now on."""
    opened: list[Artifact] = []
    load = runtime.load

    def noted(self: Any, artifact: Artifact, **how: Any) -> Any:
        opened.append(artifact)
        return load(self, artifact, **how)

    monkeypatch.setattr(runtime, "load", noted)
    return opened


def test_a_reference_whose_files_are_programs_is_not_opened_without_trust(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = plugins("runtimes")["onnx"].cls
    monkeypatch.setattr(runtime, "runs_code", True, raising=False)
    opened = note_loads(runtime, monkeypatch)
    with pytest.raises(PlanError, match=r"the reference 'onnx-fp32' can't be run here: .*--trust"):
        compare_formats(bundle)
    assert not opened
    assert compare_formats(bundle, trust=True).proof.candidates
    assert all(one.loader["trust"] is True for one in opened)


def test_a_loader_s_own_trust_is_not_the_users(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = plugins("runtimes")["onnx"].cls
    opened = note_loads(runtime, monkeypatch)
    compare_formats(replace(bundle, artifact=replace(bundle.artifact, loader={"trust": True})))
    assert opened
    assert not any(one.loader["trust"] for one in opened)


def test_checkpoints_that_are_pickles_are_programs() -> None:
    assert plugins("runtimes")["ultralytics"].cls.runs_code
    assert _why_not("ultralytics", trust=False)


def test_which_signature_was_verified_goes_into_the_bundle_and_trust_does_not(tmp_path: Path, bundle: Bundle) -> None:
    export = _carried(replace(bundle.artifact, loader={"signature": "two", "trust": True}))
    written = write_bundle(
        tmp_path / "other",
        deployment=bundle.deployment,
        artifact=bundle.artifact,
        proof=bundle.proof,
        golden=bundle.golden,
        tolerance=bundle.tolerance,
        baseline=bundle.baseline,
        versions=bundle.versions,
        exports={"onnx-two": export},
    )
    assert written.exports["onnx-two"].loader == {"signature": "two"}
    trusting = replace(export, loader={"signature": "two", "trust": True})
    with pytest.raises(BundleError, match="do more than load"):
        write_bundle(
            tmp_path / "third",
            deployment=bundle.deployment,
            artifact=trusting,
            proof=bundle.proof,
            golden=bundle.golden,
            tolerance=bundle.tolerance,
            baseline=bundle.baseline,
            versions=bundle.versions,
        )
