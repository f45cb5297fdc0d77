"""Open scikit-learn estimators (skops, or trusted pickles) and import them to ONNX."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.core.step import StepContext
from ferryman.sources._content import is_pickle, is_torch_legacy_pickle
from ferryman.sources._converters import converting
from ferryman.sources._sklearn_load import Estimator, is_skops, load_estimator, trusted_types
from ferryman.sources._sklearn_onnx import convert
from ferryman.sources._tabular import Table, finish, name_classes, name_features


class SklearnSource:
    """Open a .skops file, or (with trust = true) a pickle or joblib file, of a classifier or regressor."""

    name: ClassVar[str] = "sklearn"
    suffixes: ClassVar[tuple[str, ...]] = (".skops", ".pkl", ".pickle", ".joblib")
    needs: ClassVar[tuple[str, ...]] = ("sklearn", "skl2onnx", "skops")
    extra: ClassVar[str] = "sklearn"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a skops archive or a pickle that isn't torch's."""
        return is_skops(path) or (is_pickle(path) and not is_torch_legacy_pickle(path))

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Load the estimator and see what it takes and answers; features are float32 whatever it was fitted on."""
        estimator = load_estimator(path, trust=model.trust)
        table = _table(estimator, path)
        columns = text_columns(estimator)
        signature = _by_column(estimator, columns, table) if columns is not None else table.signature()
        trusted = trusted_types(path, trust=model.trust) if is_skops(path) else []
        loader = {"trust": model.trust, "trusted": trusted, "columns": columns is not None}
        loader |= name_classes(getattr(estimator, "classes_", ()), table)
        if columns is None:  # else each column has an input, which bears its name
            loader |= name_features(list(getattr(estimator, "feature_names_in_", ())), table.features)
        return Artifact(path, self.name, signature, digest_file(path), loader=loader)


def _table(estimator: Estimator, path: Path) -> Table:
    from sklearn.base import BaseEstimator, is_classifier, is_regressor

    kind = type(estimator).__name__
    if not isinstance(estimator, BaseEstimator) or not (is_classifier(estimator) or is_regressor(estimator)):
        raise SourceError(
            f"{path} holds a {kind}, which is neither a classifier nor a regressor",
            hint="save the fitted estimator or pipeline itself",
        )
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise SourceError(f"{path} holds a {kind} that was not fitted", hint="call fit before you save it")
    if not is_classifier(estimator):
        return Table(features=int(features))
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        raise SourceError(f"{path} holds a {kind} with several outputs a row", hint="train one classifier an output")
    return Table(
        features=int(features),
        classes=len(classes),
        label_dtype=_label_dtype(classes, path),
        has_probabilities=hasattr(estimator, "predict_proba"),
    )


def _label_dtype(classes: Array, path: Path) -> str:
    if classes.dtype.kind in "US" or all(isinstance(label, str) for label in classes):
        return "string"
    if classes.dtype.kind in "biu" or (classes.dtype.kind == "f" and bool((classes == np.rint(classes)).all())):
        return "int64"
    raise SourceError(f"{path} has class labels of dtype {classes.dtype}", hint="train with whole numbers or text")


def text_columns(estimator: Estimator) -> set[str] | None:
    """Give the names of the columns that hold text, for a pipeline that picks columns by name; None for others."""
    names = getattr(estimator, "feature_names_in_", None)
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    if names is None or not hasattr(first, "transformers_"):
        return None
    texts: set[str] = set()
    for _, transformer, columns in first.transformers_:
        steps = [step for _, step in transformer.steps] if hasattr(transformer, "steps") else [transformer]
        categories = next((step.categories_ for step in steps if hasattr(step, "categories_")), ())
        texts |= {
            str(column) for column, values in zip(columns, categories, strict=False) if values.dtype.kind in "OUS"
        }
    return texts


def _by_column(estimator: Estimator, texts: set[str], table: Table) -> Signature:
    names = [str(name) for name in estimator.feature_names_in_]
    inputs = tuple(
        TensorSpec(name=name, dtype="string" if name in texts else "float32", shape=("batch", 1)) for name in names
    )
    return Signature(inputs=inputs, outputs=table.outputs())


@dataclass(frozen=True)
class SklearnToOnnx:
    """Import a scikit-learn estimator to ONNX, with the labels and probabilities of the estimator on float32 rows."""

    name: ClassVar[str] = "sklearn-to-onnx"
    accepts: ClassVar[frozenset[str]] = frozenset({"sklearn"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("sklearn", "skl2onnx", "skops", "onnx")
    extra: ClassVar[str] = "sklearn"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Convert with skl2onnx and give the outputs the house's names and shapes."""
        estimator = load_estimator(source.path, trust=bool(source.loader.get("trust")))
        with converting(source):
            model = convert(estimator, source.signature)
        return finish(model, source, context, self.name)
