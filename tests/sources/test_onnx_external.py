"""External data of ONNX models: taken from the model's own folder, and from nowhere else."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.sources.onnx import OnnxSource

MakeSection = Callable[..., ModelSection]
Point = Callable[..., Path]


@pytest.fixture
def point_to(linear_onnx: Any, save_onnx: Callable[[Any], Path]) -> Point:
    """Let the weight's 24 bytes lie at a location; gives the model's path."""

    def point(location: str, *, offset: int = 0, length: int = 24) -> Path:
        tensor = linear_onnx.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        for key, value in {"location": location, "offset": str(offset), "length": str(length)}.items():
            tensor.external_data.add(key=key, value=value)
        return save_onnx(linear_onnx)

    return point


@pytest.fixture
def weight_bytes(linear_onnx: Any) -> bytes:
    return bytes(linear_onnx.graph.initializer[0].raw_data)


@pytest.fixture
def open_path(section: MakeSection, tmp_path: Path) -> Callable[[Path], Artifact]:
    return lambda path: OnnxSource().open(path, section(), tmp_path / "work")


def test_data_in_the_models_folder_is_put_into_the_model(
    weight_bytes: bytes, point_to: Point, open_path: Callable[[Path], Artifact]
) -> None:
    path = point_to("weights.bin", offset=8)
    (path.parent / "weights.bin").write_bytes(b"padding!" + weight_bytes)
    artifact = open_path(path)
    assert onnx.load(artifact.path, load_external_data=False).graph.initializer[0].raw_data == weight_bytes
    assert artifact.loader["repairs"] == ["weights from weights.bin were put into the model's one file"]


@pytest.mark.parametrize("kind", ["parent", "absolute", "symlink", "empty"])
def test_data_outside_of_the_models_folder_is_refused(
    kind: str, weight_bytes: bytes, point_to: Point, open_path: Callable[[Path], Artifact], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(weight_bytes)
    location = {"parent": "../secret.bin", "absolute": str(secret), "symlink": "link.bin", "empty": ""}[kind]
    path = point_to(location)
    if kind == "symlink":
        os.symlink(secret, path.parent / "link.bin")
    with pytest.raises(SourceError, match="outside of the model's folder") as caught:
        open_path(path)
    assert repr(location) in str(caught.value)


def test_a_missing_data_file_is_named(point_to: Point, open_path: Callable[[Path], Artifact]) -> None:
    with pytest.raises(SourceError, match=r"data file 'weights\.bin' is missing"):
        open_path(point_to("weights.bin"))


@pytest.mark.parametrize(("offset", "length"), [(0, 25), (-1, 24), (9999, 24), (0, 10**18)])
def test_data_beyond_the_files_end_is_refused(
    offset: int, length: int, weight_bytes: bytes, point_to: Point, open_path: Callable[[Path], Artifact]
) -> None:
    path = point_to("weights.bin", offset=offset, length=length)
    (path.parent / "weights.bin").write_bytes(weight_bytes)
    with pytest.raises(SourceError, match=r"of weights\.bin, which has 24"):
        open_path(path)


def test_data_of_the_wrong_length_is_refused(
    weight_bytes: bytes, point_to: Point, open_path: Callable[[Path], Artifact]
) -> None:
    path = point_to("weights.bin", length=8)
    (path.parent / "weights.bin").write_bytes(weight_bytes)
    with pytest.raises(SourceError, match="breaks the rules"):
        open_path(path)
