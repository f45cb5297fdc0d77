"""Run CatBoost models with CatBoost itself: what an imported model is measured against."""

from typing import ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.runtimes._tabular import TabularSession, classified


class CatBoostRuntime:
    """Load .cbm models."""

    name: ClassVar[str] = "catboost"
    formats: ClassVar[frozenset[str]] = frozenset({"catboost"})
    needs: ClassVar[tuple[str, ...]] = ("catboost",)
    extra: ClassVar[str] = "catboost"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()

    def load(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the model; each call uses so many threads."""
        import catboost

        booster = catboost.CatBoost()
        booster.load_model(str(artifact.path))
        is_classifier = len(artifact.signature.outputs[-1].shape) == 2
        kind = "Probability" if is_classifier else "RawFormulaVal"

        def predict(inputs: Tensors) -> dict[str, Array]:
            features = np.asarray(inputs["features"])
            answer = np.asarray(booster.predict(features, prediction_type=kind, thread_count=max(threads, 1)))
            return classified(answer, np.asarray(booster.classes_)) if is_classifier else {"prediction": answer}

        return TabularSession(artifact.signature, predict)
