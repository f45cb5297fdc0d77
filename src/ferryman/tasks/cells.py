"""Turn table rows into a model's inputs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferryman.core.errors import ConfigError, InputError
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.tasks.given import describe_given

Row = Mapping[str, Any]  # a cell is a number, a bool, text or None


@dataclass(frozen=True, slots=True)
class ColumnPort:
    """Feed one column to one input."""

    column: str
    port: TensorSpec


@dataclass(frozen=True, slots=True)
class TablePort:
    """Hold how rows become inputs: one matrix [N, F], or one input a column.

    `columns` is None for a matrix whose columns have no names: cells are then taken in the row's own order.
    """

    columns: tuple[str, ...] | None
    matrix: TensorSpec | None
    single: tuple[ColumnPort, ...]

    def write(self, rows: Sequence[Row]) -> dict[str, Array]:
        """Give the inputs of some rows; raises InputError that names row, column and value."""
        for place, row in enumerate(rows):
            self._check_columns(row, place)
        if self.matrix is not None:
            cells = [_ordered(row, self.columns) for row in rows]
            return {self.matrix.name: _numbers(cells, rows, self.columns, self.matrix.dtype)}
        inputs: dict[str, Array] = {}
        for part in self.single:
            if part.port.dtype == "string":
                texts = [_text(row[part.column], place, part.column) for place, row in enumerate(rows)]
                values: Array = np.asarray(texts, object)[:, None]
            else:
                values = _numbers([[row[part.column]] for row in rows], rows, (part.column,), part.port.dtype)
            inputs[part.port.name] = values if len(part.port.shape) == 2 else values[:, 0]
        return inputs

    def has_missing(self, row: Row) -> bool:
        """Tell whether a number is missing in a row."""
        texts = {part.column for part in self.single if part.port.dtype == "string"}
        return any(_is_missing(cell) for column, cell in row.items() if column not in texts)

    def refuse_missing(self, inputs: Mapping[str, Array]) -> None:
        """Raise InputError that names the first row and column whose number is missing (NaN) or infinite."""
        for name, values in inputs.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise self._missing(name, values)

    def _missing(self, name: str, values: Array) -> InputError:
        cells = np.asarray(values, np.float64).reshape(len(values), -1)
        place, at = np.argwhere(~np.isfinite(cells))[0]
        single = [part.column for part in self.single if part.port.name == name]
        names = self.columns if self.matrix is not None else single
        where = f"row {place + 1}, column '{names[at] if names else at}'"
        if np.isinf(cells[place, at]):
            return InputError(f"{where} is infinite", hint="send a finite number")
        return InputError(
            f"{where} is empty (null or NaN), and this model was verified on tables without empty cells",
            hint="send a number; if the model knows what to do with empty cells, build it with [task] missing = true",
        )

    def _check_columns(self, row: Row, place: int) -> None:
        if not isinstance(row, Mapping):
            raise InputError(
                f"row {place + 1} is {describe_given(row)}", hint='this model takes rows: {"column": value}, or a table'
            )
        if self.columns is None:
            width = self.matrix.shape[1] if self.matrix is not None else len(row)
            if isinstance(width, int) and len(row) != width:
                raise InputError(
                    f"row {place + 1} has {len(row)} cells; the model takes {width}",
                    hint="give the model's columns only, in its order; [task] columns would tell them by name",
                )
            return
        if row.keys() == set(self.columns):
            return
        missing = [name for name in self.columns if name not in row]
        if unknown := [name for name in row if name not in self.columns]:
            raise InputError(
                f"row {place + 1} has a column '{unknown[0]}' that the model doesn't take",
                hint=f"{'' if missing else f'drop {_listed(unknown)}: '}it takes {', '.join(self.columns)}",
            )
        raise InputError(
            f"row {place + 1} lacks column '{missing[0]}'",
            hint=f"the model takes {', '.join(self.columns)}",
        )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in columns)


def bind_table(columns: tuple[str, ...] | None, layout: str | None, signature: Signature) -> TablePort:
    """Fit columns to the model's inputs; raises ConfigError that says what doesn't fit."""
    first = signature.inputs[0]
    is_matrix = layout == "matrix" or (
        layout is None and len(signature.inputs) == 1 and len(first.shape) == 2 and first.shape[1] != 1
    )
    if is_matrix:
        return TablePort(columns=columns, matrix=_check_matrix(columns, signature), single=())
    names = columns or tuple(port.name for port in signature.inputs)
    if len(names) != len(signature.inputs):
        raise ConfigError(
            f"[task] columns has {len(names)} names, but the model has {len(signature.inputs)} inputs",
            hint=f"its inputs are {', '.join(port.name for port in signature.inputs)}",
        )
    ports = {port.name: port for port in signature.inputs}
    by_name = set(names) == set(ports)
    pairs = zip(names, signature.inputs, strict=True)
    single = tuple(ColumnPort(name, ports[name] if by_name else port) for name, port in pairs)
    return TablePort(columns=names, matrix=None, single=single)


def _check_matrix(columns: tuple[str, ...] | None, signature: Signature) -> TensorSpec:
    port = signature.inputs[0]
    if len(signature.inputs) != 1 or len(port.shape) != 2 or port.dtype == "string":
        shapes = ", ".join(f"'{each.name}' {each.dtype} {list(each.shape)}" for each in signature.inputs)
        raise ConfigError(f"[task] layout = 'matrix' needs one input of numbers [N, F]; the model takes {shapes}")
    width = port.shape[1]
    if columns is not None and isinstance(width, int) and len(columns) != width:
        raise ConfigError(
            f"[task] columns has {len(columns)} names, but the model's input '{port.name}' is {list(port.shape)}",
            hint=f"name {width} columns in the model's order, without the target",
        )
    return port


def _ordered(row: Row, columns: tuple[str, ...] | None) -> list[Any]:  # cells
    return list(row.values()) if columns is None else [row[name] for name in columns]


def _numbers(
    cells: Sequence[Sequence[Any]],  # a cell may be anything that JSON holds
    rows: Sequence[Row],
    columns: tuple[str, ...] | None,
    dtype: str,
) -> Array:
    wanted = np.dtype(dtype)
    names = [columns or tuple(map(str, row)) for row in rows]
    values = [
        [_number(cell, place, names[place][column], wanted) for column, cell in enumerate(row)]
        for place, row in enumerate(cells)
    ]
    return np.asarray(values, wanted).reshape(len(rows), -1)


def _number(cell: Any, place: int, column: str, wanted: np.dtype[Any]) -> float | int:  # any JSON value; any dtype
    if isinstance(cell, float) and wanted.kind == "f" and -1e38 < cell < 1e38:
        return cell
    where = f"row {place + 1}, column '{column}'"
    try:
        value = _parse(cell)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: {cell!r:.80} is not a number", hint="write a number, as 1 or 0.5") from None
    if wanted.kind == "f":
        if abs(value) > float(np.finfo(wanted).max):
            raise InputError(f"{where}: {value:g} is too large", hint=f"the model's numbers are {wanted.name}")
        return value
    if math.isnan(value):
        raise InputError(f"{where} is empty, but the model takes {wanted.name} there, which has no empty value")
    if not value.is_integer():
        raise InputError(f"{where}: {value} is not a whole number, but the model takes {wanted.name}")
    return _whole(cell, value, where, wanted)


def _whole(cell: Any, value: float, where: str, wanted: np.dtype[Any]) -> int:  # any JSON value; any dtype
    number = int(cell) if isinstance(cell, int) else int(value)
    if wanted.kind == "b":
        return int(bool(number))
    limits = np.iinfo(wanted)
    if not limits.min <= number <= limits.max:
        raise InputError(f"{where}: {number} doesn't fit {wanted.name}")
    return number


def _parse(cell: Any) -> float:  # any JSON value
    """Give a cell's number, NaN where it is missing; raises what float does."""
    return math.nan if cell is None or (isinstance(cell, str) and not cell.strip()) else float(cell)


def _is_missing(cell: Any) -> bool:  # any JSON value
    try:
        return math.isnan(_parse(cell))
    except (TypeError, ValueError, OverflowError):
        return False


def _text(cell: Any, place: int, column: str) -> str:  # any JSON value
    if cell is None:
        return ""
    if isinstance(cell, (str, int, float)):
        return str(cell)
    raise InputError(f"row {place + 1}, column '{column}': what it holds is neither text nor a number")
