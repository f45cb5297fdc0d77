"""Run XGBoost models with XGBoost itself: what an imported model is measured against."""

import json
from typing import ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.runtimes._tabular import TabularSession, classified, two_columns


class XGBoostRuntime:
    """Load .json and .ubj boosters, cut at their best iteration."""

    name: ClassVar[str] = "xgboost"
    formats: ClassVar[frozenset[str]] = frozenset({"xgboost"})
    needs: ClassVar[tuple[str, ...]] = ("xgboost",)
    extra: ClassVar[str] = "xgboost"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()

    def load(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the booster with so many threads."""
        import xgboost

        booster = xgboost.Booster(model_file=artifact.path)
        best = booster.attr("best_iteration")
        booster = booster if best is None else booster[: int(best) + 1]
        booster.set_param({"nthread": max(threads, 1)})
        if json.loads(booster.save_config())["learner"]["objective"]["name"] == "multi:softmax":
            booster.set_param({"objective": "multi:softprob"})  # softmax answers labels only
        booster.feature_names = None
        shape = artifact.signature.outputs[-1].shape

        def predict(inputs: Tensors) -> dict[str, Array]:
            answer = np.asarray(booster.inplace_predict(np.asarray(inputs["features"])))
            if len(shape) == 1:
                return {"prediction": answer}
            return classified(two_columns(answer), np.arange(shape[1]))

        return TabularSession(artifact.signature, predict)
