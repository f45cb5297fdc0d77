"""Read class names from files."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ferryman.core.errors import ConfigError
from ferryman.tasks.names import COCO80

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Labels = Annotated[str, Field(min_length=1)] | Names
"""Class names in the order of the model's classes, or the file that holds them, or "coco80"."""

_MOST_BYTES = 16 * 1024 * 1024


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names: one a line, or a JSON list; raises ConfigError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"label file {path} has {path.stat().st_size} bytes", hint="it holds one name a line")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no label file {path}", hint="[task] labels is relative to ferryman.toml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"label file {path} can't be read: {error}", hint="it must be UTF-8 text") from None
    names = _parse_json(text, path) if path.suffix == ".json" else _parse_lines(text, path)
    if not names:
        raise ConfigError(f"label file {path} holds no names", hint="write one class name a line")
    return names


def resolve_labels(labels: str | tuple[str, ...] | None, folder: Path) -> tuple[str, ...] | None:
    """Turn a label file's path, relative to `folder`, into names; leave names as they are."""
    if not isinstance(labels, str):
        return labels
    if labels == "coco80":
        return COCO80
    return read_labels(folder / labels)


def require_resolved(labels: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Give the names, or raise ConfigError where they are still a file's path."""
    if isinstance(labels, str):
        raise ConfigError(f"[task] labels = '{labels}' was not read yet", hint="use spec.resolved(folder) first")
    return labels


def label_of(labels: tuple[str, ...] | None, index: int) -> str:
    """Name a class; its number where it has no name."""
    return labels[index] if labels is not None and 0 <= index < len(labels) else str(index)


def _parse_lines(text: str, path: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise ConfigError(f"{path}: line {lines.index('') + 1} is empty", hint="write one class name a line")
    return tuple(lines)


def _parse_json(text: str, path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"label file {path} is not valid JSON: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"label file {path} must hold a JSON list of strings")
    return tuple(names)
