"""Run scikit-learn estimators with scikit-learn itself: what an imported model is measured against."""

import warnings
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import MissingExtra, SourceError
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.runtimes._tabular import TabularSession

Estimator = Any  # sklearn.base.BaseEstimator: scikit-learn has no types that mypy reads


class SklearnRuntime:
    """Load estimators that a source has checked; rows are float32, as they are for the imported model."""

    name: ClassVar[str] = "sklearn"
    formats: ClassVar[frozenset[str]] = frozenset({"sklearn"})
    needs: ClassVar[tuple[str, ...]] = ("sklearn", "skops")
    extra: ClassVar[str] = "sklearn"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()

    def load(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the estimator; `threads` is up to the estimator's own n_jobs."""
        estimator = _load(artifact)
        wanted = {spec.name for spec in artifact.signature.outputs}
        by_column = bool(artifact.loader.get("columns"))

        def predict(inputs: Tensors) -> dict[str, Array]:
            rows = _frame(inputs) if by_column else np.asarray(inputs["features"])
            with warnings.catch_warnings():
                # Fitted on a frame with column names, asked with plain arrays: the order of columns is the same.
                warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
                answers = {"prediction" if "prediction" in wanted else "label": estimator.predict(rows)}
                if "probabilities" in wanted:
                    answers["probabilities"] = estimator.predict_proba(rows)
            return answers

        return TabularSession(artifact.signature, predict)


def _load(artifact: Artifact) -> Estimator:
    import joblib  # type: ignore[import-untyped]  # it ships no types
    import skops.io

    if artifact.loader.get("trust") and not artifact.path.read_bytes()[:4].startswith(b"PK"):
        return joblib.load(artifact.path)
    try:
        return skops.io.load(artifact.path, trusted=list(artifact.loader.get("trusted", ())))
    except (skops.io.exceptions.UntrustedTypesFoundException, ValueError, OSError, KeyError) as error:
        raise SourceError(f"{artifact.path} can't be loaded: {error}", hint="open the source again") from error


def _frame(inputs: Tensors) -> Any:  # pandas.DataFrame
    try:
        import pandas
    except ImportError:
        raise MissingExtra(
            "this estimator picks columns by name, which needs pandas", hint="pip install pandas"
        ) from None
    return pandas.DataFrame({name: np.asarray(column).reshape(-1) for name, column in inputs.items()})
