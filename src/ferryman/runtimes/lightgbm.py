"""Run LightGBM models with LightGBM itself: what an imported model is measured against."""

from typing import ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.runtimes._tabular import TabularSession, classified, two_columns


class LightGBMRuntime:
    """Load LightGBM's text models."""

    name: ClassVar[str] = "lightgbm"
    formats: ClassVar[frozenset[str]] = frozenset({"lightgbm"})
    needs: ClassVar[tuple[str, ...]] = ("lightgbm",)
    extra: ClassVar[str] = "lightgbm"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()

    def load(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the booster with so many threads."""
        import lightgbm

        # Only what a prediction needs: a damaged list of training parameters behind the trees ends the process.
        trees = artifact.path.read_text(encoding="utf-8").partition("\nend of trees")[0]
        booster = lightgbm.Booster(model_str=f"{trees}\nend of trees\n")
        shape = artifact.signature.outputs[-1].shape

        def predict(inputs: Tensors) -> dict[str, Array]:
            answer = np.asarray(booster.predict(np.asarray(inputs["features"]), num_threads=max(threads, 1)))
            if len(shape) == 1:
                return {"prediction": answer}
            return classified(two_columns(answer), np.arange(shape[1]))

        return TabularSession(artifact.signature, predict)
