"""Machine code of AOTInductor, compiled and run; one compilation serves several tests, as each takes a while."""

import platform
import zipfile
from pathlib import Path

import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError, SourceError, StepError
from ferryman.core.plugins import runtime_for
from ferryman.core.step import StepContext
from ferryman.export.aotinductor import ToAOTInductor
from ferryman.export.torch_program import OnnxToTorch
from tests.export.test_torch_program import distance, opened
from tests.optimize.making import make_convolutions

FACTORY = Path(__file__).resolve().parents[2] / "src/ferryman/demo/factory_nano.onnx"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_convolutions(tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="module")
def program(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return OnnxToTorch().run(source, StepContext(tmp_path_factory.mktemp("program")))


@pytest.fixture(scope="module")
def compiled(program: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return ToAOTInductor().run(program, StepContext(tmp_path_factory.mktemp("compiled")))


@pytest.mark.slow
def test_compiled_code_answers_the_same_for_every_batch(source: Artifact, compiled: Artifact) -> None:
    assert compiled.signature == source.signature
    assert compiled.made_by == ("onnx-to-torch", "aotinductor")
    assert distance(source, compiled) < 1e-5


@pytest.mark.slow
def test_code_for_an_older_processor_says_so_and_answers_the_same(
    source: Artifact, program: Artifact, tmp_path: Path
) -> None:
    made = ToAOTInductor(march="x86-64-v3", freeze=True).run(program, StepContext(tmp_path / "made"))
    content = made.path.read_bytes()
    assert b'"AOTI_CPU_ISA": "AVX2"' in content
    assert distance(source, made) < 1e-5


@pytest.mark.slow
def test_code_for_another_processor_is_refused_before_it_is_loaded(compiled: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "other.pt2"
    with zipfile.ZipFile(compiled.path) as package, zipfile.ZipFile(path, "w") as changed:
        for name in package.namelist():
            changed.writestr(name, package.read(name).replace(platform.machine().encode(), b"sparc"))
    other = Artifact(path, "aotinductor", compiled.signature, "")
    with pytest.raises(SourceError, match="compiled for sparc") as caught:
        runtime_for("aotinductor").require()().load(other, threads=1)
    assert "march" in caught.value.hint


@pytest.mark.slow
def test_the_shipped_detector_compiles(tmp_path: Path) -> None:
    detector = opened(FACTORY)
    program = OnnxToTorch().run(detector, StepContext(tmp_path / "program"))
    assert distance(detector, ToAOTInductor().run(program, StepContext(tmp_path / "compiled"))) < 1e-5


def test_a_damaged_package_is_refused(program: Artifact, tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"no archive")
    for path in (tmp_path / "model.pt2", program.path):
        with pytest.raises(SourceError):
            runtime_for("aotinductor").require()().load(Artifact(path, "aotinductor", program.signature, ""), threads=1)


def test_without_a_compiler_the_error_says_what_to_install(
    program: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StepError, match=r"no C\+\+ compiler \(g\+\+\)") as caught:
        ToAOTInductor().run(program, StepContext(tmp_path / "made"))
    assert "CXX" in caught.value.hint
    assert not (tmp_path / "made").exists()


def test_a_processor_that_it_does_not_know_is_refused() -> None:
    from ferryman.build.workshop import make_step

    with pytest.raises(ConfigError, match="march is 'pentium'"):
        make_step("aotinductor", {"march": "pentium"})
