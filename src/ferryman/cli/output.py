"""Write results: JSON or text on stdout, whole files or none."""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from ferryman.core.errors import UserError

WIDTH_WITHOUT_TERMINAL = 140
_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "↻": "~", "★": "*", "\N{EN DASH}": "-", "·": "|", "→": ">", "±": "~", "≤": "<",
     "…": ".", "█": "#", "░": "."}
)  # fmt: skip


def write_json(value: object) -> None:
    """Write one JSON document on one line; a figure that is not a number becomes null, as JSON has no other word."""
    sys.stdout.write(json.dumps(_as_json(value), ensure_ascii=True, allow_nan=False) + "\n")


def write_text(text: str) -> None:
    """Write a result for people."""
    write_to(sys.stdout, text)


def write_to(stream: TextIO, text: str) -> None:
    """Write text, with plainer signs where the stream's encoding lacks ours."""
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, errors="replace").decode(encoding)
    stream.write(text)


def has_color(stream: TextIO) -> bool:
    """Tell whether colour is wanted: a terminal, and no NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Give the columns of the terminal, or enough for every column where there is none."""
    return shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all; raises UserError that names it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}", hint="name another file") from None


def check_writable(path: Path | None) -> None:
    """Raise UserError now for a file that `write_file` couldn't write after a long work."""
    if path is not None and not path.exists():
        write_file(path, "")
        path.unlink()
    elif path is not None and not (path.is_file() and os.access(path, os.W_OK)):
        raise UserError(f"{path} can't be written", hint="name another file")


def _as_json(value: Any) -> Any:  # whatever a result holds
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(inner) for inner in value]
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "model_dump"):
        return _as_json(value.model_dump())
    return _as_json(value.tolist()) if hasattr(value, "tolist") else str(value)
