"""Read what a Hugging Face folder says of its model: plain JSON, no framework, none of its code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.errors import SourceError
from ferryman.sources._huggingface_pictures import read_pictures

_MOST_BYTES = 16 * 1024 * 1024
_MOST_TOKENIZER_BYTES = 256 * 1024 * 1024
_OLD_TOKENIZERS = (
    "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "bpe.codes", "merges.txt",
)  # fmt: skip
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_OPENED = "text classification, image classification and embeddings of texts are opened"
Settings = Mapping[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class HubFolder:
    """Hold a folder's settings; `inner` is where the transformer itself lies, `modules` are sentence-transformers'."""

    path: Path
    inner: Path
    config: Settings
    modules: tuple[Settings, ...]

    @property
    def kind(self) -> str:
        """Give what the model does: "classify", "picture" or "embed"; raises SourceError for anything else."""
        named = [str(name) for name in self.config.get("architectures") or ()]
        first = named[0] if named else ""
        if self.modules:
            return "embed"
        if first.endswith("ForSequenceClassification"):
            return "classify"
        if first.endswith("ForImageClassification"):
            return "picture"
        if (first.endswith("Model") and "Head" not in first) or not first:
            return "embed"
        raise SourceError(f"{self.path} holds a {first}: {_OPENED}", hint="export it to ONNX and use kind = 'tensor'")

    @property
    def labels(self) -> list[str]:
        """Give the class names in order; none where there are only made-up ones."""
        raw = self.config.get("id2label")
        names = {str(key): str(name) for key, name in raw.items()} if isinstance(raw, Mapping) else {}
        ordered = [names.get(str(place), "") for place in range(len(names))]
        is_named = all(ordered) and not all(name == f"LABEL_{place}" for place, name in enumerate(ordered))
        return ordered if is_named else []

    def settings(self, name: str, *, most_bytes: int = _MOST_BYTES) -> Settings:
        """Give another JSON file of the folder; an empty one where it isn't there."""
        file = self.inner / name
        return _read(file, most_bytes) if file.is_file() else {}

    def check(self, *, trust: bool) -> None:
        """Raise SourceError for weights that only a pickle holds, and for a model that needs its own code."""
        for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
            if code := self.settings(name).get("auto_map"):
                wanted = ", ".join(sorted(map(str, code))) if isinstance(code, Mapping) else code
                raise SourceError(
                    f"{self.inner / name} asks for Python code that comes with the model (auto_map: {wanted:.200}), "
                    "which is never run",
                    hint="if transformers knows this model_type itself, remove auto_map; else export the model to ONNX",
                )
        if any((self.inner / name).is_file() for name in _SAFE) or trust:
            return
        raise SourceError(
            f"{self.inner} has its weights in a pickle, which may run any code when it is opened",
            hint="save_pretrained(FOLDER) writes model.safetensors; or, if you trust it, set [model] trust = true",
        )

    @property
    def old_tokenizer(self) -> str:
        """Name a file of the older forms of a tokenizer; empty where there is none."""
        return next((name for name in _OLD_TOKENIZERS if (self.inner / name).is_file()), "")

    @property
    def foreign_token(self) -> tuple[str, int, int] | None:
        """Give the token with the largest number, it and the model's count of them, where that is out of its reach."""
        count = self.config.get("vocab_size")
        said = self.settings("tokenizer.json", most_bytes=_MOST_TOKENIZER_BYTES)
        if not isinstance(count, int) or not (numbers := _token_numbers(said)):
            return None
        token = max(numbers, key=lambda one: numbers[one])
        return (token, numbers[token], count) if numbers[token] >= count else None

    @property
    def prompts(self) -> dict[str, str]:
        """Give the words that sentence-transformers puts before texts where it is asked to, by name."""
        file = self.path / "config_sentence_transformers.json"
        told = (_read(file) if file.is_file() else {}).get("prompts")
        return {str(name): words for name, words in told.items() if words} if isinstance(told, Mapping) else {}

    def head(self) -> dict[str, Any]:  # JSON
        """Give what the toolchain's program has to know of the model."""
        kind = self.kind
        if kind == "picture":
            return {"kind": kind, "size": self.image_input()["size"]}
        if kind == "embed":
            _check_texts(self)
            return {"kind": kind, **_pooling(self)}
        return {"kind": kind}

    def image_input(self) -> dict[str, Any]:  # TOML values
        """Give `[task] input` as preprocessor_config.json has it; raises SourceError for what can't be said so."""
        said = self.settings("preprocessor_config.json")
        if said:
            return read_pictures(self.inner / "preprocessor_config.json", said, self.config)
        if not isinstance(side := self.config.get("image_size"), int):
            raise SourceError(
                f"{self.path} doesn't say how large its pictures are", hint="size in preprocessor_config.json says it"
            )
        usual = {"channels": "RGB", "layout": "NCHW", "fit": "stretch", "scale": 1 / 255}
        return {"size": [side, side], **usual, "mean": [0.5], "std": [0.5]}


