"""What kinds of things can be asked of a model."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ferryman.core.bundle import Bundle
from ferryman.core.signature import Array
from ferryman.core.task import Item, Task

ItemKind = Literal["picture", "row", "tensors"]

_log = logging.getLogger("ferryman.server")


def kind_of_items(bundle: Bundle) -> ItemKind:
    """Tell from the golden samples what one item of a model is: a picture, a table's row or plain tensors."""
    item: Item | None = bundle.golden[0].item if bundle.golden else None
    if item is None:
        return "tensors"
    if not isinstance(item, Mapping):
        return "picture"
    return "tensors" if item and all(isinstance(value, np.ndarray) for value in item.values()) else "row"


@runtime_checkable
class _OfTables(Protocol):
    """Be the task of a table's model: it tells empty cells from others."""

    def has_missing(self, row: Mapping[str, Any], /) -> bool:  # cells
        """Tell whether a number is missing in a row."""

    def refuse_missing(self, inputs: Mapping[str, Array], /) -> None:
        """Raise InputError for inputs with a number that is missing or infinite."""


Refuse = Callable[[Mapping[str, Array]], None]
"""Raise InputError for inputs that a model is not to be asked about."""


def refusal_of_missing(bundle: Bundle, task: Task) -> Refuse | None:
    """Give what refuses rows with empty cells; None where the task has no rows, or the bundle says that it takes them.

    A bundle that says nothing was built before that was asked: its rows are all taken.
    """
    if not isinstance(task, _OfTables):
        return None
    takes_missing = getattr(bundle.deployment.task, "missing", None)
    if takes_missing is False:
        return task.refuse_missing
    rows = (sample.item for sample in bundle.golden if isinstance(sample.item, Mapping))
    if takes_missing is None and not any(task.has_missing(row) for row in rows):
        _log.warning(
            "model '%s' doesn't say whether it was verified on empty cells, so it is asked about them: build it again, "
            "or with [task] missing = false",
            bundle.manifest.name,
        )
    return None
