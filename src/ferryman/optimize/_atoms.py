"""Follow channels through an ONNX graph: which are one and the same wherever they go, and which must stay."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Model = Any  # onnx.ModelProto: onnx isn't imported at module level
Node = Any  # onnx.NodeProto
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Track:
    """Number the channel of each place along one axis of a tensor; what has one number stays or goes together."""

    axis: int
    ids: Ids


@dataclass(frozen=True, slots=True)
class Slot:
    """Say which channel each index of a dimension of an initializer belongs to; `layer` is the node that reads it."""

    tensor: str
    axis: int
    ids: Ids
    layer: str


@dataclass(frozen=True, slots=True)
class Count:
    """Say that a node writes the number of some channels down: as an attribute, or as entries of an input.

    `parts` has the channels that each entry counts; `input` is -1 for the attribute `group`.
    """

    node: str
    input: int
    entries: tuple[int, ...]
    parts: tuple[Ids, ...]


@dataclass(slots=True)
class Channels:
    """Hold what is known of all channels: a union-find over their numbers, and where they are written down."""

    parent: list[int] = field(default_factory=list)
    stays: set[int] = field(default_factory=set)
    tracks: dict[str, Track] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)

    def new(self, size: int, *, stays: bool = False) -> Ids:
        """Number `size` channels that nothing is known of."""
        first = len(self.parent)
        self.parent.extend(range(first, first + size))
        ids = np.arange(first, first + size)
        if stays:
            self.freeze(ids)
        return ids

    def root(self, one: int) -> int:
        """Give the number that stands for a channel and all that go with it."""
        while self.parent[one] != one:
            self.parent[one] = self.parent[self.parent[one]]
            one = self.parent[one]
        return one

    def roots(self, ids: Ids) -> Ids:
        """Give the number that stands for each channel."""
        return np.array([self.root(int(one)) for one in ids], dtype=np.int64)

    def join(self, left: Ids, right: Ids) -> None:
        """Let channels go together, pair by pair."""
        for one, other in zip(left, right, strict=True):
            first, second = self.root(int(one)), self.root(int(other))
            low, high = min(first, second), max(first, second)
            self.parent[high] = low

    def freeze(self, ids: Ids) -> None:
        """Let channels stay."""
        self.stays.update(int(one) for one in ids)

    def frozen(self) -> set[int]:
        """Give the roots of all that stays."""
        return {self.root(one) for one in self.stays}


class Walk:
    """Go through a graph once, in its own order; a rule answers False where it can't tell what its operator does."""

    def __init__(self, model: Model) -> None:
        import onnx

        self.model = model
        self.found = Channels()
        self.constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
        infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
        self.shapes = {info.name: _shape_of(info) for info in infos if info.type.tensor_type.HasField("shape")}

    def run(self, rules: "Mapping[str, Rule]") -> Channels:
        """Follow every channel; what no rule knows leaves its inputs' channels as they are."""
        graph = self.model.graph
        for node in graph.node:
            rule = rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if rule is None or not rule(self, node):
                for name in node.input:
                    self._freeze(name)
        for output in graph.output:
            self._freeze(output.name)
        for name in _captured(graph):
            self._freeze(name)
        self._join_shared()
        return self.found

    def _freeze(self, name: str) -> None:
        if name in self.found.tracks:
            self.found.freeze(self.found.tracks[name].ids)

    def _join_shared(self) -> None:
        """Let channels go together that are written in the same place of a tensor which several nodes read."""
        seen: dict[tuple[str, int], Slot] = {}
        axes: dict[str, dict[str, set[int]]] = {}
        for slot in self.found.slots:
            first = seen.setdefault((slot.tensor, slot.axis), slot)
            self.found.join(first.ids, slot.ids)
            axes.setdefault(slot.tensor, {}).setdefault(slot.layer, set()).add(slot.axis)
        for tensor, by_layer in axes.items():
            readers = {node.name for node in self.model.graph.node if tensor in node.input}
            if readers - set(by_layer) or len({frozenset(each) for each in by_layer.values()}) > 1:
                for (name, _), slot in seen.items():
                    if name == tensor:
                        self.found.freeze(slot.ids)

    def track(self, name: str, axis: int = 1) -> Track | None:
        """Give the channels of a tensor; ones that stay, along `axis`, where none were followed to it."""
        if name not in self.found.tracks:
            shape = self.shapes.get(name, ())
            size = shape[axis] if axis < len(shape) else None
            if name in self.constants or not isinstance(size, int):
                return None
            self.found.tracks[name] = Track(axis, self.found.new(size, stays=True))
        return self.found.tracks[name]

    def put(self, name: str, track: Track) -> bool:
        """Note the channels of what a node gives; True, as rules answer."""
        self.found.tracks[name] = track
        return True

    def write(self, node: Node, place: int, axis: int, ids: Ids) -> None:
        """Note that an input of a node, an initializer, has these channels along an axis."""
        self.found.slots.append(Slot(node.input[place], axis, ids, node.name))

    def count(self, node: Node, place: int, parts: dict[int, Ids]) -> None:
        """Note that a node's input (or -1: its `group`) tells numbers of channels, by entry."""
        self.found.counts.append(Count(node.name, place, tuple(parts), tuple(parts.values())))

    def rank(self, name: str) -> int | None:
        """Give how many dimensions a tensor has; None where that isn't known."""
        if name in self.constants:
            return int(self.constants[name].ndim)
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)


Rule = Callable[[Walk, Node], bool]


def moved(track: Track, axis: int) -> Track:
    """Give the same channels along another axis."""
    return replace(track, axis=axis)


def attributes_of(node: Node) -> dict[str, Any]:
    """Give a node's attributes as Python values."""
    import onnx

    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def _shape_of(info: Any) -> tuple[int | str | None, ...]:  # onnx.ValueInfoProto
    dims: Sequence[Any] = info.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims)


def _captured(graph: Any) -> Iterator[str]:  # onnx.GraphProto
    """Name the tensors that branches and loop bodies read from outside."""
    for node in graph.node:
        for entry in node.attribute:
            for inner in (*([entry.g] if entry.HasField("g") else []), *entry.graphs):
                for part in inner.node:
                    yield from part.input
                yield from (output.name for output in inner.output)
                yield from _captured(inner)
