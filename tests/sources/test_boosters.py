"""XGBoost, LightGBM and CatBoost: equal answers from the imported model, missing values too; and what is refused."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
import xgboost
from sklearn import datasets

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.plugins import find
from ferryman.core.signature import Array
from ferryman.core.step import StepContext
from ferryman.sources.detect import open_source

MakeSection = Callable[..., ModelSection]
LIBRARIES = ("xgboost", "lightgbm", "catboost")
LOADERS = {
    "two classes": datasets.load_breast_cancer,
    "three classes": datasets.load_iris,
    "regression": datasets.load_diabetes,
}


def with_gaps(rows: Array) -> Array:
    gaps = np.array(rows, dtype=np.float32)
    gaps[np.random.default_rng(0).random(gaps.shape) < 0.1] = np.nan
    return gaps


def save(library: str, folder: Path, rows: Array, target: Array) -> Path:
    """Train a small model of 20 trees and save it in the library's own format."""
    is_regression = target.dtype.kind == "f"
    if library == "xgboost":
        kind = xgboost.XGBRegressor if is_regression else xgboost.XGBClassifier
        kind(n_estimators=20, n_jobs=1).fit(rows, target).save_model(folder / "model.json")
        return folder / "model.json"
    if library == "lightgbm":
        kind = lightgbm.LGBMRegressor if is_regression else lightgbm.LGBMClassifier
        model = kind(n_estimators=20, verbose=-1, n_jobs=1).fit(rows, target)
        model.booster_.save_model(folder / "model.txt")
        return folder / "model.txt"
    kind = catboost.CatBoostRegressor if is_regression else catboost.CatBoostClassifier
    model = kind(iterations=20, verbose=0, allow_writing_files=False, thread_count=1).fit(rows, target)
    model.save_model(str(folder / "model.cbm"))
    return folder / "model.cbm"


def import_to_onnx(source: Artifact, workspace: Path) -> Artifact:
    imported: Artifact = find("steps", f"{source.format}-to-onnx").require()().run(source, StepContext(workspace))
    return imported


def compare(source: Artifact, imported: Artifact, rows: Array) -> None:
    wanted = find("runtimes", source.format).require()().load(source, threads=1).infer({"features": rows})
    session = onnxruntime.InferenceSession(imported.path, providers=["CPUExecutionProvider"])
    got = dict(
        zip([output.name for output in session.get_outputs()], session.run(None, {"features": rows}), strict=True)
    )
    assert list(got) == list(wanted)
    for name, tensor in wanted.items():
        assert (got[name].shape, got[name].dtype) == (tensor.shape, tensor.dtype)
        if name == "label":
            assert (got[name] == tensor).all()
        else:
            np.testing.assert_allclose(got[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("data", LOADERS)
@pytest.mark.parametrize("trained_with_gaps", [False, True])
def test_a_model_answers_the_same_on_every_row_with_and_without_gaps(
    library: str, data: str, trained_with_gaps: bool, tmp_path: Path, section: MakeSection
) -> None:
    table = LOADERS[data]()
    rows = table.data.astype(np.float32)
    path = save(library, tmp_path, with_gaps(rows) if trained_with_gaps else rows, table.target)
    source = open_source(path, section(), tmp_path)
    assert source.format == library
    names = [spec.name for spec in source.signature.outputs]
    assert names == (["prediction"] if data == "regression" else ["label", "probabilities"])
    imported = import_to_onnx(source, tmp_path / "first")
    assert imported.digest == import_to_onnx(source, tmp_path / "second").digest
    assert [child.name for child in (tmp_path / "first").iterdir()] == ["model.onnx"]
    onnx.checker.check_model(str(imported.path), full_check=True)
    compare(source, imported, rows)
    compare(source, imported, with_gaps(rows))


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_45_thousand_rows_of_real_data_keep_their_answers(
    library: str, shared_data: Path, tmp_path: Path, section: MakeSection
) -> None:
    with gzip.open(shared_data / "tabular" / "elec.csv.gz", "rt") as stream:
        table = np.array([[float(value) for value in row] for row in list(csv.reader(stream))[1:]])
    rows, target = table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64)
    source = open_source(save(library, tmp_path, rows[::4], target[::4]), section(), tmp_path)
    compare(source, import_to_onnx(source, tmp_path / "step"), rows)


def test_class_names_of_catboost_come_back(tmp_path: Path, section: MakeSection) -> None:
    table = datasets.load_iris()
    names = np.array(["setosa", "versicolor", "virginica"], dtype=object)[table.target]
    path = save("catboost", tmp_path, table.data.astype(np.float32), names)
    source = open_source(path, section(), tmp_path)
    assert source.signature.outputs[0].dtype == "string"
    compare(source, import_to_onnx(source, tmp_path / "step"), table.data.astype(np.float32))


def test_xgboost_reads_ubj_and_softmax_and_stops_at_its_best_iteration(tmp_path: Path, section: MakeSection) -> None:
    table = datasets.load_iris()
    rows = table.data.astype(np.float32)
    options = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    train, test = xgboost.DMatrix(rows[::2], table.target[::2]), xgboost.DMatrix(rows[1::2], table.target[1::2])
    booster = xgboost.train(options, train, 60, evals=[(test, "test")], early_stopping_rounds=3, verbose_eval=False)
    assert booster.best_iteration + 1 < booster.num_boosted_rounds()
    booster.save_model(tmp_path / "model.ubj")
    source = open_source(tmp_path / "model.ubj", section(), tmp_path)
    compare(source, import_to_onnx(source, tmp_path / "step"), rows)
    best = (0, booster.best_iteration + 1)
    expected = booster.predict(xgboost.DMatrix(rows), iteration_range=best)
    answered = find("runtimes", "xgboost").require()().load(source, threads=1).infer({"features": rows})
    assert (answered["label"] == expected).all()


def test_xgboost_feature_names_do_not_matter(tmp_path: Path, section: MakeSection) -> None:
    table = datasets.load_iris()
    rows = table.data.astype(np.float32)
    data = xgboost.DMatrix(rows, table.target, feature_names=["sepal l", "sepal w", "petal l", "petal w"])
    options = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    xgboost.train(options, data, 5).save_model(tmp_path / "model.json")
    source = open_source(tmp_path / "model.json", section(), tmp_path)
    compare(source, import_to_onnx(source, tmp_path / "step"), rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"booster": "gblinear"}, "gblinear"),
        ({"objective": "count:poisson"}, "count:poisson"),
        ({"booster": "dart"}, "dart"),
    ],
)
def test_xgboost_models_without_a_way_to_onnx_are_refused(
    options: dict[str, Any], words: str, tmp_path: Path, section: MakeSection
) -> None:
    data = xgboost.DMatrix(np.arange(8.0).reshape(4, 2), np.arange(4.0))
    xgboost.train({"nthread": 1, "verbosity": 0, **options}, data, 2).save_model(tmp_path / "model.json")
    with pytest.raises(SourceError, match=words):
        open_source(tmp_path / "model.json", section(), tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objective": "poisson"}, "poisson"),
        ({"linear_tree": True}, "linear leaves"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "random forest"),
        ({"categories": [0]}, "categorical splits"),
    ],
)
def test_lightgbm_models_without_a_way_to_onnx_are_refused(
    options: dict[str, Any], words: str, tmp_path: Path, section: MakeSection
) -> None:
    rows = np.stack([np.arange(200) % 4, np.arange(200)], axis=1).astype(float)
    settings = {"objective": "regression", "verbosity": -1, "min_data_per_group": 1, "cat_smooth": 0, **options}
    target = (rows[:, 0] == 2) * 5.0 + rows[:, 1] / 100
    categories = settings.pop("categories", "auto")
    table = lightgbm.Dataset(rows, target, params=settings, categorical_feature=categories)
    lightgbm.train(settings, table, 3).save_model(tmp_path / "model.txt")
    with pytest.raises(SourceError, match=words):
        open_source(tmp_path / "model.txt", section(), tmp_path)


