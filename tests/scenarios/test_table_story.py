"""A new user's day with a scikit-learn pipeline: from a skops file and a CSV to a served row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.cli.running import ferryman
from tests.scenarios.serving import served

COLUMNS = ["alcohol", "acid", "ash", "alkali"]


@pytest.fixture(scope="module")
def wine() -> tuple[Any, Any, Any]:  # the fitted pipeline (scikit-learn has no types here), rows and classes
    rows, classes = load_wine(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(rows[:, :4], classes)
    return pipeline, rows[:, :4], classes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, wine: tuple[Any, Any, Any]) -> Path:
    folder = tmp_path_factory.mktemp("wine")
    pipeline, rows, classes = wine
    skops.io.dump(pipeline, folder / "wine.skops")
    lines = [",".join([*COLUMNS, "kind"])]
    lines += [
        ",".join([*(repr(float(cell)) for cell in row), str(kind)]) for row, kind in zip(rows, classes, strict=True)
    ]
    (folder / "wine.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    started = ferryman("init", "wine.skops", "--evaluation", "wine.csv", folder=folder)
    assert started.returncode == 0, started.stderr
    text = (folder / "ferryman.toml").read_text(encoding="utf-8")
    (folder / "ferryman.toml").write_text(
        text.replace('kind = "tabular"', 'kind = "tabular"\nlabels = ["0", "1", "2"]')
        + '\n[build]\ncandidates = ["onnx-fp32", "onnx-int8-dynamic"]\n',
        encoding="utf-8",
    )
    built = ferryman("build", folder=folder)
    assert built.returncode == 0, built.stderr + built.stdout
    assert "★ onnx-fp32" in built.stdout
    return folder


def test_the_answers_of_the_bundle_are_the_pipelines_own(home: Path, wine: tuple[Any, Any, Any]) -> None:
    pipeline, rows, _ = wine
    bare = [line.rpartition(",")[0] for line in (home / "wine.csv").read_text(encoding="utf-8").splitlines()]
    (home / "bare.csv").write_text("\n".join(bare) + "\n", encoding="utf-8")
    asked = ferryman("infer", "dist/wine", "bare.csv", "--json", folder=home)
    answers = [json.loads(line)["answer"] for line in asked.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == [str(label) for label in pipeline.predict(rows)]
    got = np.array([[answer["probabilities"][label] for label in ("0", "1", "2")] for answer in answers])
    assert np.abs(got - pipeline.predict_proba(rows)).max() < 1e-5


def test_a_served_row_is_answered_as_the_bundle_answers_it(home: Path) -> None:
    row = json.dumps(dict(zip(COLUMNS, (13.2, 1.78, 2.14, 11.2), strict=True)))
    alone = json.loads(ferryman("infer", "dist/wine", "-", "--json", folder=home, stdin=row).stdout)["answer"]
    with served(home, "dist/wine") as url:
        asked = json.loads(ferryman("infer", url, "-", "--json", folder=home, stdin=row).stdout)["answer"]
    assert asked == alone
    assert asked["label"] == "0"


def test_a_column_that_the_model_does_not_take_is_refused_by_name(home: Path) -> None:
    refused = ferryman("infer", "dist/wine", "wine.csv", folder=home)
    assert refused.returncode == 2
    assert "column 'kind' that the model doesn't take" in refused.stderr


def test_a_row_without_a_column_is_refused_by_name(home: Path) -> None:
    refused = ferryman("infer", "dist/wine", "-", folder=home, stdin='{"alcohol": 1, "acid": 2, "ash": 3}')
    assert refused.returncode == 2
    assert "lacks column 'alkali'" in refused.stderr


def test_what_can_not_be_quantized_says_why_and_harms_nothing(home: Path) -> None:
    told = json.loads(ferryman("inspect", "dist/wine", "--json", folder=home).stdout)["proof"]
    by_name = {candidate["name"]: candidate for candidate in told["candidates"]}
    assert by_name["onnx-fp32"]["status"] == "accepted"
    assert by_name["onnx-fp32"]["accuracy"]["drop"] == 0
    assert by_name["onnx-int8-dynamic"]["status"] == "unavailable"
    assert "nothing to quantize" in by_name["onnx-int8-dynamic"]["reason"]
