"""Find a function of the user's own that ferryman.toml names: "package.module:function"."""

import hashlib
import importlib
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ferryman.core.artifact import digest_file
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


def factory_folder(factory: str, path: Path, workspace: Path) -> Path:
    """Find the folder that holds the factory's module: the nearest at or above the weights, the workspace or here.

    The search goes up no further than the folder of ferryman.toml. A module of no such folder is an installed one.
    """
    top = factory.partition(":")[0].partition(".")[0]
    for start in (path.resolve().parent, workspace.resolve(), Path.cwd()):
        for folder in (start, *start.parents):
            if (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file():
                return folder
            if (folder / "ferryman.toml").is_file() or (folder / ".git").exists():
                break
    return path.resolve().parent


def digest_factory(reference: str, folder: Path) -> str:
    """Give a digest of the code that the factory may import from `folder`: every .py below it, but for environments.

    More than it reads, so that an edit of a helper module is never missed.
    """
    total = hashlib.sha256(reference.encode())
    for file in _modules_below(folder):
        total.update(f"\n{file.relative_to(folder).as_posix()} {digest_file(file)}".encode())
    return total.hexdigest()


def _modules_below(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.py"))
    for child in sorted(folder.iterdir()):
        is_environment = child.name.startswith(".") or (child / "pyvenv.cfg").exists() or child.name == "node_modules"
        if child.is_dir() and not child.is_symlink() and not is_environment:
            found += _modules_below(child)
    return found


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
    """Drop loaded modules that an import from `root` must read again: its own (edited, perhaps) and namesakes."""
    if PathFinder.find_spec(top, [root]) is None:
        return
    beside = {file.stem for file in Path(root).glob("*.py")}
    for name, module in list(sys.modules.items()):
        first = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        is_stale_helper = first in beside and file is not None and Path(file).parent == Path(root)
        if first == top or is_stale_helper:
            del sys.modules[name]
