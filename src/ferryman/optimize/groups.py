"""Group the layers of an ONNX model for the search of what INT8 breaks."""

from dataclasses import dataclass
from pathlib import Path

from ferryman.optimize._graph import Layer, last_weighted, layers_of, tail_of
from ferryman.optimize._onnx import load, name_nodes


@dataclass(frozen=True, slots=True)
class Group:
    """Name layers of one kind: each layer is in one group; `op` is the operator that most of them have."""

    name: str
    nodes: tuple[str, ...]
    op: str
    is_tail: bool = False
    is_head: bool = False


def groups(model_path: Path) -> list[Group]:
    """List the kinds of layers that INT8 quantizes, in order of first use; "head" and "tail" come last.

    "head" holds the last weighted layer of each branch, "tail" whatever follows it.
    """
    layers = _layers(model_path)
    tail, head = tail_of(layers), last_weighted(layers)
    members: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.kind and layer.name not in tail and layer.name not in head:
            members.setdefault(layer.kind, []).append(layer)
    found = [_group(kind, inside) for kind, inside in members.items()]
    if head:
        found.append(_group("head", [layer for layer in layers if layer.name in head], is_head=True))
    if tail:
        found.append(_group("tail", [layer for layer in layers if layer.name in tail], is_tail=True))
    return found


def tail_nodes(model_path: Path) -> list[str]:
    """Name the nodes behind the last weighted layer on every path to the outputs, in graph order."""
    layers = _layers(model_path)
    tail = tail_of(layers)
    return [layer.name for layer in layers if layer.name in tail]


def head_nodes(model_path: Path) -> list[str]:
    """Name the last weighted node of each branch and the tail, in graph order."""
    layers = _layers(model_path)
    head = tail_of(layers) | last_weighted(layers)
    return [layer.name for layer in layers if layer.name in head]


def quantizable_nodes(model_path: Path) -> list[str]:
    """Name the nodes that INT8 has something to do with, in graph order."""
    return [layer.name for layer in _layers(model_path) if layer.kind]


def _layers(model_path: Path) -> list[Layer]:
    model = load(model_path)
    name_nodes(model)
    return layers_of(model)


def _group(name: str, layers: list[Layer], *, is_tail: bool = False, is_head: bool = False) -> Group:
    ops = [layer.op for layer in layers]
    return Group(
        name=name,
        nodes=tuple(layer.name for layer in layers),
        op=max(dict.fromkeys(ops), key=ops.count),
        is_tail=is_tail,
        is_head=is_head,
    )