def test_catboost_models_with_categories_are_refused(tmp_path: Path, section: MakeSection) -> None:
    rows = [[index % 3, float(index)] for index in range(30)]
    model = catboost.CatBoostRegressor(iterations=2, verbose=0, allow_writing_files=False, cat_features=[0])
    model.fit(rows, list(range(30))).save_model(str(tmp_path / "model.cbm"))
    with pytest.raises(SourceError, match="categorical"):
        open_source(tmp_path / "model.cbm", section(), tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_models_that_were_cut_short_are_refused(
    library: str, share: float, tmp_path: Path, section: MakeSection
) -> None:
    table = datasets.load_iris()
    path = save(library, tmp_path, table.data.astype(np.float32), table.target)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SourceError):
        open_source(path, section(), tmp_path)


def test_a_damaged_lightgbm_tree_is_an_error_and_not_a_crash(tmp_path: Path, section: MakeSection) -> None:
    table = datasets.load_iris()
    path = save("lightgbm", tmp_path, table.data.astype(np.float32), table.target)
    text = path.read_text(encoding="utf-8")
    for part, damage in (
        ("num_leaves=", "num_loaves="),
        ("left_child=1", "left_child=0"),
        ("left_child=1", "left_child=900000"),
        ("split_feature=", "split_feature=77 "),
        ("leaf_value=", "leaf_value=much "),
        ("max_feature_idx=3", "max_feature_idx=9"),
    ):
        assert part in text
        path.write_text(text.replace(part, damage, 1), encoding="utf-8")
        with pytest.raises(SourceError, match="no sound LightGBM model"):
            open_source(path, section(), tmp_path)


def test_damaged_training_parameters_of_lightgbm_do_no_harm(tmp_path: Path, section: MakeSection) -> None:
    table = datasets.load_iris()
    rows = table.data.astype(np.float32)
    path = save("lightgbm", tmp_path, rows, table.target)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("end of parameters")] + "en", encoding="utf-8")
    source = open_source(path, section(), tmp_path)
    compare(source, import_to_onnx(source, tmp_path / "step"), rows)


def test_json_that_is_not_xgboost_is_described(tmp_path: Path, section: MakeSection) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"layers": [1, 2, 3]}', encoding="utf-8")
    with pytest.raises(SourceError, match="a JSON document"):
        open_source(path, section(), tmp_path)
    with pytest.raises(SourceError, match="no sound XGBoost model"):
        open_source(path, section(format="xgboost"), tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_names_of_the_features_come_back_and_a_librarys_own_numbers_do_not(
    library: str, tmp_path: Path, section: MakeSection
) -> None:
    pandas = pytest.importorskip("pandas")
    table = datasets.load_iris()
    frame = pandas.DataFrame(table.data, columns=["sepal_l", "sepal_w", "petal_l", "petal_w"])
    named = open_source(save(library, tmp_path, frame, table.target), section(), tmp_path)
    assert named.loader["feature_names"] == list(frame.columns)
    numbered = open_source(save(library, tmp_path, table.data, table.target), section(), tmp_path)
    assert "feature_names" not in numbered.loader
