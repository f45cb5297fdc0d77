"""Read the plain bodies of models of texts: {"text": "..."}, or a list of them under the same name."""

from typing import Any

from ferryman.core.errors import InputError
from ferryman.server.data.models import Served
from ferryman.tasks.text import TextSpec

_ABOUT = ("id", "parameters")


def text_columns(served: Served) -> tuple[str, ...]:
    """Give what the texts of a model are called in requests; nothing where it takes none."""
    spec = served.bundle.deployment.task
    return spec.columns if isinstance(spec, TextSpec) else ()


def texts_as_rows(raw: dict[str, Any], served: Served) -> dict[str, Any]:  # from outside
    """Give a body with texts in its own keys as {"rows": [...]}, and any other as it is; raises InputError."""
    if "inputs" in raw or "rows" in raw:
        return raw
    columns = text_columns(served)
    if columns and all(key in _ABOUT for key in raw):
        example = ", ".join(f'"{column}": "..."' for column in columns)
        raise InputError(f"the request has no '{columns[0]}'", hint=f"send {{{example}}}")
    if not any(column in raw for column in columns):
        return raw
    if missing := [column for column in columns if column not in raw]:
        raise InputError(f"the request has no '{missing[0]}'", hint=f"this model takes {' and '.join(columns)}")
    if unknown := [key for key in raw if key not in (*columns, *_ABOUT)]:
        raise InputError(
            f"the request has '{unknown[0]:.80}', which the model doesn't take", hint=f"it takes {', '.join(columns)}"
        )
    lists = {column: raw[column] if isinstance(raw[column], list) else [raw[column]] for column in columns}
    if len({len(texts) for texts in lists.values()}) != 1:
        told = ", ".join(f"'{column}' {len(texts)}" for column, texts in lists.items())
        raise InputError(f"the lists of a pair's texts differ in length: {told}", hint="give as many of each")
    rows = [dict(zip(columns, texts, strict=True)) for texts in zip(*lists.values(), strict=True)]
    return {"rows": rows, **{key: raw[key] for key in _ABOUT if key in raw}}


def texts_schema(columns: tuple[str, ...]) -> dict[str, Any]:  # JSON schema
    """Describe such a body."""
    one = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    return {"type": "object", "required": list(columns), "properties": dict.fromkeys(columns, one)}
