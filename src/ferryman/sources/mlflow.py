"""Open MLflow model folders: find the model of a known library in them, and open that. MLflow itself is not needed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.plugins import find
from ferryman.sources._content import read_head
from ferryman.sources._sklearn_load import load_estimator
from ferryman.sources._tabular import name_features

_FILE = "MLmodel"
_MOST_BYTES = 1 << 20  # thousands of columns, and no minutes of parsing
_MOST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class _Flavor:
    """Say which key of a flavour names its file or folder, and which sources of ours may open what is there."""

    keys: tuple[str, ...]
    sources: tuple[str, ...]


_FLAVORS = {  # the best first, where a folder has several
    "onnx": _Flavor(("data",), ("onnx",)),
    "sklearn": _Flavor(("pickled_model",), ("sklearn",)),
    "xgboost": _Flavor(("data",), ("xgboost",)),
    "lightgbm": _Flavor(("data",), ("lightgbm",)),
    "catboost": _Flavor(("data",), ("catboost",)),
    "keras": _Flavor(("data",), ("keras", "tf-savedmodel")),
    "tensorflow": _Flavor(("saved_model_dir", "data"), ("keras", "tf-savedmodel")),
    "pytorch": _Flavor(("model_data",), ("torch-export", "torchscript", "torch-weights")),
}


class MLflowSource:
    """Open an MLflow model folder by what lies in it: onnx, sklearn, boosters, Keras, TensorFlow, torch."""

    name: ClassVar[str] = "mlflow"
    suffixes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ("yaml",)
    extra: ClassVar[str] = "mlflow"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a folder with an MLmodel file that lists flavours."""
        return b"flavors:" in read_head(path / _FILE)

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Open the inner model with its own source; the artifact's format is that one's.

        Its `loader` tells the columns' names and types that MLflow's signature has ("feature_names", "column_types").
        """
        described = _read(path)
        flavor, settings = _choose(described, path)
        inner = _inner(path, flavor, settings)
        source = _source_of(inner, flavor, path, workspace, model)
        opened: Artifact = find("sources", source[0]).require()().open(source[1], model, workspace)
        return replace(opened, loader={**opened.loader, **_columns(described, opened, path)})


def _read(folder: Path) -> Mapping[str, Any]:  # MLflow's own YAML
    import yaml

    file = folder / _FILE
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise SourceError(f"{file} is larger than any description of a model", hint="is it MLflow's?")
        loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
        loader.flatten_mapping = lambda node: None  # merged keys ("<<") multiply: a few lines become gigabytes
        described = loader.get_single_data()
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        words = " ".join(str(error).split())[:200]
        raise SourceError(f"{file} can't be read: {words}", hint="save the model again with MLflow") from None
    if not isinstance(described, dict) or not isinstance(described.get("flavors"), dict):
        raise SourceError(f"{file} lists no flavours", hint="save the model again with MLflow")
    return described


def _choose(described: Mapping[str, Any], folder: Path) -> tuple[str, Mapping[str, Any]]:
    flavors = described["flavors"]
    for name in _FLAVORS:
        if isinstance(flavors.get(name), dict):
            return name, flavors[name]
    known = ", ".join(_FLAVORS)
    if set(flavors) == {"python_function"}:
        told = flavors["python_function"]
        module = _short(told.get("loader_module") if isinstance(told, dict) else told)
        raise SourceError(
            f"{folder} is a python_function model only ({module}): Python code that answers as it likes, with no graph "
            "or weights that could be converted, compared or served without it",
            hint=f"log the model inside it with its own flavour ({known})",
        )
    named = _short(", ".join(sorted(name for name in flavors if isinstance(name, str))))
    raise SourceError(f"{folder} has the flavours {named}; Ferryman opens none of them", hint=f"it opens {known}")


def _short(value: object) -> str:
    """Give the start of a text for a message; "?" for what is none: with YAML's aliases that may be endless."""
    return value[:_MOST_SHOWN] if isinstance(value, str) else "?"


