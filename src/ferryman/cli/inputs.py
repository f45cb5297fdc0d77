"""Read what `ferryman infer` is asked about: pictures, tables, arrays, JSON, texts."""

import json
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.errors import InputError
from ferryman.core.task import Item
from ferryman.tasks.given import describe_given
from ferryman.tasks.rows import read_table

STDIN = "-"
_SHOWN_CHARS = 60
_FILE_NAME = re.compile(r"\S*/\S*|\S+\.[A-Za-z0-9]{2,5}")  # rather than a text of one word
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def read_items(names: Sequence[str], text_column: Callable[[], str] = str) -> list[tuple[str, Item]]:
    """Give each item with a name for messages; raises InputError or, for a table, DataError that says what is wrong.

    `text_column` says what the model calls a text, if it takes one: then what is no file is the text itself.
    """
    items: list[tuple[str, Item]] = []
    for name in names:
        if not name.strip():
            raise InputError("an empty text or name was given", hint="name a file, or write the text in quotes")
        path = Path(name) if name != STDIN else None
        is_text = path is not None and (path.suffix.lower() == ".txt" or not _is_there(path))
        column = text_column() if is_text else ""
        items.extend(_text(name, column) if column else _read(name))
    if not items:
        raise InputError(f"there is nothing to ask in {', '.join(names)}", hint="name a picture, a table or arrays")
    return items


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def _text(name: str, column: str) -> list[tuple[str, Item]]:
    path = Path(name)
    if not _is_there(path):
        if _FILE_NAME.fullmatch(name):
            hint = f'if it is the text itself, put it in a .txt file or in JSON: {{"{column}": ...}}'
            raise InputError(f"there is no file {name}", hint=hint)
        shown = " ".join(name.split())
        return [(shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}…", {column: name})]
    try:
        return [(name, {column: path.read_text(encoding="utf-8")})]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} can't be read: {error}", hint="text must be UTF-8") from None


def _read(name: str) -> list[tuple[str, Item]]:
    if name == STDIN:
        return _json_items("stdin", sys.stdin.read())
    path = Path(name)
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "doesn't exist"
        raise InputError(
            f"{name} {state}", hint="name pictures, a .csv, .tsv, .npz, .npy or .json file, or - for stdin"
        )
    suffix = path.suffix.lower()
    try:
        if path.name.lower().endswith(_TABLES):
            return _rows(path)
        if suffix == ".npz":
            return [(name, _arrays(path))]
        if suffix in (".json", ".jsonl"):
            return _json_items(name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} can't be read: {error}", hint="text must be UTF-8") from None
    return [(name, path)]


def _rows(path: Path) -> list[tuple[str, Item]]:
    """Give each row as column -> text: the task reads the cells, as it did when the model was verified."""
    _, rows = read_table(path)
    return [(f"{path}[{index}]", row) for index, row in enumerate(rows)]


def _arrays(path: Path) -> dict[str, Any]:  # name -> array
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no .npz of plain arrays: {error}", hint="numpy.savez writes one") from None


def _json_items(name: str, text: str) -> list[tuple[str, Item]]:
    """Take one object, a list of them, or one object a line."""
    try:
        rows = _parse(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}", hint="an object, a list of objects, or one a line") from None
    for row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{name} holds {describe_given(row)}, not rows", hint='a row is {"column": value, ...}')
    return [(name if len(rows) == 1 else f"{name}[{index}]", row) for index, row in enumerate(rows)]


def _parse(text: str) -> list[Any]:  # what the user wrote
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]
    return value if isinstance(value, list) else [value]
