"""Models of tables, trained here in seconds, each saved in its library's own format."""

import csv
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.cases.project import Case, Settings, shared_folder
from numpy.typing import NDArray

Model = Any  # a fitted estimator: the libraries have no types that mypy reads
SEED = 0
_TREES = 30


@dataclass(frozen=True, slots=True)
class Table:
    """Hold a data set: float32 rows, whole-number classes, and where Ferryman reads it from."""

    rows: NDArray[np.float32]
    classes: NDArray[np.int64]
    columns: tuple[str, ...]
    target: str = "class"
    path: str = "table.csv"


def load_table(name: str) -> Table:
    """Give a data set of scikit-learn's, or `elec` (Elec2, 45312 rows) from the shared folder."""
    from sklearn import datasets

    if name == "elec":
        return _load_elec()
    bunch = getattr(datasets, f"load_{name}")()
    columns = tuple(str(column) for column in bunch.feature_names)
    return Table(bunch.data.astype(np.float32), bunch.target.astype(np.int64), columns)


def _load_elec() -> Table:
    folder = shared_folder()
    if folder is None:
        raise FileNotFoundError("elec.csv.gz is in the shared folder; set FERRYMAN_SHARED")
    with gzip.open(folder / "tabular" / "elec.csv.gz", "rt", encoding="utf-8") as stream:
        header, *lines = csv.reader(stream)
    cells = np.array(lines, dtype=np.float64)
    rows, classes = cells[:, :-1].astype(np.float32), cells[:, -1].astype(np.int64)
    return Table(rows, classes, tuple(header[:-1]), path="data/tabular/elec.csv.gz")


def write_table(table: Table, folder: Path) -> None:
    """Write a table as CSV; a float32's own text reads back as the same float32."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.columns, table.target])
    for row, label in zip(table.rows, table.classes, strict=True):
        writer.writerow([*(str(cell) for cell in row), int(label)])
    (folder / table.path).write_text(text.getvalue(), encoding="utf-8")


def fit_logistic() -> Model:
    """Make a pipeline of a scaler and a logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=SEED))


def fit_forest() -> Model:
    """Make a random forest."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(_TREES, random_state=SEED, n_jobs=1)


def fit_histogram() -> Model:
    """Make scikit-learn's histogram gradient boosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=_TREES, random_state=SEED)


def fit_xgboost() -> Model:
    """Make an XGBoost classifier."""
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=_TREES, random_state=SEED, n_jobs=1)


def fit_lightgbm() -> Model:
    """Make a LightGBM classifier."""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=_TREES, random_state=SEED, n_jobs=1, verbose=-1)


def fit_catboost() -> Model:
    """Make a CatBoost classifier."""
    from catboost import CatBoostClassifier

    return CatBoostClassifier(_TREES, random_seed=SEED, thread_count=1, verbose=0, allow_writing_files=False)


def save_model(model: Model, folder: Path) -> str:
    """Save a fitted model as its library does; gives the file's name."""
    library = type(model).__module__.partition(".")[0]
    if library == "xgboost":
        model.save_model(folder / "model.json")
        return "model.json"
    if library == "lightgbm":
        model.booster_.save_model(folder / "model.txt")
        return "model.txt"
    if library == "catboost":
        model.save_model(str(folder / "model.cbm"))
        return "model.cbm"
    from skops.io import dump

    dump(model, folder / "model.skops")
    return "model.skops"


@dataclass(frozen=True, slots=True)
class TableCase:
    """Hold a model of a table: what makes it, and what it is fitted on."""

    name: str
    make: Callable[[], Model]
    data: str

    def fit(self) -> tuple[Model, Table]:
        """Fit the model on every second row; the other rows are as unseen as a user's."""
        table = load_table(self.data)
        return self.make().fit(table.rows[::2], table.classes[::2]), table

    def write(self, folder: Path) -> Settings:
        """Write the model, and the table where it isn't a file of the shared folder."""
        model, table = self.fit()
        if self.data != "elec":
            write_table(table, folder)
        return {
            "model": {"name": self.name, "source": save_model(model, folder)},
            "task": {"kind": "tabular", "columns": list(table.columns)},
            "data": {"evaluation": {"items": table.path, "target": table.target}},
            "contract": {"metric": "accuracy", "max_drop": 0.0, "max_error": 1e-5},
            "build": {"candidates": ["onnx-fp32"]},  # trees have nothing that INT8 or FP16 would make smaller
        }


TABLE_CASES = (
    TableCase("logistic-cancer", fit_logistic, "breast_cancer"),
    TableCase("forest-wine", fit_forest, "wine"),
    TableCase("forest-digits", fit_forest, "digits"),
    TableCase("histogram-wine", fit_histogram, "wine"),
    TableCase("histogram-cancer", fit_histogram, "breast_cancer"),
    TableCase("histogram-elec", fit_histogram, "elec"),
    TableCase("xgboost-elec", fit_xgboost, "elec"),
    TableCase("lightgbm-elec", fit_lightgbm, "elec"),
    TableCase("catboost-elec", fit_catboost, "elec"),
)

CASES = tuple(
    Case(case.name, f"{case.make.__name__.removeprefix('fit_')} on {case.data}", case.write, case.data == "elec")
    for case in TABLE_CASES
)
