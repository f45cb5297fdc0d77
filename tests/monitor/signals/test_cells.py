"""What is told of a table's rows: cells, what is missing, what the baseline never saw."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ferryman.core.record import Value
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.core.task import bind_task
from ferryman.monitor.baseline import Baseline, make_baseline
from ferryman.monitor.signals.asked import MOST_CHARACTERS
from ferryman.monitor.signals.read import Signals
from ferryman.tasks.tabular import TabularSpec

OUTPUTS = (TensorSpec(name="prediction", dtype="float32", shape=("batch", 1)),)
MATRIX = Signature(inputs=(TensorSpec(name="input", dtype="float32", shape=("batch", 3)),), outputs=OUTPUTS)
COLUMNS = Signature(
    inputs=(
        TensorSpec(name="age", dtype="float32", shape=("batch", 1)),
        TensorSpec(name="town", dtype="string", shape=("batch", 1)),
        TensorSpec(name="visits", dtype="int64", shape=("batch", 1)),
    ),
    outputs=OUTPUTS,
)
NAMED = TabularSpec(columns=("width", "height", "weight"))


def read(
    spec: TabularSpec, signature: Signature, rows: Sequence[dict[str, Any]], baseline: Baseline | None = None
) -> dict[str, list[Value]]:
    batch = bind_task(spec, signature).preprocess(rows)
    signals = Signals(spec, signature, baseline)
    found = signals.read(
        inputs=batch.inputs, items=rows, contexts=batch.contexts, answers=None, outputs=None, rows=len(rows)
    )
    assert not signals.unread
    return found


def test_each_cell_is_a_signal_and_missing_ones_are_counted() -> None:
    found = read(NAMED, MATRIX, [{"width": 1, "height": 2.5, "weight": None}, {"width": 4, "height": 5, "weight": 6}])
    assert found["cell.width"] == [1.0, 4.0]
    assert found["cell.height"] == [2.5, 5.0]
    assert math.isnan(found["cell.weight"][0])  # type: ignore[arg-type]  # a number
    assert found["row.missing"] == [pytest.approx(1 / 3), 0.0]


def test_tensors_of_a_caller_give_the_same_as_rows() -> None:
    rows = [{"width": 1.0, "height": 2.0, "weight": 3.0}]
    by_tensor = Signals(NAMED, MATRIX).read(
        inputs={"input": np.array([[1, 2, 3]], np.float32)}, items=None, contexts=(), answers=None, outputs=None, rows=1
    )
    assert by_tensor == read(NAMED, MATRIX, rows)


def test_texts_are_categories_and_whole_numbers_are_numbers() -> None:
    found = read(
        TabularSpec(), COLUMNS, [{"age": 30, "town": "Bergen", "visits": 2}, {"age": 31, "town": "", "visits": 0}]
    )
    assert found["cell.town"] == ["Bergen", None]
    assert found["cell.visits"] == [2.0, 0.0]
    assert found["row.missing"] == [0.0, pytest.approx(1 / 3)]


def test_columns_without_names_are_numbered() -> None:
    found = read(TabularSpec(), MATRIX, [{"a": 1, "b": 2, "c": 3}])
    assert set(found) == {"cell.0", "cell.1", "cell.2", "row.missing"}


def test_only_filled_rows_of_a_padded_batch_count() -> None:
    inputs: dict[str, Array] = {"input": np.arange(12, dtype=np.float32).reshape(4, 3)}
    found = Signals(NAMED, MATRIX).read(inputs=inputs, items=None, contexts=(), answers=None, outputs=None, rows=2)
    assert found["cell.width"] == [0.0, 3.0]


def test_what_the_baseline_never_saw_is_told_by_row() -> None:
    baseline = make_baseline({"cell.age": [20.0, 40.0, 60.0], "cell.town": ["Oslo", "Bergen", "Oslo"]})
    rows: list[dict[str, Any]] = [
        {"age": 30, "town": "Oslo", "visits": 1},
        {"age": 99, "town": "Oslo", "visits": 1},
        {"age": 20, "town": "Atlantis", "visits": 1},
        {"age": None, "town": "", "visits": 1},
    ]
    found = read(TabularSpec(), COLUMNS, rows, baseline)
    assert found["row.out_of_range"] == [0.0, 1.0, 0.0, 0.0]
    assert found["row.new_category"] == [0.0, 0.0, 1.0, 0.0]


def test_the_ends_of_a_baseline_are_in_its_range_through_a_file() -> None:
    least, most = 0.003467, 0.422915  # the float32 of each is above it
    rows = [{"width": least, "height": most, "weight": float(at)} for at in range(8)]
    made = make_baseline(read(NAMED, MATRIX, rows))
    stored = Baseline.from_json(json.loads(json.dumps(made.to_json())))
    assert read(NAMED, MATRIX, rows, stored)["row.out_of_range"] == [0.0] * 8
    assert read(NAMED, MATRIX, [{**rows[0], "width": least * 1.001}], stored)["row.out_of_range"] == [1 / 3]


def test_no_category_is_new_where_the_baseline_does_not_name_all() -> None:
    baseline = make_baseline({"cell.town": [f"town {number}" for number in range(300)]})
    assert "row.new_category" not in read(TabularSpec(), COLUMNS, [{"age": 1, "town": "Oslo", "visits": 1}], baseline)


def test_of_a_wide_table_200_columns_are_watched() -> None:
    wide = Signature(inputs=(TensorSpec(name="input", dtype="float32", shape=("batch", 5000)),), outputs=OUTPUTS)
    values = np.zeros((2, 5000), np.float32)
    values[0, ::2] = np.nan
    found = Signals(TabularSpec(), wide).read(
        inputs={"input": values}, items=None, contexts=(), answers=None, outputs=None, rows=2
    )
    cells = [name for name in found if name.startswith("cell.")]
    assert len(cells) == 200
    assert {"cell.0", "cell.4999"} <= set(cells)
    assert found["row.missing"] == [0.5, 0.0]


def test_huge_texts_become_short_categories_that_stay_apart() -> None:
    long = "x" * 1_000_000
    found = read(TabularSpec(), COLUMNS, [{"age": 1, "town": long + end, "visits": 1} for end in ("a", "b", "a")])
    first, second, third = found["cell.town"]
    assert first == third != second
    assert all(isinstance(town, str) and len(town) <= MOST_CHARACTERS + 9 for town in found["cell.town"])
