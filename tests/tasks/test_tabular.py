from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from ferryman.core.errors import ConfigError, DataError, InputError
from ferryman.core.task import Answer
from ferryman.tasks.row_metrics import measure_labels, measure_values
from ferryman.tasks.tabular import TabularSpec, TabularTask, fill_columns, fill_missing
from tests.tasks.making import signature

MATRIX = signature(
    {"features": ("float32", ("n", 2))}, {"label": ("int64", ("n",)), "probabilities": ("float32", ("n", 2))}
)
COLUMNS = signature(
    {"age": ("float32", ("n", 1)), "city": ("string", ("n", 1)), "visits": ("int64", ("n", 1))},
    {"prediction": ("float32", ("n", 1))},
)


def _task(**settings_given: Any) -> TabularTask:  # any key of the section
    return TabularTask(TabularSpec(columns=("a", "b"), **settings_given), MATRIX)


def _columns_task() -> TabularTask:
    return TabularTask(TabularSpec(), COLUMNS)


def test_rows_become_a_matrix_in_the_order_of_the_columns() -> None:
    inputs = _task().preprocess([{"b": 2, "a": 1.5}, {"a": "3", "b": True}]).inputs
    assert inputs["features"].tolist() == [[1.5, 2.0], [3.0, 1.0]] and inputs["features"].dtype == np.float32


def test_missing_numbers_become_nan() -> None:
    values = _task().preprocess([{"a": None, "b": " "}]).inputs["features"]
    assert np.isnan(values.astype(np.float64)).all()


