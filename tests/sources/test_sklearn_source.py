"""scikit-learn: what opens, what is refused, and equal answers from the imported model."""

import csv
import gzip
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import skops.io
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError, StepError
from ferryman.core.signature import Array
from ferryman.core.step import StepContext
from ferryman.runtimes.sklearn import SklearnRuntime
from ferryman.sources.detect import open_source
from ferryman.sources.sklearn import SklearnToOnnx
from ferryman.tasks.tabular import TabularSpec, fill_labels

MakeSection = Callable[..., ModelSection]
Check = Callable[[Any, Array, Array], None]
Estimator = Any  # scikit-learn has no types that mypy reads

CLASSIFIERS: dict[str, Callable[[], Estimator]] = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "polynomial": lambda: make_pipeline(PolynomialFeatures(2), StandardScaler(), LogisticRegression(max_iter=500)),
    "tree": lambda: DecisionTreeClassifier(random_state=0),
    "forest": lambda: RandomForestClassifier(20, random_state=0),
    "shallow forest": lambda: RandomForestClassifier(10, max_depth=4, random_state=0),
    "extra trees": lambda: ExtraTreesClassifier(20, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=10, random_state=0),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=10, random_state=0),
    "standard scaled forest": lambda: make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)),
    "min-max scaled forest": lambda: make_pipeline(
        MinMaxScaler((0, 2), clip=True), RandomForestClassifier(10, random_state=0)
    ),
    "robust scaled forest": lambda: make_pipeline(RobustScaler(), RandomForestClassifier(10, random_state=0)),
    "max-abs scaled forest": lambda: make_pipeline(MaxAbsScaler(), RandomForestClassifier(10, random_state=0)),
    "scaled histogram boosting": lambda: make_pipeline(
        StandardScaler(), HistGradientBoostingClassifier(max_iter=10, random_state=0)
    ),
    "searched forest": lambda: GridSearchCV(RandomForestClassifier(10, random_state=0), {"max_depth": [3, 9]}, cv=2),
    "neighbours": lambda: KNeighborsClassifier(),
    "bayes": lambda: GaussianNB(),
    "perceptron": lambda: make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=400, random_state=0)),
    "svc": lambda: make_pipeline(StandardScaler(), SVC()),
    "linear svc": lambda: make_pipeline(StandardScaler(), LinearSVC()),
    "ridge": lambda: RidgeClassifier(),
    "sgd": lambda: make_pipeline(StandardScaler(), SGDClassifier(random_state=0)),
    "calibrated": lambda: make_pipeline(StandardScaler(), CalibratedClassifierCV(LinearSVC(), cv=3)),
    "ada boost": lambda: AdaBoostClassifier(n_estimators=5, random_state=0),
    "bagging": lambda: BaggingClassifier(random_state=0),
    "discriminant": lambda: LinearDiscriminantAnalysis(),
    "voting": lambda: make_pipeline(
        StandardScaler(),
        VotingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier(random_state=0))], voting="soft"),
    ),
}
REGRESSORS: dict[str, Callable[[], Estimator]] = {
    "linear": lambda: LinearRegression(),
    "forest": lambda: RandomForestRegressor(10, random_state=0),
    "scaled forest": lambda: make_pipeline(StandardScaler(), RandomForestRegressor(10, random_state=0)),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=10, random_state=0),
    "histogram boosting": lambda: HistGradientBoostingRegressor(max_iter=10, random_state=0),
    "svr": lambda: make_pipeline(StandardScaler(), SVR()),
    "perceptron": lambda: make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=5000, random_state=0)
    ),
}
LOADERS = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}


@pytest.fixture
def check(tmp_path: Path, section: MakeSection) -> Check:
    """Save, open, import twice, and compare every row's answer with the estimator's own."""

    def compare(estimator: Estimator, features: Array, target: Array) -> None:
        rows = features.astype(np.float32)
        step = 4 if len(rows) > 5000 else 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # how well it was fitted is not what is tested
            estimator.fit(rows[::step], target[::step])
        path = tmp_path / "model.skops"
        skops.io.dump(estimator, path)
        source = open_source(path, section(), tmp_path)
        imported = SklearnToOnnx().run(source, StepContext(tmp_path / "first"))
        assert imported.digest == SklearnToOnnx().run(source, StepContext(tmp_path / "second")).digest
        onnx.checker.check_model(str(imported.path), full_check=True)
        compare_answers(source, imported, {"features": rows})

    return compare


