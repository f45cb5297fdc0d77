"""Find which source plug-in a model file is for, and open it."""

import hashlib
from pathlib import Path

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import ConfigError, SourceError
from ferryman.core.factory import digest_factory, factory_folder
from ferryman.core.plugins import Plugin, plugins
from ferryman.sources._content import looks_like
from ferryman.sources._onnx_external import digest_external_data


def open_source(path: Path, model: ModelSection, workspace: Path) -> Artifact:
    """Open a model file or folder with the plug-in that `model.format` names, or whose `recognises` says so by content.

    Repairs are written into `workspace`. Raises SourceError for what nobody recognises, ConfigError for an unknown
    format, MissingExtra if the plug-in's packages are not installed.
    """
    plugin = _named(model.format) if model.format else _recognised(path)
    if not path.exists():
        raise SourceError(f"{path} is not there", hint="name a model file")
    if path.is_dir() and not plugin.cls().recognises(path):
        raise SourceError(f"{path} is a folder, and no '{plugin.name}' model", hint=_inside(path))
    artifact: Artifact = plugin.require()().open(path, model, workspace)
    return artifact


def digest_source(path: Path, model: ModelSection, workspace: Path) -> str:
    """Give a digest of all that opening this model reads: the file, its external data, the factory's code, settings."""
    parts = [digest_path(path), model.model_dump_json(), *digest_external_data(path)]
    if model.factory:
        parts.append(digest_factory(model.factory, factory_folder(model.factory, path, workspace)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _named(name: str) -> Plugin:
    known = plugins("sources")
    if name not in known:
        raise ConfigError(f"[model] format = '{name}' is not known", hint=f"known formats: {', '.join(known)}")
    return known[name]


def _recognised(path: Path) -> Plugin:
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        what = looks_like(path) if path.exists() else "not there"
        raise SourceError(f"{path} is {what}, not a model file", hint="name the file that holds the trained model")
    fits = [plugin for plugin in plugins("sources").values() if plugin.cls().recognises(path)]
    by_name = [plugin for plugin in fits if path.suffix.lower() in plugin.cls.suffixes]
    chosen = by_name if len(fits) > 1 and by_name else fits
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        names = ", ".join(plugin.name for plugin in chosen)
        raise SourceError(f"{path} could be of several formats: {names}", hint="say which with [model] format = ...")
    if path.is_dir():
        raise SourceError(f"{path} is a folder of no known kind, not a model", hint=_inside(path))
    raise SourceError(
        f"{path} is of no known format: it looks like {looks_like(path)}",
        hint=f"known formats: {', '.join(plugins('sources'))}",
    )


def _inside(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir())[:5]
    return f"name one file in it, such as {', '.join(names)}" if names else "the folder is empty"
