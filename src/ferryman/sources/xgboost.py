"""Open XGBoost models in its own formats (.json, .ubj) and import them to ONNX."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.step import StepContext
from ferryman.sources._content import looks_like, read_head
from ferryman.sources._converters import converting
from ferryman.sources._tabular import Table, finish, name_features

Booster = Any  # xgboost.Booster: its types are skipped by mypy
_CLASSIFIERS = frozenset({"binary:logistic", "multi:softprob", "multi:softmax"})
_REGRESSORS = frozenset({"reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror"})


class XGBoostSource:
    """Open a .json or .ubj file of Booster.save_model."""

    name: ClassVar[str] = "xgboost"
    suffixes: ClassVar[tuple[str, ...]] = (".json", ".ubj")
    needs: ClassVar[tuple[str, ...]] = ("xgboost", "onnxmltools")
    extra: ClassVar[str] = "xgboost"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a JSON or UBJSON object whose first key is the learner."""
        head = read_head(path, 4096)
        is_json = head.lstrip().startswith(b"{") and b'"learner"' in head
        return is_json or (head.startswith(b"{") and b"learner" in head[:32])

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Read the features (and their names, where it has some) and classes from the model itself."""
        booster = load_booster(path)
        table = _table(booster, path)
        loader = name_features(booster.feature_names, table.features)
        return Artifact(path, self.name, table.signature(), digest_file(path), loader=loader)


def load_booster(path: Path) -> Booster:
    """Load a booster, cut at its best iteration as XGBoost's own estimators do."""
    import xgboost

    try:
        with xgboost.config_context(verbosity=0):  # its warnings about a damaged file come before its error
            booster = xgboost.Booster(model_file=path)
    except (xgboost.core.XGBoostError, ValueError, OSError, UnicodeDecodeError) as error:
        words = str(error).strip().splitlines()
        raise SourceError(
            f"{path} is no sound XGBoost model: {words[0][:200] if words else 'no reason given'}",
            hint=f"it looks like {looks_like(path)}; save it again with save_model('model.json')",
        ) from None
    best = booster.attr("best_iteration")
    return booster[: int(best) + 1] if best is not None else booster


def _objective(booster: Booster) -> str:
    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def _table(booster: Booster, path: Path) -> Table:
    learner = json.loads(booster.save_config())["learner"]
    objective = _objective(booster)
    kind = learner["gradient_booster"]["name"]
    if kind != "gbtree":
        raise SourceError(f"{path} is a '{kind}' model; only 'gbtree' converts to ONNX", hint="train with gbtree")
    if "c" in (booster.feature_types or []):
        raise SourceError(
            f"{path} has categorical features, which ONNX trees don't have", hint="train on encoded features"
        )
    if objective not in _CLASSIFIERS | _REGRESSORS:
        raise SourceError(
            f"{path} was trained for '{objective}', which Ferryman can't convert",
            hint=f"known objectives: {', '.join(sorted(_CLASSIFIERS | _REGRESSORS))}",
        )
    if int(learner["learner_model_param"].get("num_target", "1")) > 1:
        raise SourceError(f"{path} predicts several targets a row", hint="train one model a target")
    classes = max(int(learner["learner_model_param"]["num_class"]), 2) if objective in _CLASSIFIERS else 0
    return Table(features=booster.num_features(), classes=classes)


@dataclass(frozen=True)
class XGBoostToOnnx:
    """Import an XGBoost model to ONNX; missing values (NaN) go the way that XGBoost sends them."""

    name: ClassVar[str] = "xgboost-to-onnx"
    accepts: ClassVar[frozenset[str]] = frozenset({"xgboost"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("xgboost", "onnxmltools", "onnx")
    extra: ClassVar[str] = "xgboost"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Convert with onnxmltools and give the outputs the house's names and shapes."""
        booster = load_booster(source.path)
        booster.feature_names = None  # the converter knows features by number only
        if _objective(booster) == "multi:softmax":
            booster.set_param({"objective": "multi:softprob"})  # softmax answers labels only
        with converting(source):
            from onnxmltools.convert import convert_xgboost
            from onnxmltools.convert.common.data_types import FloatTensorType

            features = source.signature.inputs[0]
            model = convert_xgboost(
                booster, initial_types=[(features.name, FloatTensorType([None, features.shape[1]]))]
            )
        return finish(model, source, context, self.name)
