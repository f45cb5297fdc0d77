"""A model that answers requests, and what kinds of things can be asked of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ferryman.core.bundle import Bundle
from ferryman.core.runtime import Session
from ferryman.core.task import Item, Task

ItemKind = Literal["picture", "row", "tensors"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Hold a loaded model; `version` is the start of its bundle's digest, so that it names exactly one model."""

    name: str
    version: str
    bundle: Bundle
    task: Task
    session: Session
    takes: ItemKind


def version_of(bundle: Bundle) -> str:
    """Give the version under which a bundle is served."""
    return bundle.manifest.digest[:12]


def kind_of_items(bundle: Bundle) -> ItemKind:
    """Tell from the golden samples what one item of this model is: a picture, a table's row or plain tensors."""
    item: Item | None = bundle.golden[0].item if bundle.golden else None
    if item is None:
        return "tensors"
    if not isinstance(item, Mapping):
        return "picture"
    return "tensors" if item and all(isinstance(value, np.ndarray) for value in item.values()) else "row"
