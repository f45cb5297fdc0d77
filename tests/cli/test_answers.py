from typing import Any

from ferryman.cli.answers import tabulate
from ferryman.verify.columns import Paint

BOXES = {
    "boxes": [[1.0, 2.0, 30.04, 40.0], [5.0, 5.0, 6.0, 6.0]],
    "scores": [0.91, 0.02],
    "labels": ["person", "tv"],
    "classes": [0, 62],
}


def written(*answers: dict[str, Any], min_score: float = 0.25, width: int = 100) -> str:
    named = [(f"item{index}", answer) for index, answer in enumerate(answers)]
    return tabulate(named, min_score=min_score, width=width, paint=Paint(False))


def test_boxes_are_a_table_and_weak_ones_are_only_counted() -> None:
    lines = written(BOXES).splitlines()
    assert lines[1].split() == ["label", "score", "x1", "y1", "x2", "y2"]
    assert lines[2].split() == ["person", "0.910", "1.0", "2.0", "30.0", "40.0"]
    assert lines[3].strip() == "1 more under score 0.25"


def test_every_box_is_shown_on_demand() -> None:
    assert "tv" in written(BOXES, min_score=0.0)


def test_no_boxes_are_said_to_be_nothing() -> None:
    assert "nothing found" in written({"boxes": [], "scores": [], "labels": [], "classes": []})


def test_classes_come_with_their_scores() -> None:
    assert "tench  0.700" in written({"classes": [0], "labels": ["tench"], "scores": [0.7]})


def test_rows_are_one_table() -> None:
    answer = {"label": "UP", "probabilities": {"UP": 0.8, "DOWN": 0.2}}
    lines = written(answer, answer).splitlines()
    assert lines[0].split() == ["row", "label", "p(UP)", "p(DOWN)"]
    assert lines[2].split() == ["item1", "UP", "0.800", "0.200"]


def test_many_probabilities_give_way_on_a_narrow_terminal() -> None:
    answer = {"label": "0", "probabilities": {f"class{index}": 0.01 for index in range(100)}}
    assert max(map(len, written(answer, width=80).splitlines())) <= 80


def test_tensors_are_previewed() -> None:
    answer = {"outputs": {"y": {"dtype": "float32", "shape": [1, 8], "data": [[0.5, float("nan"), 1, 2, 3, 4, 5, 6]]}}}
    assert "float32  [1, 8]  0.5 nan 1 2 3 4" in written(answer)


def test_control_characters_of_a_label_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in written({"classes": [0], "labels": ["\x1b[31mred"], "scores": [0.7]})
