import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.sources.test_keras_source import answer, imported, opened

from ferryman.core.artifact import Artifact
from ferryman.core.errors import MissingExtra, SourceError
from ferryman.core.isolated import isolated
from ferryman.core.plugins import find
from ferryman.core.signature import Signature
from ferryman.core.task import bind_task
from ferryman.core.toolchain import find_toolchain
from ferryman.runtimes.ultralytics import UltralyticsRuntime
from ferryman.sources.torch import WeightsSource
from ferryman.sources.ultralytics import UltralyticsSource
from ferryman.tasks.detect import DetectTask
from ferryman.tasks.guess import guess_task

INSTALLED = pytest.mark.toolchain("ultralytics")


def write_checkpoint(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data.pkl", content)
        archive.writestr("best/version", "3\n")
    return path


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ultralytics")
    with isolated("ultralytics", Path(__file__).parent / "ultralytics_maker.py") as worker:
        worker.ask("make", kind="DetectionModel", shape="yolo11n.yaml", path=str(folder / "detect.pt"))
        worker.ask("make", kind="ClassificationModel", shape="yolo11n-cls.yaml", path=str(folder / "classify.pt"))
    return folder


def test_it_is_known_by_the_classes_that_its_pickle_names_and_nothing_is_unpickled(tmp_path: Path) -> None:
    ours = write_checkpoint(tmp_path / "best.pt", b"\x80\x02cultralytics.nn.tasks\nDetectionModel\nq\x00.")
    weights = write_checkpoint(tmp_path / "weights.pt", pickle.dumps({"note": "made with ultralytics."}, protocol=2))
    assert UltralyticsSource().recognises(ours)
    assert not WeightsSource().recognises(ours)
    assert not UltralyticsSource().recognises(weights)
    assert WeightsSource().recognises(weights)
    assert "ultralytics" not in sys.modules


def test_a_damaged_zip_is_none_of_them(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", b"cultralytics.nn.tasks\nDetectionModel\n" * 50)
    damaged = bytearray(path.read_bytes())
    damaged[60:90] = bytes(30)
    path.write_bytes(bytes(damaged[:-40]))
    assert not UltralyticsSource().recognises(path)


def test_the_licence_is_said_where_the_toolchain_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRYMAN_TOOLCHAINS", str(tmp_path / "none"))
    with pytest.raises(MissingExtra, match=r"AGPL-3\.0") as caught:
        find("sources", "ultralytics").require()
    assert caught.value.hint == "ferryman toolchain add ultralytics"
    assert "AGPL-3.0" in find_toolchain("ultralytics").summary


@INSTALLED
def test_a_checkpoint_is_a_pickle_and_needs_trust(checkpoints: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is an Ultralytics checkpoint, which is a pickle") as caught:
        opened(checkpoints / "detect.pt", tmp_path)
    assert "trust = true" in caught.value.hint
    assert "AGPL-3.0" in caught.value.hint


@INSTALLED
def test_a_checkpoint_that_can_not_be_loaded_is_refused_in_words(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", b"\x80\x02cultralytics.nn.tasks\nNoSuchModel\nq\x00.")
    with pytest.raises(SourceError, match="Ultralytics can't load this checkpoint") as caught:
        opened(path, tmp_path, trust=True)
    assert caught.value.hint


@INSTALLED
@pytest.mark.parametrize("name", ["detect", "classify"])
def test_onnx_answers_as_the_checkpoint_does_in_every_batch(name: str, checkpoints: Path, tmp_path: Path) -> None:
    source = opened(checkpoints / f"{name}.pt", tmp_path, trust=True)
    made = imported(source, tmp_path, "ultralytics-to-onnx")
    assert made.signature == source.signature
    for batch in (1, 3):
        pictures = {"images": np.random.default_rng(batch).random((batch, 3, 96, 96), np.float32)}
        wanted, given = answer(source, pictures)["output0"], answer(made, pictures)["output0"]
        assert wanted.shape == given.shape
        assert np.abs(given - wanted).max() <= 1e-5 * np.abs(wanted).max()


@INSTALLED
def test_the_task_is_written_from_what_the_checkpoint_tells(checkpoints: Path, tmp_path: Path) -> None:
    source = opened(checkpoints / "detect.pt", tmp_path, trust=True)
    guess = guess_task(source, folder=tmp_path)
    spec = DetectTask.Spec.model_validate(guess.spec_toml)
    assert guess.spec_toml["labels"] == ["bolt", "nut", "ring"]
    assert guess.spec_toml["input"]["size"] == [96, 96]
    assert any("AGPL-3.0" in question for question in guess.questions)
    task = bind_task(spec, source.signature)
    picture = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    batch = task.preprocess([picture])
    (found,) = task.postprocess(answer(source, batch.inputs), batch)
    assert isinstance(found, dict)
    assert set(found) == {"boxes", "scores", "classes", "labels"}


def test_a_pickle_that_no_source_of_ours_was_trusted_to_open_is_not_run(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", b"cos\nsystem\n(S'touch ran'\ntR.")
    signature = Signature(inputs=(), outputs=())
    with pytest.raises(SourceError, match="is a pickle") as caught:
        UltralyticsRuntime().load(Artifact(path, "ultralytics", signature, ""), threads=1)
    assert "trust" in caught.value.hint
