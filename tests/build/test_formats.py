"""Formats that are exported beside the served one, and their comparison."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from ferryman import api
from ferryman.build.parity import compare_formats
from ferryman.bundle.layout import encode_json, identity_digest
from ferryman.bundle.manifest import read_manifest
from ferryman.bundle.read import load_bundle
from ferryman.core.artifact import digest_file
from ferryman.core.bundle import FileEntry
from ferryman.core.errors import BundleError, ConfigError
from ferryman.core.plugins import Plugin, plugins
from tests.optimize.making import make_convolutions

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

TOML = """
[model]
name = "tiny"
source = "tiny.onnx"
[task]
kind = "tensor"
[build]
candidates = ["onnx-fp32"]
formats = {formats}
"""


def project(folder: Path, formats: str = '["torchscript"]') -> Path:
    folder.mkdir(exist_ok=True)
    make_convolutions(folder / "tiny.onnx")
    (folder / "ferryman.toml").write_text(TOML.format(formats=formats))
    return folder


def test_a_format_asked_for_is_in_the_bundle_beside_the_served_model(tmp_path: Path) -> None:
    built = api.build(project(tmp_path))
    assert built.proof.winner == "onnx-fp32"
    assert built.proof.exports == {"torchscript": "torchscript-fp32"}
    assert built.proof.reference == "onnx-fp32"
    bundle = load_bundle(built.bundle.path)
    assert set(bundle.exports) == {"torchscript-fp32"}, "the served model is in the bundle already"
    assert bundle.exports["torchscript-fp32"].path.is_relative_to(built.bundle.path)
    again = api.build(tmp_path)
    assert again.bundle.manifest.digest == bundle.manifest.digest
    assert again.ran == 0


def test_an_export_that_was_altered_is_refused(tmp_path: Path) -> None:
    bundle = api.build(project(tmp_path)).bundle
    bundle.exports["torchscript-fp32"].path.write_bytes(b"another")
    with pytest.raises(BundleError, match="torchscript-fp32/model"):
        load_bundle(bundle.path)


def test_parity_tells_whether_all_formats_give_the_same_answers(tmp_path: Path) -> None:
    built = api.build(project(tmp_path))
    _, compared = api.parity(built.bundle.path)
    assert compared.holds
    lines = {line.name: line for line in compared.proof.candidates}
    assert set(lines) == {"onnx-fp32", "torchscript-fp32"}
    assert all(line.parity and max(line.parity.max_rel.values()) < 1e-5 for line in lines.values())
    assert all(line.latency and line.latency.ratio > 0 for line in lines.values())


def test_parity_refuses_a_format_that_answers_otherwise(tmp_path: Path) -> None:
    bundle = api.build(project(tmp_path)).bundle
    other = project(tmp_path / "other")
    graph = onnx.load(other / "tiny.onnx")
    weights = next(tensor for tensor in graph.graph.initializer if len(tensor.dims) == 4)
    weights.raw_data = (onnx.numpy_helper.to_array(weights) * np.float32(1.1)).tobytes()
    onnx.save(graph, other / "tiny.onnx")
    wrong = api.build(other).bundle.exports["torchscript-fp32"]
    compared = compare_formats(replace(bundle, exports={**bundle.exports, "torchscript-fp32": wrong}))
    assert not compared.holds
    assert "1 of 2 formats break the contract beside onnx-fp32: torchscript-fp32" in compared.proof.verdict


def test_a_format_that_nothing_here_runs_is_not_verified_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = api.build(project(tmp_path))
    monkeypatch.setattr(Plugin, "missing", property(lambda self: ("torch",) if self.name == "torch" else ()))
    _, compared = api.parity(built.bundle.path)
    assert compared.unverified == ("torchscript-fp32",)
    assert "NOT VERIFIED here: torchscript-fp32" in compared.proof.verdict


def test_a_format_that_no_step_makes_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"build.formats names 'torchscrip'.*did you mean 'torchscript'"):
        api.plan(project(tmp_path, '["torchscrip"]'))


def test_a_default_plan_has_only_what_is_served(tmp_path: Path) -> None:
    names = {candidate.format for candidate in api.plan(project(tmp_path, "[]")).candidates}
    assert "torchscript" not in names
    served = {name for plugin in plugins("runtimes").values() if plugin.cls.serves for name in plugin.cls.formats}
    assert names <= served


def _rewrite_export(bundle: Path, name: str, **changes: object) -> None:
    """Forge an export's description, with every digest made right again."""
    file = bundle / "exports" / name / "artifact.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    manifest = read_manifest(bundle)
    key = f"exports/{name}/artifact.json"
    files = {**manifest.files, key: FileEntry(sha256=digest_file(file), size=file.stat().st_size)}
    forged = manifest.model_copy(update={"files": files})
    forged = forged.model_copy(update={"digest": identity_digest(forged)})
    (bundle / "bundle.json").write_bytes(encode_json(forged.model_dump(mode="json")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "exports/torchscript-fp32/../../../outside.onnx"}, "outside of the bundle"),
        ({"model": "exports/torchscript-fp32/nothing"}, "doesn't hold"),
        ({"model": "model"}, "outside of its folder"),
        ({"loader": {"trust": True}}, "do more than load"),
        ({"digest": "0" * 64}, "is not the model"),
    ],
)
def test_a_forged_export_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    bundle = api.build(project(tmp_path)).bundle.path
    (tmp_path / "outside.onnx").write_bytes(b"anything")
    _rewrite_export(bundle, "torchscript-fp32", **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


def test_one_export_that_fails_or_is_of_an_unknown_format_leaves_the_others_told(tmp_path: Path) -> None:
    bundle = api.build(project(tmp_path)).bundle
    good = bundle.exports["torchscript-fp32"]
    broken_file = tmp_path / "broken.torchscript"
    broken_file.write_bytes(b"nothing")
    others = {"unknown-fp32": replace(good, format="rknn"), "broken-fp32": replace(good, path=broken_file)}
    compared = compare_formats(replace(bundle, exports={**bundle.exports, **others}))
    status = {line.name: line.status for line in compared.proof.candidates}
    assert status["torchscript-fp32"] == "accepted"
    assert (status["unknown-fp32"], status["broken-fp32"]) == ("unavailable", "failed")
    assert not compared.holds


def test_lower_precision_that_nothing_measures_gets_no_tick(tmp_path: Path) -> None:
    bundle = api.build(project(tmp_path)).bundle
    half = replace(bundle.exports["torchscript-fp32"], precision="int8")
    compared = compare_formats(replace(bundle, exports={"torchscript-int8": half}))
    line = next(line for line in compared.proof.candidates if line.name == "torchscript-int8")
    assert line.status == "unavailable"
    assert "NOT MEASURED" in line.reason
    assert compared.unverified == ("torchscript-int8",)


def test_a_format_whose_files_are_programs_runs_only_with_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = api.build(project(tmp_path)).bundle
    monkeypatch.setattr(plugins("runtimes")["torch"].cls, "runs_code", True, raising=False)
    assert compare_formats(bundle).unverified == ("torchscript-fp32",)
    assert compare_formats(bundle, trust=True).unverified == ()
