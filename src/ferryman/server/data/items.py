"""What kinds of things can be asked of a model."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ferryman.core.bundle import Bundle
from ferryman.core.task import Item

ItemKind = Literal["picture", "row", "tensors"]


def kind_of_items(bundle: Bundle) -> ItemKind:
    """Tell from the golden samples what one item of a model is: a picture, a table's row or plain tensors."""
    item: Item | None = bundle.golden[0].item if bundle.golden else None
    if item is None:
        return "tensors"
    if not isinstance(item, Mapping):
        return "picture"
    return "tensors" if item and all(isinstance(value, np.ndarray) for value in item.values()) else "row"