def compare_answers(source: Artifact, imported: Artifact, inputs: dict[str, Array]) -> None:
    wanted = SklearnRuntime().load(source, threads=1).infer(inputs)
    session = onnxruntime.InferenceSession(imported.path, providers=["CPUExecutionProvider"])
    got = dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))
    assert list(got) == list(wanted) == [spec.name for spec in imported.signature.outputs]
    for name, tensor in wanted.items():
        assert got[name].shape == tensor.shape
        assert got[name].dtype == tensor.dtype
        if name == "label":
            assert (got[name] == tensor).all()
        else:
            np.testing.assert_allclose(got[name], np.asarray(tensor, np.float64), rtol=1e-5, atol=1e-5)


MANY_TABLES = ("forest", "extra trees", "boosting", "histogram boosting", "standard scaled forest", "neighbours", "svc")
CASES = [(kind, data) for kind in CLASSIFIERS for data in LOADERS if data in ("iris", "cancer") or kind in MANY_TABLES]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "data"), CASES)
def test_a_classifier_answers_the_same_on_every_row(kind: str, data: str, check: Check) -> None:
    table = LOADERS[data]()
    check(CLASSIFIERS[kind](), table.data, table.target)


@pytest.mark.parametrize("kind", REGRESSORS)
def test_a_regressor_answers_the_same_on_every_row(kind: str, check: Check) -> None:
    table = datasets.load_diabetes()
    check(REGRESSORS[kind](), table.data, table.target)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [kind for kind in CLASSIFIERS if any(word in kind for word in ("logistic", "tree", "forest", "boosting", "discr"))],
)
def test_45_thousand_rows_of_real_data_keep_their_labels(kind: str, shared_data: Path, check: Check) -> None:
    with gzip.open(shared_data / "tabular" / "elec.csv.gz", "rt") as stream:
        rows = list(csv.reader(stream))[1:]
    features = np.array([[float(value) for value in row[:-1]] for row in rows])
    check(CLASSIFIERS[kind](), features, np.array(["up" if row[-1] == "1" else "down" for row in rows]))


@pytest.mark.parametrize("target", [np.array([True, False]), np.array([0.0, 1.0]), np.array(["no", "yes"])])
def test_labels_of_any_kind_come_back(target: Array, check: Check) -> None:
    table = datasets.load_breast_cancer()
    check(RandomForestClassifier(10, random_state=0), table.data, target[table.target])


def test_columns_of_text_and_numbers_become_inputs_of_their_own(tmp_path: Path, section: MakeSection) -> None:
    pandas = pytest.importorskip("pandas")
    generator = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "age": generator.integers(18, 80, 60).astype(float),
            "town": generator.choice(["Ulm", "Bonn", "Kiel"], 60),
            "income": generator.random(60) * 1e4,
        }
    )
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["age", "income"]), ("text", OneHotEncoder(handle_unknown="ignore"), ["town"])]
    )
    estimator = make_pipeline(columns, RandomForestClassifier(10, random_state=0)).fit(frame, frame.age > 40)
    skops.io.dump(estimator, tmp_path / "model.skops")
    source = open_source(tmp_path / "model.skops", section(), tmp_path)
    assert [(spec.name, spec.dtype, spec.shape) for spec in source.signature.inputs] == [
        ("age", "float32", ("batch", 1)),
        ("town", "string", ("batch", 1)),
        ("income", "float32", ("batch", 1)),
    ]
    inputs = {
        name: frame[[name]].to_numpy(object if name == "town" else np.float32) for name in ("age", "town", "income")
    }
    compare_answers(source, SklearnToOnnx().run(source, StepContext(tmp_path / "step")), inputs)


def test_importing_leaves_onnx_as_it_was(tmp_path: Path, section: MakeSection) -> None:
    before = onnx.helper.make_attribute
    table = datasets.load_iris()
    skops.io.dump(HistGradientBoostingClassifier(max_iter=2).fit(table.data, table.target), tmp_path / "model.skops")
    SklearnToOnnx().run(open_source(tmp_path / "model.skops", section(), tmp_path), StepContext(tmp_path / "step"))
    assert onnx.helper.make_attribute is before


