"""What a request for a model looks like, for pages and messages."""

import math
from collections.abc import Mapping
from typing import Any

from ferryman.server.data.models import Served
from ferryman.server.data.v2.messages import describe_tensors, to_json

_VALUES = {"BOOL": True, "BYTES": "text"}
_WHOLE_VALUES = 1000  # more are no example to read
_SHOWN_VALUES = 8
_SHOWN_COLUMNS = 3


def example_row(model: Served) -> dict[str, Any]:  # JSON
    """Show the columns and their kinds; the golden row's own values may be private."""
    item = model.bundle.golden[0].item
    columns = item.items() if isinstance(item, Mapping) else ()
    return {column: 0 if _is_number(cell) else "text" for column, cell in columns}


def example_tensor(tensor: Mapping[str, Any], *, most: int = _WHOLE_VALUES) -> dict[str, Any]:  # JSON
    """Show a whole tensor, or the beginning of its data where there are more values than `most`."""
    shape = [1 if size == -1 else size for size in tensor["shape"]]
    size = math.prod(shape)
    value: Any = _VALUES.get(tensor["datatype"], 0)  # of its datatype
    data = [value] * size if size <= most else [*[value] * _SHOWN_VALUES, "…"]
    return {**tensor, "shape": shape, "data": data}


def is_whole(example: Mapping[str, Any]) -> bool:
    """Tell that an example's data are all there, so that it may be sent as it is."""
    shape: list[int] = example["shape"]
    return math.prod(shape) <= _WHOLE_VALUES


def how_to_ask(model: Served) -> str:
    """Say in a line what a model takes, after words that name it."""
    tensors = [
        example_tensor(tensor, most=_SHOWN_VALUES) for tensor in describe_tensors(model.loaded.signature)["inputs"]
    ]
    ways = []
    if model.loaded.takes == "picture":
        ways.append("a picture's bytes (-H 'Content-Type: image/jpeg' --data-binary @FILE)")
    forms = [_text({"inputs": tensors[:1]}, more=len(tensors) > 1)]
    if model.loaded.takes == "row":
        row = example_row(model)
        few = dict(list(row.items())[:_SHOWN_COLUMNS])
        forms.insert(0, _text({"rows": [few]}, more=len(row) > len(few)))
    ways.append(f"JSON (-H 'Content-Type: application/json'), as {' or '.join(forms)}")
    return f"it takes {', or '.join(ways)}"


def _is_number(cell: Any) -> bool:  # of a golden row: a table's cells are text where they come from a file
    if not isinstance(cell, str) or not cell.strip():
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text(form: dict[str, Any], *, more: bool) -> str:  # JSON
    text = to_json(form).decode()
    return f"{text[:-3]}, ...{text[-3:]}" if more else text
