from pathlib import Path

import numpy as np

from ferryman.core.deployment import DataSection, EvaluationSection
from ferryman.core.task import TaskSpec
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.data import read_calibration, read_samples
from ferryman.tasks.tabular import TabularSpec
from ferryman.tasks.tensor import TensorSection
from tests.tasks.making import write_picture


def _digest(folder: Path, spec: TaskSpec, items: str, target: str | None = None, labels: str | None = None) -> str:
    return read_samples(EvaluationSection(items=items, target=target, labels=labels), folder, spec).digest


def test_another_target_column_of_a_table_is_other_data(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,first,second\n1,0,1\n2,1,1\n", encoding="utf-8")
    spec = TabularSpec(columns=("a",))
    first = _digest(tmp_path, spec, "t.csv", "first")
    assert first == _digest(tmp_path, spec, "t.csv", "first") != _digest(tmp_path, spec, "t.csv", "second")


def test_another_target_array_is_other_data(tmp_path: Path) -> None:
    inputs, truths = np.zeros((2, 2), np.float32), np.ones((2, 3), np.float32)
    for name, second in (("d.npz", truths * 2), ("same.npz", truths)):
        np.savez(tmp_path / name, x=inputs, first=truths, second=second)
    assert _digest(tmp_path, TensorSection(), "d.npz", "first") != _digest(tmp_path, TensorSection(), "d.npz", "second")
    first = _digest(tmp_path, TensorSection(), "d.npz", "first")
    assert first == _digest(tmp_path, TensorSection(), "d.npz", "first")


def test_another_class_column_of_a_csv_is_other_data(tmp_path: Path) -> None:
    write_picture(tmp_path / "0.png")
    (tmp_path / "labels.csv").write_text("file,first,second\n0.png,0,1\n", encoding="utf-8")
    digests = {_digest(tmp_path, ClassifySpec(), "*.png", name, "labels.csv") for name in ("first", "second", "first")}
    assert len(digests) == 2


def test_a_renamed_class_folder_is_other_data(tmp_path: Path) -> None:
    for place, name in enumerate(("cat", "dog")):
        write_picture(tmp_path / f"{name}/{place}.png", seed=place)
    labels = ("cat", "dog", "cow")
    before = _digest(tmp_path, ClassifySpec(labels=labels), "*/*.png")
    assert _digest(tmp_path, ClassifySpec(labels=labels), "*/*.png") == before
    (tmp_path / "dog").rename(tmp_path / "cow")
    assert _digest(tmp_path, ClassifySpec(labels=labels), "*/*.png") != before


def test_labels_in_another_order_are_other_data(tmp_path: Path) -> None:
    for place, name in enumerate(("cat", "dog")):
        write_picture(tmp_path / f"{name}/{place}.png", seed=place)
    before = _digest(tmp_path, ClassifySpec(labels=("cat", "dog")), "*/*.png")
    assert _digest(tmp_path, ClassifySpec(labels=("dog", "cat")), "*/*.png") != before


def test_calibration_without_another_column_is_other_data(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    read = [
        read_calibration(
            DataSection(calibration="t.csv", evaluation=EvaluationSection(items="t.csv", target=target)),
            tmp_path,
            TabularSpec(),
        )
        for target in ("a", "b")
    ]
    assert read[0].items != read[1].items and read[0].digest != read[1].digest
