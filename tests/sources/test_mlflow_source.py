"""What MLflow 3.17.2 wrote lies in mlflow_files; the models beside it are made here, by their own libraries."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sources.test_keras_source import write_keras

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.plugins import find, runtime_for
from ferryman.sources.detect import digest_source, open_source
from ferryman.sources.mlflow import MLflowSource
from ferryman.tasks.guess import guess_task

FILES = Path(__file__).parent / "mlflow_files"
COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]

pytest.importorskip("yaml", reason="NOT TESTED: the extra mlflow is not installed")


def folder_of(kind: str, folder: Path, **edits: str) -> Path:
    """Give a folder with the MLmodel file that MLflow wrote of one kind; keywords are replaced by their values."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (FILES / f"{kind}.yaml").read_text(encoding="utf-8")
    for before, after in edits.items():
        assert before in text
        text = text.replace(before, after)
    (folder / "MLmodel").write_text(text, encoding="utf-8")
    return folder


def opened(folder: Path, workspace: Path, *, trust: bool = False) -> Artifact:
    return open_source(folder, ModelSection(name="model", source=str(folder), trust=trust), workspace)


def table() -> tuple[Any, Any]:
    pandas = pytest.importorskip("pandas")
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    return pandas.DataFrame(rows, columns=COLUMNS), (rows[:, 0] + rows[:, 1] > 0).astype(np.int64) + (rows[:, 2] > 1)


def _sklearn(file: Path) -> Any:
    model = pytest.importorskip("sklearn.linear_model").LogisticRegression().fit(*table())
    if file.suffix == ".skops":
        pytest.importorskip("skops.io").dump(model, file)
    else:
        pytest.importorskip("joblib").dump(model, file)
    return model


def _xgboost(file: Path) -> Any:
    model = pytest.importorskip("xgboost").XGBClassifier(n_estimators=3, max_depth=2).fit(*table())
    model.save_model(file)
    return model


def _lightgbm(file: Path) -> Any:
    model = pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=3, verbose=-1).fit(*table())
    if file.suffix == ".skops":
        pytest.importorskip("skops.io").dump(model, file)
    else:
        model.booster_.save_model(file)
    return model


def _catboost(file: Path) -> Any:
    model = pytest.importorskip("catboost").CatBoostClassifier(iterations=3, verbose=False, allow_writing_files=False)
    model.fit(*table())
    model.save_model(str(file))
    return model


@pytest.mark.parametrize(
    ("kind", "file", "make", "format_name"),
    [
        ("sklearn", "model.skops", _sklearn, "sklearn"),
        ("sklearn_pickle", "model.pkl", _sklearn, "sklearn"),
        ("xgboost", "model.ubj", _xgboost, "xgboost"),
        ("lightgbm", "model.lgb", _lightgbm, "lightgbm"),
        ("lightgbm_estimator", "model.skops", _lightgbm, "lightgbm"),
        ("catboost", "model.cb", _catboost, "catboost"),
    ],
)
def test_a_logged_model_of_tables_answers_as_its_own_library_and_knows_its_columns(
    kind: str, file: str, make: Callable[[Path], Any], format_name: str, tmp_path: Path
) -> None:
    model = make(folder_of(kind, tmp_path / "model") / file)
    artifact = opened(tmp_path / "model", tmp_path / "work", trust=kind in ("sklearn_pickle", "lightgbm_estimator"))
    assert artifact.format == format_name
    rows, _ = table()
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    given = session.infer({"features": rows.to_numpy()})["probabilities"]
    session.close()
    np.testing.assert_allclose(given, model.predict_proba(rows), atol=1e-5)
    guess = guess_task(artifact, folder=tmp_path)
    assert guess.spec_toml["kind"] == "tabular"
    assert guess.spec_toml["columns"] == COLUMNS
    assert any("petal width: float" in reason for reason in guess.reasons)


def test_pickles_inside_need_trust(tmp_path: Path) -> None:
    _sklearn(folder_of("sklearn_pickle", tmp_path / "model") / "model.pkl")
    with pytest.raises(SourceError, match="is a pickle") as caught:
        opened(tmp_path / "model", tmp_path)
    assert "trust = true" in caught.value.hint


