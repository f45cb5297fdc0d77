import contextlib
import io
import time
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ferryman.core.errors import ConfigError, DataError
from ferryman.tasks.coco import measure_boxes

LABELS = tuple(f"class{number}" for number in range(80))


def _make(pictures: int, classes: int, seed: int, crowds: bool = False, digits: int = 2) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    answers, truths = [], []
    for _ in range(pictures):
        count = int(rng.integers(0, 8))
        low = rng.uniform(0, 300, (count, 2))
        corners = np.concatenate([low, low + rng.uniform(10, 150, (count, 2))], axis=1)
        numbers = rng.integers(0, classes, count)
        truth = {"boxes": corners.tolist(), "classes": numbers.tolist()}
        if crowds:
            truth["crowd"] = (rng.uniform(size=count) < 0.2).astype(int).tolist()
        truths.append(truth)
        found = np.repeat(corners, 4, axis=0) + rng.normal(0, 8, (count * 4, 4))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        classes_found = np.where(rng.uniform(size=count * 4) < 0.8, np.repeat(numbers, 4), rng.integers(0, classes))
        scores = np.round(rng.uniform(size=count * 4), digits)
        order = np.argsort(-scores)
        answers.append(
            {
                "boxes": found[order].tolist(),
                "scores": scores[order].tolist(),
                "classes": classes_found[order].tolist(),
            }
        )
    return answers, truths


def _pycocotools(answers: list[Any], truths: list[Any]) -> list[float]:
    """Let pycocotools accumulate and summarize: map, map50, map75."""
    sides = []
    with contextlib.redirect_stdout(io.StringIO()):
        for marked in (truths, answers):
            boxes: list[dict[str, Any]] = []
            for place, entry in enumerate(marked):
                crowd = entry.get("crowd", [0] * len(entry["classes"]))
                scores = entry.get("scores", [1.0] * len(entry["classes"]))
                for (x1, y1, x2, y2), number, is_crowd, score in zip(
                    entry["boxes"], entry["classes"], crowd, scores, strict=True
                ):
                    size = [x1, y1, x2 - x1, y2 - y1]
                    boxes.append(
                        {"id": len(boxes) + 1, "image_id": place, "category_id": number, "bbox": size}
                        | {"area": size[2] * size[3], "iscrowd": is_crowd, "score": score}
                    )
            side = COCO()
            numbers = {box["category_id"] for box in boxes}
            side.dataset = {
                "images": [{"id": place} for place in range(len(marked))],
                "categories": [{"id": number} for number in numbers],
                "annotations": boxes,
            }
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:3]]


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_figures_equal_those_of_pycocotools(seed: int, crowds: bool) -> None:
    answers, truths = _make(30, 5, seed, crowds)
    measured = measure_boxes(answers, truths, "map", LABELS)
    figures = [measured.figures[name] for name in ("map", "map50", "map75")]
    assert figures == pytest.approx(_pycocotools(answers, truths), abs=1e-12)
    assert measured.value == pytest.approx(figures[0], abs=1e-12)


@pytest.mark.parametrize("crowds", [False, True])
def test_a_resample_equals_measuring_the_resampled_pictures_anew(crowds: bool) -> None:
    # Equal scores of different pictures would be ordered by picture here and by draw there: take scores of many digits.
    answers, truths = _make(20, 4, 7, crowds, digits=15)
    measured = measure_boxes(answers, truths, "map", LABELS)
    indices = np.random.default_rng(0).integers(0, 20, (6, 20))
    wanted = [_pycocotools([answers[i] for i in row], [truths[i] for i in row])[0] for row in indices]
    np.testing.assert_allclose(measured.resampled(indices), wanted, atol=1e-9)


def test_the_identity_resample_gives_the_value_of_every_metric() -> None:
    answers, truths = _make(20, 3, 1)
    identity = np.arange(20)[None]
    for metric in ("map", "map50", "map75", "ap:class1", "ap50:class2"):
        measured = measure_boxes(answers, truths, metric, LABELS)
        assert measured.resampled(identity)[0] == measured.value
        assert measured.value == pytest.approx(measured.figures[metric], abs=1e-12)


def test_perfect_boxes_have_a_precision_of_one_and_none_have_zero() -> None:
    _, truths = _make(10, 3, 2)
    perfect = [{**truth, "scores": [0.9] * len(truth["classes"])} for truth in truths]
    assert measure_boxes(perfect, truths, "map", LABELS).value == pytest.approx(1.0)
    empty: list[Any] = [{"boxes": [], "scores": [], "classes": []} for _ in truths]
    assert measure_boxes(empty, truths, "map", LABELS).value == 0.0


@pytest.mark.parametrize("metric", ["map", "map50", "ap:class0"])
@pytest.mark.parametrize("crowd", [[], [1]])
def test_data_without_any_box_to_find_has_no_metric(metric: str, crowd: list[int]) -> None:
    found: list[Any] = [{"boxes": [[0, 0, 5, 5]], "scores": [0.5], "classes": [0]}] * 2
    truths: list[Any] = [{"boxes": [[0, 0, 5, 5]], "classes": [0], "crowd": [0]}, {"boxes": [], "classes": []}]
    assert measure_boxes(found, truths, metric, LABELS).value > 0
    truths[0] = {"boxes": [[0, 0, 5, 5]] * len(crowd), "classes": [0] * len(crowd), "crowd": crowd}
    with pytest.raises(DataError, match="none of the 2 labelled pictures has a box to find"):
        measure_boxes(found, truths, metric, LABELS)


def test_an_unknown_metric_names_the_known_ones() -> None:
    answers, truths = _make(5, 2, 3)
    with pytest.raises(ConfigError, match="no metric 'f1'") as caught:
        measure_boxes(answers, truths, "f1", LABELS)
    assert "map50" in caught.value.hint and "class1" in caught.value.hint


def test_measuring_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    measure_boxes(*_make(3, 2, 4), "map", LABELS)
    assert capsys.readouterr().out == ""


def test_two_hundred_resamples_of_128_pictures_take_seconds_at_most() -> None:
    measured = measure_boxes(*_make(128, 80, 5), "map", LABELS)
    indices = np.random.default_rng(0).integers(0, 128, (200, 128))
    start = time.perf_counter()
    assert measured.resampled(indices).shape == (200,)
    assert time.perf_counter() - start < 5.0
