"""What the asks of one call of the engine share: its outputs, cut up only where somebody looks."""

from collections.abc import Iterator, Mapping
from typing import Any

from ferryman.core.signature import Array


class Batch:
    """Hold the outputs of one call, a row for each of its asks; `note` is what a transport made of all rows at once."""

    __slots__ = ("arrays", "note")

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = arrays
        self.note: Any = None  # the transport's own


class Share(Mapping[str, Array]):
    """Be one ask's row of every output."""

    __slots__ = ("batch", "place")

    def __init__(self, batch: Batch, place: int) -> None:
        self.batch = batch
        self.place = place

    def __getitem__(self, name: str) -> Array:
        return self.batch.arrays[name][self.place : self.place + 1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.arrays)

    def __len__(self) -> int:
        return len(self.batch.arrays)
