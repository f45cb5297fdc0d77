"""Find a function of the user's own that ferryman.toml names: "package.module:function"."""

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ferryman.core.errors import ConfigError


def load_factory(reference: str, folder: Path) -> Callable[[], Any]:  # what it makes is the framework's own
    """Import the function, looking for its module in `folder` first; raises ConfigError that says why it can't."""
    module_name, separator, function_name = reference.partition(":")
    if not separator or not module_name or not function_name.isidentifier():
        raise ConfigError(
            f"[model] factory = '{reference}' names no function", hint="write it as 'package.module:function'"
        )
    module = _import(module_name, folder, reference)
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise ConfigError(
            f"[model] factory = '{reference}': {module_name} has no function '{function_name}'",
            hint=f"it has {', '.join(names[:5]) or 'no functions'}",
        )
    return function  # type: ignore[no-any-return]  # a user's attribute has no type; it was seen to be callable


def _import(module_name: str, folder: Path, reference: str) -> Any:  # a module of the user's
    root = str(folder.resolve())
    _forget_namesake(module_name.partition(".")[0], root)
    importlib.invalidate_caches()
    sys.path.insert(0, root)
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"[model] factory = '{reference}': importing {module_name} fails: {type(error).__name__}: {error}",
            hint=f"modules are looked for in {root} and among the installed packages",
        ) from error
    finally:
        sys.path.remove(root)


def _forget_namesake(top: str, root: str) -> None:
    """Drop a loaded module that has the name of one in `root` but came from elsewhere (another project's model.py)."""
    here = PathFinder.find_spec(top, [root])
    loaded = sys.modules.get(top)
    if here is None or here.origin is None or loaded is None or getattr(loaded, "__file__", None) == here.origin:
        return
    for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
        del sys.modules[name]
