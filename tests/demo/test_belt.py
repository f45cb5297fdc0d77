"""The belt generator draws the same labelled pictures from the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ferryman.demo.belt import LABELS, Box, render, write_dataset


@pytest.fixture(scope="module")
def drawn() -> list[tuple[tuple[int, ...], list[Box]]]:
    pictures = [render(seed, size=160) for seed in range(60)]
    return [(picture.shape, boxes) for picture, boxes in pictures]


def test_the_same_seed_draws_the_same_picture() -> None:
    first, first_boxes = render(3)
    second, second_boxes = render(3)
    np.testing.assert_array_equal(first, second)
    assert first_boxes == second_boxes


def test_another_seed_draws_another_picture() -> None:
    assert not np.array_equal(render(3, size=160)[0], render(4, size=160)[0])


@pytest.mark.parametrize("size", [96, 320, 512])
def test_a_picture_has_the_size_asked_for(size: int) -> None:
    picture, _ = render(5, size=size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


def test_a_picture_is_neither_black_nor_blown_out() -> None:
    for seed in range(8):
        picture, _ = render(seed, size=160)
        assert 25 < picture.mean() < 200
        assert (picture == 255).mean() < 0.1


def test_every_box_lies_inside_its_picture(drawn: list[tuple[tuple[int, ...], list[Box]]]) -> None:
    for (height, width, _), boxes in drawn:
        for box in boxes:
            assert 0 <= box.x1 < box.x2 <= width
            assert 0 <= box.y1 < box.y2 <= height
            assert 0 <= box.label < len(LABELS)


def test_every_kind_of_defect_occurs(drawn: list[tuple[tuple[int, ...], list[Box]]]) -> None:
    assert {box.label for _, boxes in drawn for box in boxes} == set(range(len(LABELS)))


def test_some_pictures_have_no_defect_and_none_has_more_than_five(
    drawn: list[tuple[tuple[int, ...], list[Box]]],
) -> None:
    counts = [len(boxes) for _, boxes in drawn]
    assert min(counts) == 0
    assert max(counts) <= 5


def test_a_hole_is_darker_than_what_surrounds_it() -> None:
    darker = []
    for seed in range(40):
        picture, boxes = render(seed)
        for box in boxes:
            if LABELS[box.label] == "hole":
                middle = picture[int(box.y1 + box.y2) // 2, int(box.x1 + box.x2) // 2].mean()
                whole = picture[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)].mean()
                darker.append(middle < whole)
    assert np.mean(darker) > 0.9


def test_a_dataset_carries_the_generator_s_boxes_as_yolo_lines(tmp_path: Path) -> None:
    write_dataset(tmp_path, count=12, seed=20)
    names = [f"{index:04d}" for index in range(12)]
    assert sorted(path.stem for path in (tmp_path / "images").glob("*.jpg")) == names
    assert sorted(path.stem for path in (tmp_path / "labels").glob("*.txt")) == names
    for index, name in enumerate(names):
        _, boxes = render(20 + index)
        lines = (tmp_path / "labels" / f"{name}.txt").read_text().splitlines()
        assert [_corners(line, 320) for line in lines] == [
            pytest.approx((box.label, box.x1, box.y1, box.x2, box.y2), abs=1e-3) for box in boxes
        ]


def test_a_dataset_s_pictures_can_be_read_back(tmp_path: Path) -> None:
    import cv2

    write_dataset(tmp_path, count=1, seed=2)
    written = cv2.imread(str(tmp_path / "images" / "0000.jpg"))
    assert written is not None
    drawn_picture, _ = render(2)
    assert np.abs(written.astype(np.int16) - drawn_picture).mean() < 4


def _corners(line: str, side: int) -> tuple[float, ...]:
    label, cx, cy, w, h = (float(word) for word in line.split())
    return label, (cx - w / 2) * side, (cy - h / 2) * side, (cx + w / 2) * side, (cy + h / 2) * side
