from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.errors import ConfigError, InputError
from ferryman.core.task import Answer
from ferryman.tasks.distance import measure_distance
from ferryman.tasks.tensor import TensorSection, TensorTask, name_arrays
from tests.tasks.making import signature

MODEL = signature({"x": ("float32", ("n", 3))}, {"y": ("float32", ("n", 2))})


def _task() -> TensorTask:
    return TensorTask(TensorSection(), MODEL)


def _answers(task: TensorTask, *rows: list[float]) -> list[Answer]:
    batch = task.preprocess([{"x": [1, 2, 3]} for _ in rows])
    return task.postprocess({"y": np.asarray(rows, np.float32)}, batch)


def test_items_with_and_without_a_batch_dimension_are_stacked() -> None:
    items: list[Any] = [{"x": [1, 2, 3]}, {"x": np.ones((2, 3), np.float32)}, np.zeros(3)]
    batch = _task().preprocess(items)
    assert batch.inputs["x"].shape == (4, 3) and batch.inputs["x"].dtype == np.float32
    answers = _task().postprocess({"y": np.arange(8, dtype=np.float32).reshape(4, 2)}, batch)
    assert answers[1] == {"outputs": {"y": {"dtype": "float32", "shape": [2, 2], "data": [[2, 3], [4, 5]]}}}


def test_arrays_come_from_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((1, 3), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((1, 3), np.float32))
    assert _task().preprocess([tmp_path / "a.npz", tmp_path / "b.npy"]).inputs["x"].tolist() == [[1] * 3, [0] * 3]


def test_a_file_with_pickled_objects_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asarray([{"a": 1}], object))
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04broken")
    for name in ("a.npy", "b.npz", "gone.npz"):
        with pytest.raises(InputError, match="can't be read as numpy arrays"):
            _task().preprocess([tmp_path / name])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"z": [1, 2, 3]}, "no input is called 'z'"),
        ({}, "input 'x' is missing"),
        ({"x": [1, 2]}, "shape .1, 2.; the model takes"),
        ({"x": [[1, 2, 3], [1]]}, "is ragged"),
        ({"x": ["a", "b", "c"]}, "has dtype <U1; the model takes float32"),
        (b"bytes", "a file's content is not a set of named arrays"),
    ],
)
def test_arrays_that_the_model_does_not_take_are_refused(item: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _task().preprocess([item])


def test_fractions_are_not_cut_to_integers() -> None:
    task = TensorTask(TensorSection(), signature({"x": ("uint8", ("n", 1))}, {"y": ("float32", ("n",))}))
    assert task.preprocess([{"x": [3]}]).inputs["x"].dtype == np.uint8
    with pytest.raises(InputError, match="dtype float64; the model takes uint8"):
        task.preprocess([{"x": [0.5]}])
    with pytest.raises(InputError, match="values outside of uint8"):
        task.preprocess([{"x": [300]}])


def test_text_passes_through() -> None:
    task = TensorTask(TensorSection(), signature({"x": ("string", ("n",))}, {"y": ("string", ("n",))}))
    batch = task.preprocess([{"x": ["hello"]}])
    (answer,) = task.postprocess({"y": np.asarray(["hi"], object)}, batch)
    assert answer["outputs"]["y"] == {"dtype": "string", "shape": [1], "data": ["hi"]}
    assert set(task.agreement([answer], [answer]).figures.values()) == {0.0}


def test_distances_are_the_worst_of_all_outputs() -> None:
    task = _task()
    figures = task.agreement(_answers(task, [1, 4]), _answers(task, [1, 5])).figures
    assert figures == {"max_abs_diff": 1.0, "max_rel_diff": 0.25}
    assert set(task.agreement(_answers(task, [0, 0]), _answers(task, [0, 0])).figures.values()) == {0.0}


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_the_same_value_that_is_not_finite_agrees_and_the_rest_is_measured(special: float) -> None:
    task = _task()
    before = _answers(task, [special, 4])
    assert set(task.agreement(before, before).figures.values()) == {0.0}
    assert task.agreement(before, _answers(task, [special, 5])).figures == {"max_abs_diff": 1.0, "max_rel_diff": 0.25}


@pytest.mark.parametrize("other", [np.nan, np.inf, -np.inf, 1])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 1])
def test_any_other_value_that_is_not_finite_is_infinitely_far(special: float, other: float) -> None:
    task = _task()
    agreement = task.agreement(_answers(task, [special, 4]), _answers(task, [other, 4]))
    wanted = 0.0 if str(special) == str(other) else np.inf
    assert agreement.figures == {"max_abs_diff": wanted, "max_rel_diff": wanted}
    assert bool(agreement.beyond(task.tolerance)) == bool(wanted)


def test_numbers_too_far_apart_for_a_float_are_infinitely_far() -> None:
    far = measure_distance(np.asarray([1.7e308]), np.asarray([-1.7e308]))
    assert far == (np.inf, np.inf)
    assert measure_distance(np.asarray([1.0]), np.asarray(["one"], object)) == (np.inf, np.inf)


def test_arrays_of_a_file_or_alone_get_the_names_of_the_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.zeros((1, 3), np.float32))
    np.savez(tmp_path / "c.npz", z=np.zeros((1, 3), np.float32))
    assert name_arrays(tmp_path / "b.npy", MODEL, name="b")["x"].shape == (1, 3)
    with pytest.raises(InputError, match=r"^sample c: no input is called 'z'"):
        name_arrays(tmp_path / "c.npz", MODEL, name="sample c")


def test_other_shapes_are_infinitely_far() -> None:
    task = _task()
    other = [{"outputs": {"y": {"dtype": "float32", "shape": [1, 3], "data": [[1, 2, 3]]}}}]
    assert task.agreement(_answers(task, [1, 2]), other).figures["max_abs_diff"] == float("inf")


def test_accuracy_and_rmse_follow_from_the_kind_of_truth() -> None:
    task = _task()
    answers = _answers(task, [1, 4], [3, 0])
    assert task.measure(answers, [1, 1], None).value == 0.5
    measured = task.measure(answers, [[[1, 4]], [[3, 2]]], None)
    assert measured.metric == "rmse" and not measured.higher_is_better
    assert measured.value == pytest.approx(1.0)
    assert measured.resampled(np.asarray([[0, 0], [1, 1]])) == pytest.approx([0.0, np.sqrt(2)])
    with pytest.raises(ConfigError, match="no metric 'map'"):
        task.measure(answers, [1, 1], "map")