def test_each_column_can_have_an_input_of_its_own() -> None:
    inputs = _columns_task().preprocess([{"age": 3, "city": "Basel", "visits": "4"}]).inputs
    assert inputs["age"].tolist() == [[3.0]]
    assert inputs["city"].tolist() == [["Basel"]] and inputs["city"].dtype == object
    assert inputs["visits"].tolist() == [[4]] and inputs["visits"].dtype == np.int64


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"age": "old", "city": "a", "visits": 1}, "row 2, column 'age': 'old' is not a number"),
        ({"age": [1], "city": "a", "visits": 1}, "row 2, column 'age': .1. is not a number"),
        ({"age": 1e39, "city": "a", "visits": 1}, "row 2, column 'age': 1e.39 is too large"),
        ({"age": "inf", "city": "a", "visits": 1}, "row 2, column 'age': inf is too large"),
        ({"age": 1, "city": "a", "visits": None}, "row 2, column 'visits' is empty"),
        ({"age": 1, "city": "a", "visits": 1.5}, "1.5 is not a whole number"),
        ({"age": 1, "city": "a", "visits": 2**70}, "doesn't fit int64"),
        ({"age": 1, "city": {}, "visits": 1}, "column 'city': what it holds is neither text nor a number"),
        ({"age": 1, "city": "a"}, "row 2 lacks column 'visits'"),
        ({"age": 1, "city": "a", "visits": 1, "sex": 1}, "row 2 has a column 'sex'"),
        ([1, 2, 3], "row 2 is a list"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(row: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _columns_task().preprocess([{"age": 1, "city": "a", "visits": 1}, row])


def test_a_classification_answers_with_a_label_and_probabilities() -> None:
    task = _task(labels=("down", "up"))
    batch = task.preprocess([{"a": 1, "b": 2}])
    outputs: Any = {"label": np.asarray([1]), "probabilities": np.asarray([[0.25, 0.75]], np.float32)}
    assert task.postprocess(outputs, batch) == [{"label": "up", "probabilities": {"down": 0.25, "up": 0.75}}]


def test_one_probability_a_row_is_that_of_the_second_label() -> None:
    model = signature({"f": ("float32", ("n", 2))}, {"probabilities": ("float32", ("n", 1))})
    task = TabularTask(TabularSpec(columns=("a", "b"), labels=("no", "yes")), model)
    answers = task.postprocess({"probabilities": np.asarray([[0.75]])}, task.preprocess([{"a": 1, "b": 2}]))
    assert answers == [{"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}}]


def test_a_regression_answers_with_a_value() -> None:
    task = _columns_task()
    batch = task.preprocess([{"age": 1, "city": "a", "visits": 1}] * 2)
    assert task.postprocess({"prediction": np.asarray([[1.5], [2.5]])}, batch) == [{"value": 1.5}, {"value": 2.5}]


@pytest.mark.parametrize(
    ("settings_given", "message"),
    [
        ({"columns": ("a",)}, "columns has 1 names, but the model's input 'features'"),
        ({"labels": ("a", "b", "c")}, "but there are 3 labels"),
        ({"outputs": {"label": "gone"}}, "outputs.label = 'gone' is no output"),
    ],
)
def test_a_section_that_does_not_fit_the_model_is_refused(settings_given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TabularTask(TabularSpec.model_validate({"kind": "tabular", **settings_given}), MATRIX)


def _labels(*shares: float) -> list[Answer]:
    return [{"label": str(int(share > 0.5)), "probabilities": {"0": 1 - share, "1": share}} for share in shares]


def test_equal_answers_agree_and_changed_ones_do_not() -> None:
    task = _task()
    assert set(task.agreement(_labels(0.2, 0.9), _labels(0.2, 0.9)).figures.values()) == {0.0}
    figures = task.agreement(_labels(0.4, 0.9), _labels(0.6, 0.9)).figures
    assert figures["label_changed"] == 0.5
    assert figures["score_shift"] == pytest.approx(0.1) and figures["max_score_diff"] == pytest.approx(0.2)
    assert _columns_task().agreement([{"value": 2.0}], [{"value": 2.5}]).figures["max_rel_diff"] == 0.25


def test_a_shift_is_measured_only_where_there_are_probabilities() -> None:
    task = _task()
    assert task.agreement(_labels(0.2), _labels(0.2)).figures["score_shift"] == 0
    without: list[Answer] = [{"label": "0", "probabilities": {}}]
    other: list[Answer] = [{"label": "1", "probabilities": {}}]
    for agreement in (task.agreement(without, without), _columns_task().agreement([{"value": 2.0}], [{"value": 2.0}])):
        assert "score_shift" not in agreement.figures and "score_bias" not in agreement.figures
        assert agreement.beyond(task.tolerance) == {}
    assert task.agreement(without, other).beyond(task.tolerance) == {"label_changed": 1.0}
    assert "max_rel_diff" in _columns_task().agreement([{"value": 2.0}], [{"value": 2.1}]).beyond(task.tolerance)


def test_the_shift_of_a_label_without_a_probability_of_its_own_is_that_of_the_most_probable_class() -> None:
    before: list[Answer] = [{"label": "cat", "probabilities": {"0": 0.3, "1": 0.7}}]
    after: list[Answer] = [{"label": "cat", "probabilities": {"0": 0.4, "1": 0.6}}]
    assert _task().agreement(before, after).figures["score_shift"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("value", "distance"), [(float("nan"), 0.0), (float("inf"), float("inf")), (1.0, float("inf"))]
)
def test_only_the_same_value_that_is_not_finite_agrees(value: float, distance: float) -> None:
    figures = _columns_task().agreement([{"value": float("nan")}, {"value": 1.0}], [{"value": value}, {"value": 1.0}])
    assert figures.figures["max_rel_diff"] == distance


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(4, 60))
def test_metrics_of_labels_equal_those_of_scikit_learn(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    shares = np.round(rng.uniform(size=count), 1)
    truths = [0, 1, *rng.integers(0, 2, count - 2).tolist()]
    answers = _labels(*shares.tolist())
    measured = measure_labels(answers, truths, "auc", None)
    given_labels = [int(answer["label"]) for answer in answers]
    assert measured.value == pytest.approx(metrics.roc_auc_score(truths, shares))
    assert measured.figures["accuracy"] == pytest.approx(metrics.accuracy_score(truths, given_labels))
    assert measured.figures["f1"] == pytest.approx(metrics.f1_score(truths, given_labels, average="macro"))
    positive = measure_labels(answers, truths, "f1", "1").value
    assert positive == pytest.approx(metrics.f1_score(truths, given_labels, zero_division=0.0))


def test_auc_of_three_labels_is_the_mean_of_one_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 40)
    truths = ["a", "b", "c", *rng.choice(["a", "b", "c"], 37).tolist()]
    answers = [{"label": "abc"[row.argmax()], "probabilities": dict(zip("abc", row, strict=True))} for row in shares]
    wanted = metrics.roc_auc_score(truths, shares, multi_class="ovr", labels=["a", "b", "c"])
    assert measure_labels(answers, truths, "auc", None).value == pytest.approx(wanted)


def test_metrics_of_values_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    given_values, truths = rng.normal(size=30), rng.normal(size=30)
    answers = [{"value": value} for value in given_values.tolist()]
    figures = measure_values(answers, truths.tolist(), "rmse").figures
    assert figures["rmse"] == pytest.approx(metrics.root_mean_squared_error(truths, given_values))
    assert figures["mae"] == pytest.approx(metrics.mean_absolute_error(truths, given_values))
    assert figures["r2"] == pytest.approx(metrics.r2_score(truths, given_values))


@pytest.mark.parametrize("metric", ["accuracy", "f1", "auc"])
def test_a_resample_of_rows_equals_measuring_them_anew(metric: str) -> None:
    rng = np.random.default_rng(1)
    answers, truths = _labels(*rng.uniform(size=30).tolist()), rng.integers(0, 2, 30).tolist()
    indices = rng.integers(0, 30, (5, 30))
    wanted = [
        measure_labels([answers[i] for i in row], [truths[i] for i in row], metric, None).value for row in indices
    ]
    np.testing.assert_allclose(measure_labels(answers, truths, metric, None).resampled(indices), wanted, atol=1e-12)


def test_truths_from_tables_match_labels_of_numbers() -> None:
    assert measure_labels(_labels(0.9, 0.1), ["1.0", 0.0], "accuracy", None).value == 1.0


def test_an_unknown_metric_and_a_truth_that_is_no_number_are_refused() -> None:
    with pytest.raises(ConfigError, match="no metric 'map'"):
        measure_labels(_labels(0.9), ["1"], "map", None)
    with pytest.raises(DataError, match="truth must be a number"):
        measure_values([{"value": 1.0}], ["high"], "rmse")


def test_columns_that_the_model_knows_are_filled_in_and_the_users_own_are_kept() -> None:
    filled = fill_columns(TabularSpec(), ["a", "b"])
    rows = TabularTask(filled, MATRIX).preprocess([{"b": 2, "a": 1}]).inputs["features"]
    assert rows.tolist() == [[1.0, 2.0]]
    assert fill_columns(TabularSpec(columns=("b", "a")), ["a", "b"]).columns == ("b", "a")
    assert fill_columns(TabularSpec(), None).columns is None


def test_a_column_too_many_is_named_as_the_one_to_drop() -> None:
    with pytest.raises(InputError, match="row 1 has a column 'kind'") as caught:
        _task().preprocess([{"a": 1, "b": 2, "kind": 0}])
    assert "drop 'kind'" in caught.value.hint
    with pytest.raises(InputError, match="has a column 'c'") as caught:
        _task().preprocess([{"a": 1, "c": 2}])
    assert "drop" not in caught.value.hint, "it is a name written in another way"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], [1, np.nan]], "row 2, column 'b' is empty"),
        ([[np.inf, 2]], "row 1, column 'a' is infinite"),
    ],
)
def test_a_number_that_is_missing_is_refused_by_row_and_column(rows: list[list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _task().refuse_missing({"features": np.array(rows, np.float32)})


def test_a_missing_number_of_a_column_with_an_input_of_its_own_is_named() -> None:
    inputs = _columns_task().preprocess([{"age": None, "city": "", "visits": 1}]).inputs
    with pytest.raises(InputError, match="row 1, column 'age' is empty"):
        _columns_task().refuse_missing(inputs)


@pytest.mark.parametrize("cell", [None, "", " ", "NaN", "-nan", " +NaN", float("nan"), np.float32("nan")])
def test_a_model_verified_on_empty_cells_takes_them(cell: Any) -> None:
    task = _columns_task()
    filled = {"age": 1, "city": "", "visits": 1}  # an empty text is no missing number
    assert not fill_missing(TabularSpec(), task, [filled]).missing
    assert fill_missing(TabularSpec(), task, [filled, {**filled, "age": cell}]).missing


def test_probabilities_that_are_not_numbers_make_no_label() -> None:
    ports = signature({"x": ("float32", ("n", 2))}, {"probabilities": ("float32", ("n", 2))})
    task = TabularTask(TabularSpec(labels=("no", "yes")), ports)
    batch = task.preprocess([{"a": 1, "b": 2}])
    (answer,) = task.postprocess({"probabilities": np.array([[np.nan, np.nan]], np.float32)}, batch)
    assert answer["label"] is None
