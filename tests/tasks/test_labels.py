from pathlib import Path

import pytest

from ferryman.core.errors import ConfigError
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.labels import label_of, read_labels


def test_labels_are_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("cat\n traffic light \ndog\n\n", encoding="utf-8")
    assert read_labels(path) == ("cat", "traffic light", "dog")


def test_labels_can_be_a_json_list(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text('["cat", "dog"]', encoding="utf-8")
    assert read_labels(path) == ("cat", "dog")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no names"),
        ("a.txt", b"cat\n\ndog", "line 2 is empty"),
        ("a.txt", b"\xff\xfe\xff", "can't be read"),
        ("a.json", b"{", "not valid JSON"),
        ("a.json", b'{"0": "cat"}', "must hold a JSON list of strings"),
    ],
)
def test_a_bad_label_file_says_what_is_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_labels(tmp_path / name)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no label file .*gone\.txt"):
        read_labels(tmp_path / "gone.txt")


def test_a_resolved_spec_stands_by_itself(tmp_path: Path) -> None:
    (tmp_path / "two.names").write_text("cat\ndog\n", encoding="utf-8")
    spec = DetectSpec(decoder="yolox", labels="two.names")
    assert spec.resolved(tmp_path).labels == ("cat", "dog")
    again = spec.resolved(tmp_path).resolved(tmp_path / "elsewhere")
    assert DetectSpec.model_validate(again.model_dump(mode="json")).labels == ("cat", "dog")


def test_coco_needs_no_file() -> None:
    labels = DetectSpec(decoder="yolox", labels="coco80").resolved(Path("nowhere")).labels
    assert labels is not None and len(labels) == 80 and labels[0] == "person"


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    assert label_of(("cat",), 3) == "3"
    assert label_of(None, 0) == "0"
