"""Open LightGBM models in its text format and import them to ONNX."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.step import StepContext
from ferryman.sources._content import looks_like, read_head
from ferryman.sources._converters import converting
from ferryman.sources._lightgbm_text import check_trees, header_of
from ferryman.sources._tabular import Table, finish, name_features

Booster = Any  # lightgbm.Booster: its types are skipped by mypy
_CLASSIFIERS = frozenset({"binary", "multiclass"})
_REGRESSORS = frozenset({"regression", "regression_l1", "huber", "fair", "quantile", "mape"})


class LightGBMSource:
    """Open a text file of Booster.save_model."""

    name: ClassVar[str] = "lightgbm"
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".lgb", ".model")
    needs: ClassVar[tuple[str, ...]] = ("lightgbm", "onnxmltools")
    extra: ClassVar[str] = "lightgbm"

    def recognises(self, path: Path) -> bool:
        """Tell whether the text starts as a LightGBM model does."""
        return re.match(rb"tree\r?\nversion=v\d", read_head(path, 64)) is not None

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Read the features (and their names, where it has some) and classes from the model itself."""
        text = _complete_text(path)
        table = _table(text, path)
        check_trees(text, str(path))
        booster = load_booster(text, path)
        loader = name_features(booster.feature_name(), table.features)
        return Artifact(path, self.name, table.signature(), digest_file(path), loader=loader)


def load_booster(text: str, path: Path) -> Booster:
    """Load a booster from a model's text; raises SourceError for a damaged one."""
    import lightgbm

    # What LightGBM does not need is left out. With `tree_sizes` it reads trees from several threads, where an error
    # ends the whole process (and it counts bytes, which rounding the thresholds changes); a damaged list of training
    # parameters behind the trees does so too.
    text = re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE).partition("\nend of trees")[0]
    text += "\nend of trees\n"
    try:
        return lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise SourceError(f"{path} is no sound LightGBM model: {error}", hint="save it again with save_model") from None


def _complete_text(path: Path) -> str:
    """Read the text and see that it goes to its end: LightGBM itself reads a file that was cut short as it is."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text.startswith("tree"):
        raise SourceError(
            f"{path} is not a LightGBM model: it looks like {looks_like(path)}", hint="save it with Booster.save_model"
        )
    if "\nend of trees" not in text:
        raise SourceError(
            f"{path} is cut short: it has no 'end of trees' line",
            hint="copy it again, or save it again with save_model",
        )
    return text


def _table(text: str, path: Path) -> Table:
    header = header_of(text)
    objective = header.get("objective", "").partition(" ")[0] or "none"
    if objective not in _CLASSIFIERS | _REGRESSORS:
        raise SourceError(
            f"{path} was trained for '{objective}', which Ferryman can't convert",
            hint=f"known objectives: {', '.join(sorted(_CLASSIFIERS | _REGRESSORS))}",
        )
    if re.search(r"^num_cat=[1-9]", text, re.MULTILINE):
        raise SourceError(
            f"{path} has categorical splits, which ONNX trees don't have", hint="train on encoded features"
        )
    if re.search(r"^average_output$", text, re.MULTILINE):
        raise SourceError(f"{path} is a random forest, whose average Ferryman can't convert", hint="train with gbdt")
    if re.search(r"^is_linear=1", text, re.MULTILINE):
        raise SourceError(f"{path} has linear leaves, which ONNX trees don't have", hint="train with linear_tree=False")
    try:
        features, classes = int(header["max_feature_idx"]) + 1, int(header["num_class"])
    except (KeyError, ValueError):
        raise SourceError(f"{path} does not say how many features it takes", hint="save it again") from None
    return Table(features=features, classes=max(classes, 2) if objective in _CLASSIFIERS else 0)


def round_thresholds(text: str) -> str:
    """Round each tree's thresholds down to float32: what a float32 feature is compared with in ONNX.

    `feature <= threshold` then answers the same as LightGBM's own float64 threshold; rounding to the nearest, as
    converters do, sends a feature that lies on the rounded threshold the other way.
    """
    return re.sub(r"^threshold=(.+)$", _rounded_line, text, flags=re.MULTILINE)


def _rounded_line(line: re.Match[str]) -> str:
    exact = np.array(line.group(1).split(), dtype=np.float64)
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    below = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return "threshold=" + " ".join(repr(float(value)) for value in below)


@dataclass(frozen=True)
class LightGBMToOnnx:
    """Import a LightGBM model to ONNX; missing values (NaN) go the way that LightGBM sends them."""

    name: ClassVar[str] = "lightgbm-to-onnx"
    accepts: ClassVar[frozenset[str]] = frozenset({"lightgbm"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("lightgbm", "onnxmltools", "onnx")
    extra: ClassVar[str] = "lightgbm"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Convert with onnxmltools and give the outputs the house's names and shapes."""
        text = _complete_text(source.path)
        booster = load_booster(round_thresholds(text), source.path)
        with converting(source):
            from onnxmltools.convert import convert_lightgbm
            from onnxmltools.convert.common.data_types import FloatTensorType

            features = source.signature.inputs[0]
            types = [(features.name, FloatTensorType([None, features.shape[1]]))]
            model = convert_lightgbm(booster, initial_types=types, zipmap=False)
        return finish(model, source, context, self.name)
