"""Read tables, arrays and JSON lines."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.artifact import digest_file
from ferryman.core.errors import DataError, InputError
from ferryman.core.signature import Array
from ferryman.core.task import Item, Samples, TaskSpec, Truth
from ferryman.tasks.tensor import read_arrays

_MOST_BYTES = 1 << 30
_JSON_LINES = 'each line is an object: {"column": value}'
_TRUTH_ARRAYS = ("target", "targets", "label", "labels", "y")


def read_rows(path: Path, task_spec: TaskSpec, *, target: str | None, needs_target: bool) -> Samples:
    """Read a .csv, .tsv (also .gz), .jsonl or .npz file, with the truths from `target`; raises DataError."""
    if path.suffix == ".npz":
        return _read_npz(path, target, needs_target=needs_target)
    if path.suffix == ".jsonl":
        columns, rows = _read_json_lines(path)
    else:
        columns, rows = read_table(path)
    wanted = getattr(task_spec, "columns", None)
    found = _target_of(target, columns, wanted, path, needs_target=needs_target)
    if wanted is not None and (missing := [name for name in wanted if name not in columns]):
        raise DataError(f"{path} has no column '{missing[0]}'", hint=f"it has {', '.join(columns)}")
    kept = wanted or [name for name in columns if name != found]
    places = range(len(rows))
    if path.suffix == ".jsonl" and wanted is None:
        items: list[Item] = [{name: cell for name, cell in row.items() if name != found} for row in rows]
    else:
        items = [{name: row.get(name) for name in kept} for row in rows]
    truths = None if found is None else [_truth(rows[place], found, path, place) for place in places]
    names = [f"{path.name} row {place + 1}" for place in places]
    return Samples(items, names, truths, digest_file(path))


def read_header(path: Path) -> list[str]:
    """Give the names of a table's columns; an .npz file has none. Raises DataError."""
    if path.suffix == ".npz":
        return []
    return _read_json_lines(path)[0] if path.suffix == ".jsonl" else read_table(path)[0]


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV or TSV file with a header line; raises DataError that names the line."""
    separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        reader = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter=separator, strict=True)
        columns = [name.strip() for name in next(reader, [])]
        if not columns or len(set(columns)) != len(columns) or "" in columns:
            raise DataError(
                f"{path}: line 1 must name each column once, but is {', '.join(columns)!r:.200}",
                hint="write the columns' names in its first line",
            )
        rows = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells, but {len(columns)} columns",
                    hint="put a cell that holds a separator or a line's end in double quotes",
                )
            rows.append(dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}", hint="quotes in a cell are doubled") from None
    if not rows:
        raise DataError(f"{path} holds no rows", hint="is it the right file?")
    return columns, rows


def _read_text(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError(f"{path} holds over {_MOST_BYTES} bytes", hint="use a part of it")
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}", hint="it must be UTF-8 text") from None


def _read_json_lines(path: Path) -> tuple[list[str], list[dict[str, Any]]]:  # the user's own JSON
    rows = []
    for place, line in enumerate(_read_text(path).splitlines()):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {place + 1} is not JSON: {error}", hint=_JSON_LINES) from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {place + 1} is not an object: {line:.80}", hint=_JSON_LINES)
        rows.append(row)
    if not rows:
        raise DataError(f"{path} holds no rows", hint="is it the right file?")
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _target_of(
    target: str | None, columns: Sequence[str], wanted: Sequence[str] | None, path: Path, *, needs_target: bool
) -> str | None:
    if target is None and wanted is not None:
        rest = [name for name in columns if name not in wanted]
        target = rest[0] if len(rest) == 1 else None
    if target is None:
        if needs_target:
            raise DataError(
                f"the column of {path} that holds the truth is not known",
                hint=f"set data.evaluation target = one of {', '.join(columns)}",
            )
        return None
    if target not in columns:
        if needs_target:
            raise DataError(f"{path} has no column '{target}'", hint=f"it has {', '.join(columns)}")
        return None
    return target


def _truth(row: Mapping[str, Any], target: str, path: Path, place: int) -> Truth:  # the user's own JSON or text
    value = row.get(target)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(
            f"{path}, row {place + 1}: column '{target}' is empty, but it holds the truth", hint="leave the row out"
        )
    return value


def _read_npz(path: Path, target: str | None, *, needs_target: bool) -> Samples:
    try:
        loaded = read_arrays(path, name="data")
    except InputError as error:
        raise DataError(str(error), hint=error.hint) from None
    arrays: dict[str, Array] = dict(loaded) if isinstance(loaded, Mapping) else {}
    found = target or next((name for name in _TRUTH_ARRAYS if name in arrays), None)
    if needs_target and found not in arrays:
        raise DataError(
            f"{path} has no array '{found or _TRUTH_ARRAYS[0]}' with the truth",
            hint=f"set data.evaluation target = one of {', '.join(arrays)}",
        )
    lengths = {name: len(values) if values.ndim else 0 for name, values in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise DataError(
            f"{path}: its arrays must have one row an item, but their lengths are {lengths}",
            hint="save the inputs (and the truth) of the same items",
        )
    count = next(iter(lengths.values()))
    inputs = [name for name in arrays if name != found]
    items: list[Item] = [{name: arrays[name][row : row + 1] for name in inputs} for row in range(count)]
    truths = None if found is None or found not in arrays else [_plain(arrays[found][row]) for row in range(count)]
    return Samples(items, [f"{path.name} row {row + 1}" for row in range(count)], truths, digest_file(path))


def _plain(value: Any) -> Truth:  # a numpy scalar or array
    return value.item() if np.ndim(value) == 0 else value