def read_folder(path: Path) -> HubFolder:
    """Read config.json, and modules.json where sentence-transformers wrote the folder; raises SourceError."""
    listed = _read_any(path / "modules.json") if (path / "modules.json").is_file() else []
    modules = tuple(entry for entry in listed if isinstance(entry, dict)) if isinstance(listed, list) else ()
    for place in (Path(str(module.get("path", ""))) for module in modules):
        if place.is_absolute() or ".." in place.parts:
            raise SourceError(f"{path / 'modules.json'} names a folder outside of the model: '{place}'")
    inner = path / str(modules[0].get("path", "")) if modules else path
    return HubFolder(path, inner, _read(inner / "config.json"), modules)


def is_hub_folder(path: Path) -> bool:
    """Tell whether this is a folder with a config.json that names a model's type, beside weights."""
    if not path.is_dir():
        return False
    try:
        folder = read_folder(path)
    except (SourceError, OSError):
        return _is_damaged(path)
    has_weights = any((folder.inner / name).is_file() for name in (*_SAFE, *_PICKLES))
    return has_weights and isinstance(folder.config.get("model_type"), str)


def _is_damaged(path: Path) -> bool:
    """Tell whether a folder of weights has settings that are no JSON: opening it then says so."""
    file = path / "config.json"
    if not file.is_file() or not any((path / name).is_file() for name in (*_SAFE, *_PICKLES)):
        return False
    try:
        json.loads(file.read_bytes()[:_MOST_BYTES])
    except (OSError, ValueError, RecursionError):
        return True
    return False


def _check_texts(folder: HubFolder) -> None:
    """Raise SourceError where sentence-transformers changes each text before the tokenizer sees it."""
    file = folder.path / "config_sentence_transformers.json"
    name = _read(file).get("default_prompt_name") if file.is_file() else None
    if name is not None and name in folder.prompts:
        raise SourceError(
            f"{file} puts '{folder.prompts[name]:.80}' before each text (default_prompt_name = '{name}')",
            hint="set default_prompt_name to null, and put it before the texts that you send and evaluate with",
        )
    if folder.settings("sentence_bert_config.json").get("do_lower_case"):
        raise SourceError(
            f"{folder.inner / 'sentence_bert_config.json'} has do_lower_case = true: texts change before the tokenizer",
            hint="where tokenizer.json lowers them itself, set it to false; else put a normalizer Lowercase into that",
        )


def _pooling(folder: HubFolder) -> dict[str, Any]:  # JSON
    """Give how sentence-transformers makes one vector; else the mean, normalised, which most models are trained for."""
    if not folder.modules:
        return {"pooling": "mean", "normalize": True}
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in folder.modules]
    if unknown := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise SourceError(
            f"{folder.path / 'modules.json'} has a module '{unknown[0]}', which is not known here",
            hint="Transformer, Pooling and Normalize are; export the model to ONNX for others",
        )
    place = next((module for module, kind in zip(folder.modules, kinds, strict=True) if kind == "Pooling"), None)
    given = _read(folder.path / str(place.get("path", "")) / "config.json") if place else {}
    modes = {key.removeprefix("pooling_mode_") for key, value in given.items() if value is True}
    modes |= {str(given["pooling_mode"])} if "pooling_mode" in given else set()
    known = {"cls_token": "cls", "cls": "cls", "mean_tokens": "mean", "mean": "mean"}
    chosen = {known.get(mode, mode) for mode in modes if mode != "include_prompt"}
    if len(chosen) != 1 or not chosen <= {"cls", "mean"}:
        raise SourceError(
            f"{folder.path}: its pooling is {', '.join(sorted(chosen)) or 'not said'}",
            hint="cls and mean are known; export the model to ONNX with its pooling for others",
        )
    return {"pooling": chosen.pop(), "normalize": "Normalize" in kinds}


def _token_numbers(said: Settings) -> dict[str, int]:
    """Give the tokens of a tokenizer.json by what they are called: a mapping, or a list of pairs in their order."""
    model, added = said.get("model"), said.get("added_tokens")
    known = model.get("vocab") if isinstance(model, Mapping) else None
    found: dict[str, int] = {}
    if isinstance(known, Mapping):
        found = {str(token): number for token, number in known.items() if isinstance(number, int)}
    elif isinstance(known, list) and known:
        found = {str(known[-1][0] if isinstance(known[-1], list) and known[-1] else known[-1]): len(known) - 1}
    for entry in added if isinstance(added, list) else []:
        if isinstance(entry, Mapping) and isinstance(entry.get("id"), int):
            found[str(entry.get("content"))] = entry["id"]
    return found


def _read(file: Path, most_bytes: int = _MOST_BYTES) -> Settings:
    value = _read_any(file, most_bytes)
    if not isinstance(value, dict):
        raise SourceError(f"{file} is not a JSON object", hint="save the model again with save_pretrained")
    return value


def _read_any(file: Path, most_bytes: int = _MOST_BYTES) -> Any:  # JSON
    try:
        if file.stat().st_size > most_bytes:
            raise SourceError(f"{file} has {file.stat().st_size} bytes: too many for settings")
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"there is no {file}", hint="save the model again with save_pretrained") from None
    except OSError as error:
        raise SourceError(f"{file} can't be read: {error}", hint="check the file and its rights") from None
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{file} is damaged or cut short: {error}", hint="copy it again, or save the model with save_pretrained"
        ) from None
