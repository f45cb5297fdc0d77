"""Read what a Keras file says of itself: which of its parts are code, and how it takes pictures."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferryman.core.errors import SourceError

Config = dict[str, Any]  # Keras's own JSON

_MOST_BYTES = 16 << 20
_MOST_DEPTH = 200
_EXPORT = "model.export('folder') where its code is: Ferryman opens that folder (a SavedModel) without the code"


def read_config(path: Path) -> Config:
    """Give config.json of a .keras file; raises SourceError for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _MOST_BYTES:
                raise SourceError(f"{path}: config.json is larger than any model's", hint="save the model again")
            config = json.loads(archive.read("config.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, RecursionError, NotImplementedError) as error:
        raise SourceError(f"{path} is damaged: {error}", hint="save it again with model.save('model.keras')") from None
    if not isinstance(config, dict):
        raise SourceError(f"{path} is no Keras model: config.json holds no object", hint="save the model again")
    return config


def check_code(config: Config, path: Path, *, trust: bool) -> None:
    """Raise SourceError for layers whose code lies in the file (unless the user trusts it) or is nowhere in it."""
    for name, part in _parts(config, path):
        kind, module = str(part["class_name"]), str(part.get("module") or "")
        if kind in ("Lambda", "__lambda__"):
            if not trust:
                raise SourceError(
                    f"{path}: layer '{name}' is a Lambda: code that lies in the file and runs as it is opened",
                    hint=f"{_EXPORT}; or set [model] trust = true if you know where the file comes from",
                )
        elif kind.startswith("__"):
            continue  # a tensor's place in the graph, an array, an ellipsis: values
        elif module == "builtins" or module.partition(".")[0] != "keras":
            what = f"{module}.{kind}" if module and module != "builtins" else str(part.get("registered_name") or kind)
            if kind == "function":
                what = f"function {part.get('config')}"
            raise SourceError(
                f"{path}: '{name}' is of a kind of your own ({what}), whose code is not in the file", hint=_EXPORT
            )


def scales_itself(config: Config) -> bool:
    """Tell whether the first layer after the input brings pixels into the range that the model computes with."""
    for _ in range(_MOST_DEPTH):
        rest = [layer for layer in _layers(config) if layer.get("class_name") != "InputLayer"]
        if not rest:
            return config.get("class_name") in ("Rescaling", "Normalization")
        config = rest[0]
    return False


def last_activation(config: Config) -> str:
    """Give the activation of the last layer, as ONNX would call it; empty where it isn't plain to see."""
    layers = _layers(config)
    kind = layers[-1].get("class_name") if layers else ""
    settings = layers[-1].get("config") if layers else None
    name = "softmax" if kind == "Softmax" else settings.get("activation") if isinstance(settings, dict) else ""
    return {"softmax": "Softmax", "sigmoid": "Sigmoid"}.get(str(name), "")


def _layers(config: Config) -> list[Config]:
    inner = config.get("config")
    layers = inner.get("layers", []) if isinstance(inner, dict) else []
    return [layer for layer in layers if isinstance(layer, dict)]


def _parts(config: Config, path: Path) -> Iterator[tuple[str, Config]]:
    """Yield every object that the model is made of, with the name of the layer that it is, or belongs to."""
    pending: list[tuple[str, Any, int]] = [("", config, 0)]
    while pending:
        owner, value, depth = pending.pop()
        if depth > _MOST_DEPTH:
            raise SourceError(f"{path}: config.json is nested too deep", hint="save the model again")
        if isinstance(value, dict):
            inner = value.get("config")
            if "class_name" in value and "config" in value:
                owner = str(inner["name"]) if isinstance(inner, dict) and "name" in inner else owner
                yield owner or str(value["class_name"]), value
            # compile=False leaves out the outermost model's training, and that of no model inside it
            rest = (part for key, part in value.items() if depth or key != "compile_config")
            pending += [(owner, part, depth + 1) for part in rest]
        elif isinstance(value, list):
            pending += [(owner, part, depth + 1) for part in value]