def test_an_onnx_model_and_an_exported_program_are_opened_by_their_own_sources(
    tmp_path: Path, linear_onnx: Any
) -> None:
    pytest.importorskip("torch")
    from tests.conformance.making import make

    folder = folder_of("onnx", tmp_path / "onnx")
    (folder / "model.onnx").write_bytes(linear_onnx.SerializeToString())
    with pytest.raises(SourceError, match="names 4 columns; the model takes 3"):
        opened(folder, tmp_path)
    program = make("torch-export", tmp_path / "made").path
    folder = folder_of("pytorch", tmp_path / "torch")
    (folder / "data").mkdir()
    shutil.copy(program, folder / "data" / "model.pt2")
    assert opened(folder, tmp_path).format == "torch-export"


def test_a_keras_file_below_data_is_found(tmp_path: Path) -> None:
    folder = folder_of("onnx", tmp_path / "model", **{"  onnx:": "  keras:", "    data: model.onnx": "    data: data"})
    (folder / "data").mkdir()
    lambda_layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "code"}}
    write_keras(folder / "data" / "model.keras", lambda_layer)
    if not find("sources", "keras").is_available:
        pytest.skip("NOT TESTED: no toolchain tensorflow: ferryman toolchain add tensorflow")
    with pytest.raises(SourceError, match="layer 'code' is a Lambda"):
        opened(folder, tmp_path)


def test_python_code_that_answers_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"python_function model only \(mlflow.pyfunc.model\)") as caught:
        opened(folder_of("pyfunc", tmp_path / "model"), tmp_path, trust=True)
    assert "sklearn" in caught.value.hint


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"  xgboost:": "  spark:"}, "has the flavours python_function, spark"),
        ({"    data: model.ubj\n    model_class": "    model_class"}, "does not say where its model lies"),
        (
            {"    data: model.ubj\n    model_class": "    data: ../other.ubj\n    model_class"},
            "lies outside of its folder",
        ),
        ({"    data: model.ubj\n    model_class": "    data: gone.ubj\n    model_class"}, "lacks 'gone.ubj'"),
        ({'"float", "name": "sepal width", "required": true}, {"type": ': ""}, "names 3 columns; the model takes 4"),
        ({'[{"type": "float"': '[{"type": "string"'}, "column 'sepal length' is string, but the model takes float32"),
        ({"inputs: '[": "inputs: '[["}, "its signature is no JSON"),
        ({"    data: model.ubj\n    model_class": "    data: 1" + "0" * 5000 + "\n    model_class"}, "can't be read"),
        ({"flavors:": "flavors: [] #"}, "lists no flavours|can't be read"),
    ],
)
def test_what_does_not_fit_together_is_refused(edits: dict[str, str], words: str, tmp_path: Path) -> None:
    folder = folder_of("xgboost", tmp_path / "model", **edits)
    _xgboost(folder / "model.ubj")
    with pytest.raises(SourceError, match=words) as caught:
        opened(folder, tmp_path)
    assert caught.value.hint


def _multiplied(link: str) -> str:
    """Write eight levels of nine aliases each: 43 million values, if somebody wrote them out."""
    lines = ["a0: &a0 {x: y}"]
    lines += [f"a{n}: &a{n} {link.format(', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("link", "flavors"),
    [
        ("[{}]", "flavors: {python_function: *a8}"),
        ("[{}]", "flavors: {python_function: {loader_module: *a8}}"),
        ("{{<<: [{}]}}", "flavors: {python_function: *a8}"),
        ("[{}]", f"flavors: {{python_function: {{loader_module: {'m' * 100_000}}}}}"),
        ("[{}]", f"flavors: {{onnx: {{data: {'m' * 100_000}}}}}"),
        ("[{}]", f"flavors: {{{'m' * 1000}: 1, {'n' * 1000}: 2}}"),
        ("[{}]", 'flavors: {onnx: {data: "a\\0b"}}'),
    ],
)
def test_a_description_that_multiplies_itself_is_refused_in_few_words(link: str, flavors: str, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(f"{_multiplied(link)}\n{flavors}\n", encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        opened(tmp_path, tmp_path)
    assert len(str(caught.value)) < 1200


def test_every_file_of_the_folder_counts_for_the_cache(tmp_path: Path) -> None:
    folder = folder_of("xgboost", tmp_path / "model")
    _xgboost(folder / "model.ubj")
    section = ModelSection(name="m", source="model")
    before = digest_source(folder, section, tmp_path)
    assert MLflowSource().recognises(folder)
    text = (folder / "MLmodel").read_text(encoding="utf-8")
    (folder / "MLmodel").write_text(text.replace("petal width", "petal girth"), encoding="utf-8")
    assert digest_source(folder, section, tmp_path) != before
