"""`open_source`: the right plug-in by content, and words for what no plug-in knows."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.deployment import ModelSection
from ferryman.core.errors import ConfigError, SourceError
from ferryman.sources.detect import digest_source, open_source

MakeSection = Callable[..., ModelSection]


def test_the_content_decides_and_not_the_name(linear_onnx: Any, tmp_path: Path, section: MakeSection) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(linear_onnx.SerializeToString())
    assert open_source(path, section(), tmp_path).format == "onnx"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "git LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in</html>", "HTML page"),
        (b"\x89HDF\r\n\x1a\n rest", "HDF5"),
        (b'{"answer": 42}', "JSON document"),
        (b"PK\x03\x04 and then nothing", "damaged or cut short"),
        (b"just some words", "a text file"),
        (b"\x01\x02\x03\x04\xff\xfe\x00\x00" * 9, "binary data that starts with 01 02 03 04"),
    ],
)
def test_an_unknown_file_is_described(content: bytes, words: str, tmp_path: Path, section: MakeSection) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        open_source(path, section(), tmp_path)
    assert "onnx" in caught.value.hint


def test_an_empty_file_and_a_folder_are_described(tmp_path: Path, section: MakeSection) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(SourceError, match="an empty file"):
        open_source(tmp_path / "model.onnx", section(), tmp_path)
    with pytest.raises(SourceError, match="a folder of no known kind") as caught:
        open_source(tmp_path, section(), tmp_path)
    assert "model.onnx" in caught.value.hint
    with pytest.raises(SourceError, match="a folder, and no 'onnx' model"):
        open_source(tmp_path, section(format="onnx"), tmp_path)
    with pytest.raises(SourceError, match="not there"):
        open_source(tmp_path / "absent", section(), tmp_path)


def test_a_zip_that_is_no_model_is_described(tmp_path: Path, section: MakeSection) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(SourceError, match=r"zip archive with readme\.txt"):
        open_source(path, section(), tmp_path)


def test_an_unknown_format_names_the_known_ones(tmp_path: Path, section: MakeSection) -> None:
    with pytest.raises(ConfigError, match="'onxx' is not known") as caught:
        open_source(tmp_path / "model.onnx", section(format="onxx"), tmp_path)
    assert "torch-export" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["onnx", "torch-export", "torchscript", "torch-weights", "sklearn", "xgboost", "lightgbm", "catboost"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"garbage" * 20,
        b"\x08\x07\x3a\xff\xff\xff\xff\x0f",
        b"",
        b"PK\x03\x04 half",
        b'{"learner": {}}',
        b"CBM1\x00\x00\x01",
    ],
    ids=["text", "cut protobuf", "empty", "cut zip", "empty learner", "cut cbm"],
)
def test_every_format_refuses_what_it_can_not_read(
    name: str, content: bytes, tmp_path: Path, section: MakeSection
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    inputs = [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}]
    with pytest.raises(SourceError):
        open_source(path, section(format=name, factory="json:dumps", inputs=inputs, trust=True), tmp_path)


def test_a_link_to_a_folder_inside_of_a_models_folder_is_refused(tmp_path: Path, section: MakeSection) -> None:
    folder, other = tmp_path / "model", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (other / "weights").write_bytes(b"one")
    (folder / "linked_file").symlink_to(other / "weights")
    before = digest_source(folder, section(), tmp_path)
    (other / "weights").write_bytes(b"two")
    assert digest_source(folder, section(), tmp_path) != before, "a linked file counts with what it leads to"
    (folder / "variables").symlink_to(other)
    with pytest.raises(SourceError, match=r"variables is a link to a folder"):
        digest_source(folder, section(), tmp_path)


class Bomb:
    """Touch a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.pt"])
def test_a_pickle_is_not_run(name: str, tmp_path: Path, section: MakeSection) -> None:
    target = tmp_path / "it-ran"
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(SourceError, match="runs whatever code is in it") as caught:
        open_source(path, section(), tmp_path)
    assert not target.exists()
    assert "skops" in caught.value.hint
    pickle.loads(path.read_bytes())
    assert target.exists(), "the bomb must be a real one"
