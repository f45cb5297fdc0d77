"""Load torch modules from files: exported programs, TorchScript, and weights with the factory that fits them."""

import inspect
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError, SourceError
from ferryman.core.factory import load_factory
from ferryman.sources._content import looks_like, safetensors_header_bytes

Module = Any  # torch.nn.Module or torch.jit.ScriptModule: torch's types are skipped by mypy
Program = Any  # torch.export.ExportedProgram, for the same reason
_NESTED_KEYS = ("state_dict", "model_state_dict")


@contextmanager
def torch_notices_hidden() -> Iterator[None]:
    """Keep torch's notices about its own deprecated parts away from the user, who can't act on them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message="no signature found for", category=UserWarning)
        yield


def load_program(path: Path) -> Program:
    """Load an exported program (.pt2); raises SourceError for a damaged or unknown one."""
    import torch

    try:
        with torch_notices_hidden(), path.open("rb") as stream:  # of a path, torch wants the name to end in .pt2
            program = torch.export.load(stream)
    except Exception as error:  # torch raises anything for a damaged archive, RuntimeError to KeyError
        raise SourceError(
            f"{path} can't be loaded by torch.export: {_first_line(error)}",
            hint=f"it looks like {looks_like(path)}; save it again with torch.export.save",
        ) from error
    if trained := _training_operator(program):
        raise SourceError(
            f"{path} was exported in training mode: it holds {trained} that acts as in training",
            hint="call model.eval() before torch.export.export",
        )
    return program


def _training_operator(program: Program) -> str:
    flags = {"aten.dropout.default": 2, "aten.batch_norm.default": 5, "aten._native_batch_norm_legit.default": 5}
    for node in program.graph.nodes:
        index = flags.get(str(node.target))
        if index is not None and len(node.args) > index and node.args[index] is True:
            return str(node.target)
    return ""


def load_torchscript(path: Path) -> Module:
    """Load a TorchScript module in evaluation mode; raises SourceError for a damaged one."""
    import torch

    try:
        with torch_notices_hidden():
            return torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError, KeyError, EOFError) as error:
        raise SourceError(
            f"{path} can't be loaded by torch.jit: {_first_line(error)}",
            hint=f"it looks like {looks_like(path)}; save it again with torch.jit.save",
        ) from error


def load_weights(path: Path, factory: str, folder: Path) -> Module:
    """Make the module that `factory` gives, in evaluation mode, with the weights of `path` in it."""
    state = read_state(path)
    module = _call_factory(factory, folder)
    try:
        result = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise SourceError(
            f"the weights in {path} don't fit what {factory} makes: {' '.join(lines)}",
            hint="the factory must make the module with the sizes that it was trained with",
        ) from None
    if result.missing_keys or result.unexpected_keys:
        prefixed = [key for key in result.unexpected_keys if key.startswith("module.")]
        raise SourceError(
            f"the weights in {path} don't fit what {factory} makes: "
            f"{_keys('missing', result.missing_keys)}; {_keys('unexpected', result.unexpected_keys)}",
            hint="save model.module.state_dict(): these were saved from a DataParallel wrapper"
            if prefixed
            else "the factory must make the module that was trained",
        )
    return module.eval()


def _keys(word: str, keys: Iterable[str]) -> str:
    names = list(keys)
    return f"{len(names)} {word}" + (f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else "")


def _call_factory(factory: str, folder: Path) -> Module:
    import torch

    function = load_factory(factory, folder)
    try:
        needed = [
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        needed = []
    if needed:
        raise ConfigError(
            f"[model] factory = '{factory}' needs arguments ({', '.join(needed)}); it is called with none",
            hint="write a function without arguments that makes the module as it was trained",
        )
    try:
        module = function()
    except Exception as error:  # the user's own code
        raise ConfigError(f"[model] factory = '{factory}' fails: {type(error).__name__}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(
            f"[model] factory = '{factory}' gives a {type(module).__name__}, not a torch.nn.Module",
            hint="return the module itself",
        )
    return module


def read_state(path: Path) -> Mapping[str, Any]:  # values: torch.Tensor
    """Read a state dict from safetensors or a torch.save file, without running code from it."""
    if safetensors_header_bytes(path) is not None or path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    state = _read_pickled(path)
    for key in _NESTED_KEYS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    return _checked_state(state, path)


def _read_safetensors(path: Path) -> Mapping[str, Any]:  # values: torch.Tensor
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: Mapping[str, Any] = load_file(path)  # values: torch.Tensor
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"{path} is no sound safetensors file: {_first_line(error)}", hint="copy or download it again"
        ) from None
    return state


def _read_pickled(path: Path) -> Any:  # whatever the file holds
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it refers to {found.group(1)}" if found else _first_line(error)
        raise SourceError(
            f"{path} holds more than tensors: {what}. Loading it would run code from the file",
            hint="save only the weights: torch.save(model.state_dict(), path), or safetensors",
        ) from None
    except (RuntimeError, ValueError, OSError, KeyError, EOFError, AttributeError, TypeError, IndexError) as error:
        raise SourceError(
            f"{path} can't be loaded as torch weights: {_first_line(error)}",
            hint=f"it looks like {looks_like(path)}; save it again",
        ) from None


def _checked_state(state: Any, path: Path) -> Mapping[str, Any]:  # whatever the file holds -> torch.Tensor by name
    import torch

    if not isinstance(state, Mapping) or not state:
        raise SourceError(
            f"{path} holds a {type(state).__name__}, not a state dict",
            hint="save it with torch.save(model.state_dict(), path)",
        )
    strange = [key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, torch.Tensor)]
    if strange:
        raise SourceError(
            f"{path} is no plain state dict: '{strange[0]}' is a {type(state[strange[0]]).__name__}, not a tensor",
            hint=f"save it with torch.save(model.state_dict(), path), or under one of {', '.join(_NESTED_KEYS)}",
        )
    return state


def load_module(source: Artifact) -> Module:
    """Load the TorchScript or factory-made module that an artifact of those formats names."""
    if source.format == "torchscript":
        return load_torchscript(source.path)
    return load_weights(source.path, source.loader["factory"], Path(source.loader["folder"]))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
