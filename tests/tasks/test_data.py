import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.deployment import DataSection, EvaluationSection
from ferryman.core.errors import DataError
from ferryman.core.task import Samples, TaskSpec
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.data import read_calibration, read_samples
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.tabular import TabularSpec
from ferryman.tasks.tensor import TensorSection
from tests.tasks.making import write_picture

DETECT = DetectSpec(decoder="yolox", labels=("cat", "dog"))
CLASSIFY = ClassifySpec(labels=("cat", "dog"))


def _read(folder: Path, spec: TaskSpec, items: str, **section: Any) -> Samples:  # any key of the section
    return read_samples(EvaluationSection(items=items, **section), folder, spec)


def _yolo(folder: Path, line: str = "1 0.5 0.5 0.2 0.4") -> Path:
    for place in range(4):
        write_picture(folder / f"images/{place}.png", 20, 30, seed=place)
    (folder / "labels").mkdir()
    (folder / "labels/0.txt").write_text(line + "\n\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("labels", [None, "labels/*.txt"])
def test_yolo_boxes_become_pixels_and_pictures_without_a_file_show_nothing(tmp_path: Path, labels: str | None) -> None:
    samples = _read(_yolo(tmp_path), DETECT, "images/*.png", labels=labels)
    assert samples.names == [f"images/{place}.png" for place in range(4)]
    assert samples.truths is not None and samples.truths[1] == {"boxes": [], "classes": []}
    assert samples.truths[0]["classes"] == [1]
    assert samples.truths[0]["boxes"][0] == pytest.approx([12, 6, 18, 14])


def test_a_polygon_counts_as_the_box_around_it(tmp_path: Path) -> None:
    truths = _read(_yolo(tmp_path, "0 0.1 0.2 0.5 0.1 0.3 0.8"), DETECT, "images/*.png").truths
    assert truths is not None and truths[0]["boxes"][0] == pytest.approx([3, 2, 15, 16])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.2", "4 numbers instead of 5"),
        ("cat 0.5 0.5 0.2 0.4", "holds something that is no number"),
        ("1 nan 0.5 0.2 0.4", "is no class number and four finite numbers"),
        ("1.5 0.5 0.5 0.2 0.4", "is no class number"),
        ("1 0.5 0.5 -0.2 0.4", "outside of 0..1"),
        ("1 120 80 40 30", "outside of 0..1"),
        ("1 0.5 0.5 0 0.4", "has no area"),
        ("2 0.5 0.5 0.2 0.4", "class number 2 is out of range; there are 2 labels"),
        ("-1 0.5 0.5 0.2 0.4", "class number -1 is out of range"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=r"0\.txt, line 1: ") as caught:
        _read(_yolo(tmp_path, line), DETECT, "images/*.png")
    assert message in str(caught.value)


def test_pictures_without_any_label_file_are_refused(tmp_path: Path) -> None:
    folder = _yolo(tmp_path)
    (folder / "labels/0.txt").unlink()
    with pytest.raises(DataError, match="none of 4 pictures has a label file"):
        _read(folder, DETECT, "images/*.png")


def test_a_glob_that_matches_nothing_shows_the_nearest_folder(tmp_path: Path) -> None:
    _yolo(tmp_path)
    with pytest.raises(DataError, match=r"items = 'images/val/\*\.jpg' matches no file") as caught:
        _read(tmp_path, DETECT, "images/val/*.jpg")
    assert "images; it holds 4 .png" in caught.value.hint


def test_a_limit_takes_items_evenly_spread_and_changes_the_digest(tmp_path: Path) -> None:
    folder = _yolo(tmp_path)
    whole, half = _read(folder, DETECT, "images/*.png"), _read(folder, DETECT, "images/*.png", limit=2)
    assert half.names == ["images/0.png", "images/2.png"]
    assert len({whole.digest, half.digest}) == 2


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    before = _read(_yolo(tmp_path), DETECT, "images/*.png").digest
    assert _read(tmp_path, DETECT, "images/*.png").digest == before
    write_picture(tmp_path / "images/3.png", seed=99)
    assert _read(tmp_path, DETECT, "images/*.png").digest != before


def _coco(folder: Path, **changes: Any) -> None:  # COCO's own JSON
    content = {
        "images": [{"id": place, "file_name": f"{place}.png"} for place in range(4)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [{"image_id": 2, "category_id": 7, "bbox": [1, 2, 3, 4], "iscrowd": 1}],
    }
    (folder / "coco.json").write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_coco_categories_are_matched_by_name(tmp_path: Path) -> None:
    _coco(_yolo(tmp_path))
    truths = _read(tmp_path, DETECT, "images/*.png", labels="coco.json").truths
    assert truths is not None and truths[2] == {"boxes": [[1, 2, 4, 6]], "classes": [1], "crowd": [1]}
    assert truths[0] == {"boxes": [], "classes": [], "crowd": []}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "4 of 4 pictures have no label"),
        ({"annotations": None}, "has no list 'annotations'"),
        ({"annotations": [{"image_id": 2, "category_id": 9, "bbox": [1, 2, 3, 4]}]}, "category_id 9 is not among"),
        ({"annotations": [{"image_id": 2, "category_id": 7, "bbox": [1, 2, -3, 4]}]}, "has a negative side"),
        ({"annotations": [{"image_id": 2, "category_id": 7, "bbox": "all"}]}, "is not four finite numbers"),
        ({"annotations": [{"image_id": 2, "category_id": 7}]}, "an entry has no 'bbox'"),
        ({"images": [{"id": [1], "file_name": "0.png"}]}, "'id' is .1., neither a number nor text"),
        ({"categories": [{"id": 7, "name": "cow"}]}, "category 'cow' is not one of the 2 labels"),
    ],
)
def test_a_malformed_coco_file_says_where(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    _coco(_yolo(tmp_path), **changes)
    with pytest.raises(DataError, match=message):
        _read(tmp_path, DETECT, "images/*.png", labels="coco.json")


def test_classes_come_from_a_csv_by_name_or_number(tmp_path: Path) -> None:
    for place in range(3):
        write_picture(tmp_path / f"{place}.jpg")
    (tmp_path / "labels.csv").write_text("file,label\n0.jpg,dog\n1.jpg,0\n2.jpg,cat\n", encoding="utf-8")
    assert _read(tmp_path, CLASSIFY, "*.jpg", labels="labels.csv").truths == [1, 0, 0]
    assert _read(tmp_path, CLASSIFY, "labels.csv").truths == [1, 0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\n0.jpg,dgo\n", "line 2: 'dgo' is neither a class number nor one of the labels"),
        ("file,label\n0.jpg,2\n", "line 2: class number 2 is out of range"),
        ("file,label\nother.jpg,1\n", "1 of 1 pictures have no label"),
        ("name,label\n0.jpg,1\n", "has no column 'file'"),
        ("file,label\n0.jpg\n", "line 2: 1 cells, but 2 columns"),
        ("file,file\n0.jpg,1\n", "line 1 must name each column once"),
        ("file,label\n", "holds no rows"),
    ],
)
def test_a_malformed_csv_of_classes_is_refused(tmp_path: Path, content: str, message: str) -> None:
    write_picture(tmp_path / "0.jpg")
    (tmp_path / "labels.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        _read(tmp_path, CLASSIFY, "*.jpg", labels="labels.csv")


def test_classes_come_from_the_folders(tmp_path: Path) -> None:
    write_picture(tmp_path / "dog/a.jpg")
    write_picture(tmp_path / "cat/b.jpg")
    assert _read(tmp_path, CLASSIFY, "*/*.jpg").truths == [0, 1]
    (tmp_path / "dog").rename(tmp_path / "dgo")
    with pytest.raises(DataError, match="folder 'dgo'") as caught:
        _read(tmp_path, CLASSIFY, "*/*.jpg")
    assert caught.value.hint == "did you mean 'dog'?"


def test_truths_of_another_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'folders' holds truths of task 'classify', not of 'detect'"):
        _read(_yolo(tmp_path), DETECT, "images/*.png", format="folders")
    with pytest.raises(DataError, match="format = 'voc' is not known"):
        _read(tmp_path, DETECT, "images/*.png", format="voc")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv"])
def test_a_table_gives_rows_without_the_target(tmp_path: Path, name: str) -> None:
    text = "a,b,class\n1,2,yes\n3,,no\n".replace(",", "\t" if "tsv" in name else ",").encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    samples = _read(tmp_path, TabularSpec(), name, target="class")
    assert samples.items == [{"a": "1", "b": "2"}, {"a": "3", "b": ""}]
    assert samples.truths == ["yes", "no"] and samples.names[1] == f"{name} row 2"


def test_the_target_is_the_one_column_that_the_model_does_not_take(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,class\n1,2,yes\n", encoding="utf-8")
    samples = _read(tmp_path, TabularSpec(columns=("b", "a")), "t.csv")
    assert samples.truths == ["yes"] and samples.items == [{"b": "2", "a": "1"}]


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,class\n1,\n", encoding="utf-8")
    (tmp_path / "bad.csv.gz").write_bytes(b"\x1f\x8bbroken")
    for name, target, message in (
        ("t.csv", None, "that holds the truth is not known"),
        ("t.csv", "klass", "has no column 'klass'"),
        ("t.csv", "class", "row 1: column 'class' is empty"),
        ("bad.csv.gz", "class", "can't be read"),
    ):
        with pytest.raises(DataError, match=message):
            _read(tmp_path, TabularSpec(), name, target=target)
    with pytest.raises(DataError, match="has no column 'b'"):
        _read(tmp_path, TabularSpec(columns=("a", "b")), "t.csv", target="class")


def test_json_lines_give_rows(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1, "y": 0}\n\n{"a": [2], "y": 1}\n', encoding="utf-8")
    samples = _read(tmp_path, TensorSection(), "t.jsonl", target="y")
    assert samples.items == [{"a": 1}, {"a": [2]}] and samples.truths == [0, 1]
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n[1]\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 2 is not an object"):
        _read(tmp_path, TensorSection(), "t.jsonl", target="a")


def test_arrays_give_one_item_a_row(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(6, dtype=np.float32).reshape(3, 2), y=np.asarray([0, 1, 1]))
    samples = _read(tmp_path, TensorSection(), "d.npz", limit=2)
    assert samples.truths == [0, 1] and len(samples.items) == 2
    first: Any = samples.items[0]
    assert first["x"].shape == (1, 2)
    np.savez(tmp_path / "uneven.npz", x=np.zeros((3, 2)), y=np.zeros(2))
    with pytest.raises(DataError, match="one row an item"):
        _read(tmp_path, TensorSection(), "uneven.npz")


def test_calibration_takes_pictures_rows_and_arrays(tmp_path: Path) -> None:
    _yolo(tmp_path)
    section = DataSection(calibration="images", calibration_limit=3)
    assert len(read_calibration(section, tmp_path, DETECT).items) == 3
    (tmp_path / "t.csv").write_text("a,class\n1,0\n2,1\n", encoding="utf-8")
    table = DataSection(calibration="t.csv", evaluation=EvaluationSection(items="t.csv", target="class"))
    assert read_calibration(table, tmp_path, TabularSpec()).items == [{"a": "1"}, {"a": "2"}]
    assert read_calibration(table, tmp_path, TabularSpec()).truths is None
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2), np.float32))
    assert len(read_calibration(DataSection(calibration="d.npz"), tmp_path, TensorSection()).items) == 3
    assert read_calibration(DataSection(), tmp_path, DETECT).items == ()
