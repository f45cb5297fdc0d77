"""Say in the user's words what was given where something else was wanted."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

_SCALARS: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "text"}


def describe_given(given: object) -> str:
    """Name what the user gave, for a message: "a file (photo.jpg)", "a table's row", "a number"."""
    if isinstance(given, Path):
        return f"a file ({given.name})"
    if isinstance(given, bytes):
        return "a file's content"
    if isinstance(given, np.ndarray):
        return "an array"
    if isinstance(given, Mapping):
        has_arrays = any(isinstance(cell, np.ndarray) for cell in given.values())
        return "a set of named arrays" if has_arrays else "a table's row"
    if isinstance(given, list | tuple):
        return "a list"
    return "nothing (null)" if given is None else _SCALARS.get(type(given), "something else")
