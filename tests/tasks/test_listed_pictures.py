import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ferryman.core.deployment import EvaluationSection
from ferryman.core.errors import DataError
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.data import read_samples
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.listed_pictures import Entry, match_entries
from tests.tasks.making import write_picture

ROOT = Path("/shop")


def _matched(pictures: Sequence[str], listed: Sequence[str], folders: Sequence[Path] = (ROOT,)) -> dict[str, str]:
    entries = [Entry(file, place, f"line {place}") for place, file in enumerate(listed)]
    found = match_entries([ROOT / name for name in pictures], entries, folders)
    return {picture.relative_to(ROOT).as_posix(): entry.file for picture, entry in found.items()}


@pytest.mark.parametrize(
    ("pictures", "listed"),
    [
        (["cat/1.png", "dog/1.png"], ["cat/1.png", "dog/1.png"]),
        (["cat/1.png", "dog/1.png"], ["./cat/1.png", "dog//1.png"]),
        (["val/cat/1.png", "val/dog/1.png"], ["cat/1.png", "dog/1.png"]),
        (["val/cat/1.png", "val/dog/1.png"], ["../cat/1.png", "/shop/val/dog/1.png"]),
        (["val/1.png", "val/2.png"], ["1.png", "train/2.png"]),
        (["1.png", "cat/1.png"], ["1.png", "cat/1.png"]),
    ],
)
def test_pictures_are_found_by_their_path_and_then_by_a_name_of_their_own(
    pictures: list[str], listed: list[str]
) -> None:
    assert _matched(pictures, listed) == dict(zip(pictures, listed, strict=True))
    assert _matched(pictures[::-1], listed[::-1]) == dict(zip(pictures, listed, strict=True))


def test_an_entry_beside_its_list_goes_to_the_picture_there() -> None:
    assert _matched(["cat/1.png", "dog/1.png"], ["1.png"], (ROOT / "cat", ROOT)) == {"cat/1.png": "1.png"}


def test_a_picture_is_not_given_the_entry_of_another_of_its_name() -> None:
    assert _matched(["cat/1.png", "dog/1.png"], ["cat/1.png"]) == {"cat/1.png": "cat/1.png"}


def test_one_entry_for_two_pictures_names_both() -> None:
    with pytest.raises(DataError, match=r"line 0: '1\.png' may be /shop/cat/1\.png or /shop/dog/1\.png"):
        _matched(["cat/1.png", "dog/1.png"], ["1.png"])


def test_two_entries_for_one_picture_name_both() -> None:
    with pytest.raises(DataError, match=r"1\.png may be 'cat/1\.png' \(line 0\) or 'dog/1\.png' \(line 1\)"):
        _matched(["val/1.png"], ["cat/1.png", "dog/1.png"])


def test_a_picture_listed_twice_may_not_be_two_things() -> None:
    twice = [Entry("1.png", "cat", "line 2"), Entry("1.png", "cat", "line 3")]
    assert match_entries([ROOT / "1.png"], twice, (ROOT,)) == {ROOT / "1.png": twice[0]}
    with pytest.raises(DataError, match=r"line 2.*line 3"):
        match_entries([ROOT / "1.png"], [twice[0], Entry("1.png", "dog", "line 3")], (ROOT,))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Make two pictures of one name in two folders."""
    write_picture(tmp_path / "cat/001.png", seed=1)
    write_picture(tmp_path / "dog/001.png", seed=2)
    return tmp_path


@pytest.mark.parametrize("items", ["*/*.png", "labels.csv"])
def test_a_csv_keeps_pictures_of_one_name_apart(shop: Path, items: str) -> None:
    (shop / "labels.csv").write_text("file,label\ncat/001.png,0\ndog/001.png,1\n", encoding="utf-8")
    section = EvaluationSection(items=items, labels="labels.csv")
    assert read_samples(section, shop, ClassifySpec()).truths == [0, 1]


def test_a_csv_of_bare_names_that_two_pictures_have_is_refused(shop: Path) -> None:
    (shop / "labels.csv").write_text("file,label\n001.png,0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: '001\.png' may be .*cat/001\.png or .*dog/001\.png"):
        read_samples(EvaluationSection(items="*/*.png", labels="labels.csv"), shop, ClassifySpec())


def test_a_picture_that_a_csv_lists_twice_is_read_twice(shop: Path) -> None:
    (shop / "labels.csv").write_text("file,label\ncat/001.png,1\ncat/001.png,1\n", encoding="utf-8")
    assert read_samples(EvaluationSection(items="labels.csv"), shop, ClassifySpec()).truths == [1, 1]


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_coco_keeps_pictures_of_one_name_apart(shop: Path, prefix: str) -> None:
    content = {
        "images": [{"id": 1, "file_name": "cat/001.png"}, {"id": 2, "file_name": "dog/001.png"}],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 0, "bbox": [1, 1, 2, 2]},
            {"image_id": 2, "category_id": 1, "bbox": [3, 3, 4, 4]},
        ],
    }
    (shop / prefix).mkdir(exist_ok=True)
    (shop / prefix / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    section = EvaluationSection(items="*/*.png", labels=f"{prefix}coco.json")
    truths = read_samples(section, shop, DetectSpec(decoder="yolox", labels=("cat", "dog"))).truths
    assert truths is not None and [truth["classes"] for truth in truths] == [[0], [1]]


def test_one_yolo_file_for_pictures_of_two_folders_is_refused(shop: Path) -> None:
    (shop / "labels").mkdir()
    (shop / "labels/001.txt").write_text("0 0.5 0.5 0.2 0.4\n", encoding="utf-8")
    section = EvaluationSection(items="*/*.png", labels="labels/*.txt")
    with pytest.raises(DataError, match=r"001\.txt may be that of .*cat/001\.png or of .*dog/001\.png"):
        read_samples(section, shop, DetectSpec(decoder="yolox"))
    (shop / "dog/001.png").rename(shop / "dog/002.png")
    assert read_samples(section, shop, DetectSpec(decoder="yolox")).names == ["cat/001.png", "dog/002.png"]
