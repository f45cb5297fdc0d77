"""The columns of what comes out: the input's keys, then the answer's own."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.batch.chunk import Cells
from ferryman.batch.source import FILE, PLACE
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, DataError
from ferryman.core.task import Answer, Item

ROW = "row"
_KNOWN = {
    "label": "VARCHAR", "confidence": "DOUBLE", "probabilities": "MAP(VARCHAR, DOUBLE)", "value": "DOUBLE",
    "boxes": "DOUBLE[][]", "scores": "DOUBLE[]", "classes": "BIGINT[]", "labels": "VARCHAR[]", "embedding": "DOUBLE[]",
}  # fmt: skip
_JSON = "JSON"  # what has no form of its own: its JSON text


@dataclass(frozen=True, slots=True)
class Key:
    """Name a column of the input that goes along, what it is called in the output, and its SQL type."""

    column: str
    called: str
    kind: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Say what the model is given of a row (None: all but the keys), what goes along, and what the answer brings."""

    takes: tuple[str, ...] | None
    keys: tuple[Key, ...]
    answers: Mapping[str, str]
    is_files: bool = False

    @property
    def columns(self) -> dict[str, str]:
        """Give the output's columns and their SQL types, in order."""
        kinds = {name: "VARCHAR" if kind == _JSON else kind for name, kind in self.answers.items()}
        return {ROW: "BIGINT", **{key.called: key.kind for key in self.keys}, **kinds}

    def item(self, row: Cells) -> Item:
        """Give what the model is asked about; a column that a row lacks is left to the task, which refuses it."""
        if self.is_files:
            return Path(row[PLACE])
        if self.takes is None:
            own = {key.column for key in self.keys}
            return {name: cell for name, cell in row.items() if name not in own}
        return {name: row[name] for name in self.takes if name in row}

    def written(self, number: int, row: Cells, answer: Answer) -> dict[str, Any]:  # JSON
        """Give a row of the output."""
        flat = flatten(answer)
        values = {
            name: json.dumps(_plain(answer if name == "answer" else flat.get(name)), sort_keys=True)
            if kind == _JSON
            else _plain(flat.get(name))
            for name, kind in self.answers.items()
        }
        return {ROW: number, **self.named(row), **values}

    def named(self, row: Cells) -> dict[str, Any]:  # JSON
        """Give the keys of a row as they are called in the output; text for a column of text."""
        return {key.called: _as_key(row.get(key.column), key.kind) for key in self.keys}


def lay_out(bundle: Bundle, columns: Mapping[str, str], keys: Sequence[str] | None, *, is_files: bool) -> Layout:
    """Fit a bundle to an input's columns; raises DataError or ConfigError that names the column."""
    answers = _answers(bundle)
    if is_files:
        return Layout((), (Key(FILE, FILE, "VARCHAR"),), answers, is_files=True)
    takes = _takes(bundle)
    if missing := [name for name in takes or () if name not in columns]:
        raise DataError(
            f"the input lacks column '{missing[0]}'",
            hint=f"the model takes {', '.join(takes or ())}; the input has {', '.join(columns)}"[:500],
        )
    if unknown := [name for name in keys or () if name not in columns]:
        raise ConfigError(f"the input has no column '{unknown[0]}'", hint=f"it has {', '.join(columns)}"[:500])
    simple = {name: kind for name, kind in columns.items() if _is_simple(kind)}
    if odd := [name for name in keys or () if name not in simple]:
        raise ConfigError(f"column '{odd[0]}' is a {columns[odd[0]]}, which can't go along", hint="name other --keys")
    own = [name for name in simple if name not in takes] if takes is not None else []
    chosen = list(keys) if keys is not None else own
    named = tuple(
        Key(name, f"input_{name}" if name in answers or name == ROW else name, simple[name]) for name in chosen
    )
    called = [key.called.lower() for key in named] + [name.lower() for name in (ROW, *answers)]
    if twice := [name for name in called if called.count(name) > 1]:
        raise ConfigError(f"two columns of the output would be called '{twice[0]}'", hint="choose others with --keys")
    return Layout(takes, named, answers)


def flatten(answer: Answer) -> dict[str, Any]:  # JSON
    """Give an answer with its best label and its confidence beside the rest, where it has such."""
    scores, labels, shares = (answer.get(name) for name in ("scores", "labels", "probabilities"))
    if isinstance(shares, Mapping):
        own = shares.get(str(answer.get("label")), max(shares.values(), default=None))
        return {**answer, "label": str(answer.get("label")), "confidence": own}
    if "boxes" not in answer and isinstance(scores, list) and isinstance(labels, list) and scores and labels:
        return {**answer, "label": str(labels[0]), "confidence": scores[0]}
    return dict(answer)


def _answers(bundle: Bundle) -> dict[str, str]:
    found: dict[str, None] = {}
    for golden in bundle.golden:
        found |= dict.fromkeys(flatten(golden.answer))
    ranked = [name for name in _KNOWN if name in found]
    return {name: _KNOWN.get(name, _JSON) for name in (*ranked, *(name for name in found if name not in _KNOWN))} or {
        "answer": _JSON
    }


def _takes(bundle: Bundle) -> tuple[str, ...] | None:
    """Name the columns that a model takes; None where its cells have no names."""
    columns: tuple[str, ...] | None = getattr(bundle.deployment.task, "columns", None)
    if columns is not None:
        return tuple(columns)
    item = bundle.golden[0].item if bundle.golden else None
    if isinstance(item, Mapping):
        return tuple(item)
    ports = bundle.artifact.signature.inputs
    return None if len(ports) == 1 else tuple(port.name for port in ports)


def _is_simple(kind: str) -> bool:
    return not kind.endswith("]") and not kind.startswith(("STRUCT", "MAP", "UNION", "BLOB"))


def _as_key(value: Any, kind: str) -> Any:  # a cell; JSON
    if value is None or kind != "VARCHAR":
        return _plain(value)
    return _plain(value if isinstance(value, str) else json.dumps(_plain(value)))


def _plain(value: Any) -> Any:  # an answer's or a cell's; JSON that DuckDB reads
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {_plain(str(name)): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else _plain(str(value))