def _inner(folder: Path, flavor: str, settings: Mapping[str, Any]) -> Path:
    keys = _FLAVORS[flavor].keys
    told = next((settings[key] for key in keys if isinstance(settings.get(key), str)), None)
    if told is None:
        raise SourceError(
            f"{folder / _FILE}: the flavour '{flavor}' does not say where its model lies ({' or '.join(keys)})",
            hint="save the model again with MLflow",
        )
    inner = folder / str(told)
    try:
        is_inside, is_there = inner.resolve().is_relative_to(folder.resolve()), inner.exists()
    except (OSError, ValueError):  # no name that a file can have
        is_inside, is_there = True, False
    if not is_inside:
        raise SourceError(
            f"{folder / _FILE} names '{_short(told)}', which lies outside of its folder", hint="name that model"
        )
    if not is_there:
        raise SourceError(f"{folder} lacks '{_short(told)}', which its {_FILE} names", hint="copy the whole folder")
    return inner


def _source_of(inner: Path, flavor: str, folder: Path, workspace: Path, model: ModelSection) -> tuple[str, Path]:
    """Give the source that opens what a flavour names, and the file or folder for it."""
    if flavor == "lightgbm" and inner.suffix in (".skops", ".pkl"):
        return "lightgbm", _booster(inner, workspace, trust=model.trust)
    places = [inner] if inner.is_file() else [inner, *sorted(inner.iterdir())]
    for name in _FLAVORS[flavor].sources:
        for place in places:
            if find("sources", name).cls().recognises(place):
                return name, place
    names = ", ".join(place.name for place in places if place != inner) or inner.name
    raise SourceError(
        f"{folder}: the flavour '{flavor}' holds {names}, which is nothing that Ferryman opens",
        hint=_HINTS.get(flavor, "save the model again with a newer MLflow"),
    )


_HINTS = {
    "keras": "save it with Keras 3, as model.keras",
    "tensorflow": "save it with Keras 3, as model.keras, or as a SavedModel",
    "pytorch": "save it with serialization_format='pt2'",
    "xgboost": "save it with model_format='ubj'",
}


def _booster(file: Path, workspace: Path, *, trust: bool) -> Path:
    """Write the booster inside LightGBM's estimator for scikit-learn as LightGBM does itself."""
    estimator = load_estimator(file, trust=trust)
    booster = getattr(estimator, "booster_", None)
    if booster is None:
        raise SourceError(f"{file} holds a {type(estimator).__name__}, not LightGBM's estimator", hint="fit it first")
    workspace.mkdir(parents=True, exist_ok=True)
    written = workspace / "booster.txt"
    written.write_text(booster.model_to_string(), encoding="utf-8")
    return written


def _columns(described: Mapping[str, Any], opened: Artifact, folder: Path) -> dict[str, Any]:  # part of a `loader`
    """Read the columns of MLflow's signature, for a model that takes them as one matrix."""
    told = described.get("signature")
    text = told.get("inputs") if isinstance(told, dict) else None
    try:
        columns = json.loads(text) if isinstance(text, str) else []
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{folder / _FILE}: its signature is no JSON: {error}", hint="save the model again") from None
    columns = columns if isinstance(columns, list) else []
    named = [one for one in columns if isinstance(one, dict) and isinstance(one.get("name"), str)]
    first = opened.signature.inputs[0]
    if not named or len(named) != len(columns) or len(opened.signature.inputs) != 1 or len(first.shape) != 2:
        return {}
    if isinstance(first.shape[1], int) and len(named) != first.shape[1]:
        raise SourceError(
            f"{folder / _FILE} names {len(named)} columns; the model takes {first.shape[1]}",
            hint="log it again with the signature of what it was trained on",
        )
    types = {one["name"]: _short(one.get("type", "")) for one in named}
    texts = [name for name, kind in types.items() if kind in ("string", "binary")]
    if texts and first.dtype != "string":
        raise SourceError(
            f"{folder / _FILE}: column '{_short(texts[0])}' is {types[texts[0]]}, but the model takes {first.dtype}",
            hint="log the whole pipeline (with what encodes text), or the signature of the encoded columns",
        )
    own = opened.loader.get("feature_names") or ()
    names = own if set(own) == set(types) else list(types)  # LightGBM writes an underscore for a space
    return {**name_features(list(names), len(named)), "column_types": types}
