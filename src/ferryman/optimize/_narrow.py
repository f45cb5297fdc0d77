"""Choose channels that a network can do without, and take them out of its graph."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ferryman.optimize._atoms import Channels, Ids, Model, Slot

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass(frozen=True, slots=True)
class Family:
    """Be channels that occur in the same places, so that each may go without the others; `worth` is relative."""

    roots: Ids
    worth: dict[int, float]


@dataclass(frozen=True, slots=True)
class Layer:
    """Be what one weighted layer multiplies: `scale` times the channels that are left along each axis."""

    name: str
    scale: float
    axes: tuple[Ids, ...]

    def work(self, gone: set[int]) -> float:
        """Give the number of multiplications without some channels."""
        total = self.scale
        for ids in self.axes:
            total *= sum(int(one) not in gone for one in ids)
        return total


def families(model: Model, channels: Channels) -> list[Family]:
    """List what may go, family by family: none of what stays, and nothing that no weights make."""
    frozen = channels.frozen()
    places: dict[int, set[int]] = {}
    worth: dict[int, list[float]] = {}
    constants = _constants(model)
    for number, slot in enumerate(channels.slots):
        roots = channels.roots(slot.ids)
        for one in roots:
            places.setdefault(int(one), set()).add(number)
        for one, value in _relative_energy(constants[slot.tensor], slot.axis, roots).items():
            worth.setdefault(one, []).append(value)
    found: dict[frozenset[int], list[int]] = {}
    for one, numbers in places.items():
        if one not in frozen and one in worth:
            found.setdefault(frozenset(numbers), []).append(one)
    return [_family(roots, worth) for roots in found.values()]


def _family(roots: list[int], worth: dict[int, list[float]]) -> Family:
    return Family(np.array(sorted(roots)), {one: float(np.mean(worth[one])) for one in roots})


def layers_with_work(model: Model, channels: Channels, positions: dict[str, int]) -> list[Layer]:
    """List the weighted layers; `positions` is how many places each one's filters are set to, by node."""
    constants = _constants(model)
    by_node: dict[str, list[Slot]] = {}
    for slot in channels.slots:
        by_node.setdefault(slot.layer, []).append(slot)
    found = []
    for node in model.graph.node:
        weight = next((name for name in node.input[1:2] if name in constants), None)
        if node.op_type not in WEIGHTED or weight is None:
            continue
        own = [slot for slot in by_node.get(node.name, ()) if slot.tensor == weight]
        sizes = {axis: size for axis, size in enumerate(constants[weight].shape)}
        scale = float(positions.get(node.name, 1))
        for axis, size in sizes.items():
            scale *= 1 if any(slot.axis == axis for slot in own) else size
        found.append(Layer(node.name, scale, tuple(channels.roots(slot.ids) for slot in own)))
    return found


def choose(found: list[Family], layers: list[Layer], *, share: float, multiple: int) -> set[int]:
    """Choose the channels that go, until a share of all multiplications has gone, or nothing more may.

    Widths go down in steps of `multiple` (of the next smaller power of two where a family has no more than that): the
    step is taken that costs the least worth for the work that it saves. After its first step, no family gives more
    than that share of its channels: work goes down with the square of widths, and so no layer becomes a bottleneck.
    """
    gone: set[int] = set()
    total = sum(layer.work(gone) for layer in layers)
    left = {index: len(family.roots) for index, family in enumerate(found)}
    touching = [[layer for layer in layers if _touches(layer, family)] for family in found]
    while sum(layer.work(gone) for layer in layers) > (1 - share) * total:
        best, price = None, np.inf
        for index, family in enumerate(found):
            dropped = _next_step(family, left[index], gone, (share, multiple))
            if not dropped:
                continue
            saved = sum(layer.work(gone) - layer.work(gone | set(dropped)) for layer in touching[index])
            cost = _worth_ratio(family, dropped, gone)
            if saved > 0 and cost / saved < price:
                best, price = (index, dropped), cost / saved
        if best is None:
            break
        gone.update(best[1])
        left[best[0]] -= len(best[1])
    return gone


def work_of(layers: list[Layer], gone: set[int]) -> float:
    """Give the multiplications of all layers."""
    return sum(layer.work(gone) for layer in layers)


def kept_along(channels: Channels, ids: Ids, gone: set[int]) -> Ids:
    """Give the indices of the channels that are left."""
    return np.flatnonzero([int(one) not in gone for one in channels.roots(ids)])


def narrow(model: Model, channels: Channels, gone: set[int]) -> Model:
    """Give the model without some channels: the same nodes, names, inputs and outputs."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    arrays = _constants(made)
    seen: set[tuple[str, int]] = set()
    for slot in channels.slots:
        if (slot.tensor, slot.axis) not in seen:
            seen.add((slot.tensor, slot.axis))
            arrays[slot.tensor] = np.take(arrays[slot.tensor], kept_along(channels, slot.ids, gone), axis=slot.axis)
    for entry in made.graph.initializer:
        if any(entry.name == name for name, _ in seen):
            entry.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(arrays[entry.name]), entry.name))
    _count_again(made, channels, gone)
    del made.graph.value_info[:]
    return made


def _count_again(model: Model, channels: Channels, gone: set[int]) -> None:
    """Write numbers of channels anew: each into a constant of its own, since small ones are shared."""
    import onnx

    nodes = {node.name: node for node in model.graph.node}
    arrays = _constants(model)
    for count in channels.counts:
        node = nodes[count.node]
        left = [len(kept_along(channels, part, gone)) for part in count.parts]
        if count.input < 0:
            for entry in node.attribute:
                if entry.name == "group":
                    entry.i = left[0]
            continue
        before = arrays[node.input[count.input]]
        after = before.copy()
        for entry, size in zip(count.entries, left, strict=True):
            after[entry] = size
        if not np.array_equal(before, after):
            name = f"{node.name}_{count.input}_kept"
            model.graph.initializer.append(onnx.numpy_helper.from_array(after, name))
            node.input[count.input] = name


def _touches(layer: Layer, family: Family) -> bool:
    return any(np.isin(family.roots, ids).any() for ids in layer.axes)


def _next_step(family: Family, left: int, gone: set[int], limits: tuple[float, int]) -> list[int]:
    """Give the channels of least worth that bring a family down to the next width; none where it has its least."""
    size, (share, step) = len(family.roots), limits
    while step >= size and step > 1:
        step //= 2
    target = (left - 1) // step * step
    if target < step or (left < size and target < (1 - share) * size) or size < 2:
        return []
    there = [int(one) for one in family.roots if int(one) not in gone]
    return sorted(there, key=lambda one: (family.worth[one], one))[: left - target]


def _worth_ratio(family: Family, dropped: list[int], gone: set[int]) -> float:
    """Give what would go beside what would be left: each further step of the same family costs more."""
    going = sum(family.worth[one] for one in dropped)
    there = sum(family.worth[int(one)] for one in family.roots if int(one) not in gone)
    return going / max(there - going, 1e-30)


def _relative_energy(weight: Any, axis: int, roots: Ids) -> dict[int, float]:  # an array
    """Give the squares of each channel's weights beside their mean; nothing for biases and norms."""
    if weight.ndim < 2:
        return {}
    squares = np.square(weight.astype(np.float64)).sum(axis=tuple(one for one in range(weight.ndim) if one != axis))
    squares /= max(squares.mean(), 1e-30)
    found: dict[int, float] = {}
    for one, value in zip(roots, squares, strict=True):
        found[int(one)] = found.get(int(one), 0.0) + float(value)
    return found


def _constants(model: Model) -> dict[str, Any]:  # arrays
    import onnx

    return {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
