"""Open CatBoost models (.cbm) and import them to ONNX."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.step import StepContext
from ferryman.sources._content import looks_like, read_head
from ferryman.sources._converters import converting
from ferryman.sources._tabular import Table, finish, name_classes, name_features

Booster = Any  # catboost.CatBoost: its types are skipped by mypy
_CLASSIFIERS = frozenset({"Logloss", "CrossEntropy", "MultiClass"})
_REGRESSORS = frozenset({"RMSE", "MAE", "Quantile", "MAPE", "Huber", "Expectile", "LogCosh", "Lq"})


class CatBoostSource:
    """Open a .cbm file of CatBoost.save_model."""

    name: ClassVar[str] = "catboost"
    suffixes: ClassVar[tuple[str, ...]] = (".cbm",)
    needs: ClassVar[tuple[str, ...]] = ("catboost",)
    extra: ClassVar[str] = "catboost"

    def recognises(self, path: Path) -> bool:
        """Tell whether the bytes start as a CatBoost binary model does."""
        return read_head(path, 4) == b"CBM1"

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Read the features (and their names, where it has some) and classes from the model itself."""
        if not self.recognises(path):
            raise SourceError(
                f"{path} is not a CatBoost model: it looks like {looks_like(path)}", hint="save it with save_model"
            )
        import catboost

        try:
            booster = load_booster(path)
            table = _table(booster, path)
            loader = name_features(booster.feature_names_, table.features)
            loader |= name_classes(list(booster.classes_), table)
        except catboost.CatBoostError as error:  # the model's own settings are damaged
            words = " ".join(str(error).split())[:200]
            raise SourceError(
                f"{path} is no sound CatBoost model: {words}", hint="save it again with save_model"
            ) from None
        return Artifact(path, self.name, table.signature(), digest_file(path), loader=loader)


def load_booster(path: Path) -> Booster:
    """Load a model; raises SourceError for a damaged one."""
    import catboost

    booster = catboost.CatBoost()
    try:
        booster.load_model(str(path))
    except (catboost.CatBoostError, ValueError, OSError) as error:
        words = str(error).strip().splitlines()[-1][:200]
        raise SourceError(f"{path} is no sound CatBoost model: {words}", hint="save it again with save_model") from None
    return booster


def _table(booster: Booster, path: Path) -> Table:
    if booster.get_cat_feature_indices() or booster.get_text_feature_indices():
        raise SourceError(
            f"{path} has categorical or text features, which CatBoost can't export to ONNX",
            hint="train on encoded features",
        )
    loss = str(booster.get_all_params().get("loss_function", "")).partition(":")[0]
    classes = list(booster.classes_)
    if loss not in _CLASSIFIERS | _REGRESSORS:
        raise SourceError(
            f"{path} was trained for '{loss}', which Ferryman can't convert",
            hint=f"known losses: {', '.join(sorted(_CLASSIFIERS | _REGRESSORS))}",
        )
    is_text = any(isinstance(label, str) for label in classes)
    return Table(
        features=len(booster.feature_names_), classes=len(classes), label_dtype="string" if is_text else "int64"
    )


@dataclass(frozen=True)
class CatBoostToOnnx:
    """Import a CatBoost model to ONNX with its own exporter."""

    name: ClassVar[str] = "catboost-to-onnx"
    accepts: ClassVar[frozenset[str]] = frozenset({"catboost"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("catboost", "onnx")
    extra: ClassVar[str] = "catboost"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Export, take the dictionaries off the probabilities and give the outputs the house's names and shapes."""
        import onnx

        booster = load_booster(source.path)
        context.workspace.mkdir(parents=True, exist_ok=True)
        raw = context.workspace / "catboost.part"
        with converting(source):
            booster.save_model(str(raw), format="onnx")
            model = onnx.load(raw)
        raw.unlink()
        return finish(model, source, context, self.name)