def test_a_trusted_pickle_opens(tmp_path: Path, section: MakeSection) -> None:
    table = datasets.load_iris()
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(LogisticRegression(max_iter=500).fit(table.data, table.target)))
    source = open_source(path, section(trust=True), tmp_path)
    rows = table.data.astype(np.float32)
    imported = SklearnToOnnx().run(source, StepContext(tmp_path / "step"))
    compare_answers(source, imported, {"features": rows})


class Unknown:
    """A type that skops has never heard of."""


def test_a_skops_file_with_unknown_types_names_them(tmp_path: Path, section: MakeSection) -> None:
    estimator = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    estimator.extra = Unknown()
    skops.io.dump(estimator, tmp_path / "model.skops")
    with pytest.raises(SourceError, match="Unknown") as caught:
        open_source(tmp_path / "model.skops", section(), tmp_path)
    assert "trust = true" in caught.value.hint


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StandardScaler().fit([[0.0], [1.0]]), "a StandardScaler, which is neither"),
        (lambda: LogisticRegression(), "was not fitted"),
        (lambda: KNeighborsClassifier(1).fit([[0.0], [1.0]], [[0, 1], [1, 0]]), "several outputs"),
    ],
)
def test_what_is_no_fitted_estimator_is_refused(
    make: Callable[[], Estimator], words: str, tmp_path: Path, section: MakeSection
) -> None:
    skops.io.dump(make(), tmp_path / "model.skops")
    with pytest.raises(SourceError, match=words):
        open_source(tmp_path / "model.skops", section(), tmp_path)


def test_a_damaged_skops_file_is_refused(tmp_path: Path, section: MakeSection) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"__module__"', b'"__modul3__"'))
    with pytest.raises(SourceError, match="no sound skops file"):
        open_source(path, section(), tmp_path)


def test_an_estimator_that_has_no_converter_is_named(tmp_path: Path, section: MakeSection) -> None:
    from sklearn.gaussian_process import GaussianProcessClassifier

    table = datasets.load_iris()
    skops.io.dump(GaussianProcessClassifier().fit(table.data[::10], table.target[::10]), tmp_path / "model.skops")
    source = open_source(tmp_path / "model.skops", section(), tmp_path)
    with pytest.raises(StepError, match=r"model\.skops can't be converted from 'sklearn'"):
        SklearnToOnnx().run(source, StepContext(tmp_path / "step"))
    assert not (tmp_path / "step").exists()


def test_an_estimator_fitted_on_a_frame_tells_its_columns_and_answers_as_before(
    tmp_path: Path, section: MakeSection
) -> None:
    pandas = pytest.importorskip("pandas")
    table = datasets.load_iris()
    frame = pandas.DataFrame(table.data, columns=["a", "b", "c", "d"])
    skops.io.dump(LogisticRegression(max_iter=500).fit(frame, table.target), tmp_path / "model.skops")
    source = open_source(tmp_path / "model.skops", section(), tmp_path)
    assert source.loader["feature_names"] == ["a", "b", "c", "d"]
    imported = SklearnToOnnx().run(source, StepContext(tmp_path / "step"))
    compare_answers(source, imported, {"features": table.data.astype(np.float32)})


@pytest.mark.parametrize(
    ("classes", "names"),
    [(["down", "up"], ["down", "up"]), ([3, 7], ["3", "7"]), ([0, 1], None), ([False, True], None)],
)
def test_an_estimator_names_its_classes_where_they_are_not_numbered_from_0(
    classes: list[object], names: list[str] | None, tmp_path: Path, section: MakeSection
) -> None:
    rows = np.arange(20.0).reshape(10, 2)
    target = np.array(classes)[(np.arange(10) > 4).astype(int)]
    skops.io.dump(LogisticRegression().fit(rows, target), tmp_path / "model.skops")
    source = open_source(tmp_path / "model.skops", section(), tmp_path)
    assert source.loader.get("classes") == names
    spec = fill_labels(TabularSpec(kind="tabular"), source.loader.get("classes"))
    assert spec.labels == (tuple(names) if names else None)
