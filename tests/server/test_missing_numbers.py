"""Rows with empty cells: refused by name where the model was never verified on such, answered where it was."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from ferryman.core.task import Item
from tests.bundle.making import COLUMNS, bundle_model, make_table_model, save
from tests.server.running import Running, running

_ROW = {"width": 1.0, "height": 2.0, "weight": 0.5}
_EMPTY = "column 'height' is empty (null or NaN)"


def _tensors(*values: object) -> dict[str, Any]:  # JSON
    shape = [len(values) // 3, 3]
    return {"inputs": [{"name": "rows", "shape": shape, "datatype": "FP32", "data": list(values)}]}


def _make_filling(path: Path) -> Path:
    """Write a model that takes 0 where a number is missing: rows float32 [batch, 3] -> probabilities [batch, 2]."""
    return save(
        path,
        [
            helper.make_node("IsNaN", ["rows"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "rows"], ["filled"]),
            helper.make_node("MatMul", ["filled", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        zero=np.float32(0),
        weights=np.array([[1, -1], [0.5, 0.25], [-2, 2]], np.float32),
    )


@pytest.fixture(scope="module")
def takes_missing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve one model that declares empty cells, and one that was verified on one."""
    folder = tmp_path_factory.mktemp("missing")
    task = {"kind": "tabular", "columns": list(COLUMNS), "labels": ["light", "heavy"]}
    model = _make_filling(folder / "filling.onnx")
    rows: list[Item] = [_ROW, {**_ROW, "height": None}]
    plain = make_table_model(folder / "plain")
    declared = bundle_model(folder / "a", plain, {**task, "missing": True}, rows[:1], name="declared")
    shown = bundle_model(folder / "b", model, task, rows, name="shown")
    with running([declared.path, shown.path]) as one:
        yield one


@pytest.mark.parametrize("cell", [None, "", "NaN", "-nan"])
def test_an_empty_cell_is_refused_by_row_and_column(server: Running, cell: object) -> None:
    status, answer = server.infer("table", {"rows": [_ROW, {**_ROW, "height": cell}]})
    assert status == 400
    assert answer["error"].startswith(f"row 2, {_EMPTY}") and "missing = true" in answer["error"]


@pytest.mark.parametrize(
    ("value", "words"), [("NaN", f"row 2, {_EMPTY}"), ("Infinity", "row 2, column 'height' is infinite")]
)
def test_a_tables_tensor_with_a_number_that_is_none_is_refused_by_row_and_column(
    server: Running, value: str, words: str
) -> None:
    status, answer = server.infer("table", _tensors(1, 2, 3, 4, value, 6))
    assert (status, answer["error"][: len(words)]) == (400, words)


def test_a_wrong_cell_in_a_row_beyond_one_call_of_the_engine_is_named_by_its_own_row(server: Running) -> None:
    rows = [dict(_ROW) for _ in range(1000)]
    rows[700]["height"] = float("1e39")
    assert server.infer("table", {"rows": rows})[1]["error"].startswith("row 701, column 'height'")


def test_a_model_that_was_verified_on_empty_cells_answers_them(takes_missing: Running) -> None:
    status, answer = takes_missing.infer("shown", {"rows": [{**_ROW, "height": None}]})
    assert (status, answer["answers"][0]["label"]) == (200, "light")
    assert takes_missing.infer("shown", _tensors(1, "NaN", 3))[0] == 200


def test_a_model_that_declares_empty_cells_but_makes_no_numbers_of_them_gives_no_label(takes_missing: Running) -> None:
    status, answer = takes_missing.infer("declared", {"rows": [{**_ROW, "height": None}]})
    assert (status, answer["answers"]) == (200, [{"label": None, "probabilities": {"light": "NaN", "heavy": "NaN"}}])


def test_tensors_without_a_meaning_carry_what_the_protocol_carries(server: Running) -> None:
    tensor = {"name": "values", "shape": [1, 3], "datatype": "FP32", "data": ["NaN", "-Infinity", 1]}
    status, answer = server.infer("affine", {"inputs": [tensor]})
    assert (status, answer["outputs"][0]["data"]) == (200, ["NaN", "-Infinity", 3.0])


def test_a_wrong_row_does_not_spoil_the_rows_of_others(server: Running) -> None:
    asked = [_tensors(1, "NaN" if place % 5 == 0 else 2, 3) for place in range(60)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda request: server.infer("table", request), asked))
    assert [status for status, _ in answers] == [400 if place % 5 == 0 else 200 for place in range(60)]
    good = np.array([answer["outputs"][0]["data"] for status, answer in answers if status == 200])
    np.testing.assert_allclose(good, np.broadcast_to(good[0], good.shape), rtol=1e-5)
