"""Say which parts of a graph a step leaves in float, and why."""

from collections.abc import Iterable
from typing import Any

from ferryman.build.workshop import make_step
from ferryman.core.artifact import Artifact
from ferryman.core.proof import Kept
from ferryman.optimize.groups import groups, head_nodes, quantizable_nodes, tail_nodes

_TAIL = "decode tail (behind the last layer with weights of each branch)"
_HEAD = "head (the last layer with weights of each branch)"
_NAMED = "most harmful layers when quantized by themselves, or those that ferryman.toml names"
_UNNAMED = "kinds that harm more than those quantized, or those that ferryman.toml leaves out"


def kept_in_float(graph: Artifact, step_name: str, options: dict[str, Any]) -> tuple[Kept, ...]:
    """List the nodes of `graph` that the step with these options could quantize and doesn't, each with one reason."""
    step = make_step(step_name, options)
    left = dict.fromkeys(quantizable_nodes(graph.path))
    found: list[Kept] = []

    def keep(why: str, nodes: Iterable[str]) -> None:
        kept = tuple(node for node in nodes if node in left)
        for node in kept:
            del left[node]
        if kept:
            found.append(Kept(why=why, nodes=kept))

    excludes_head = getattr(step, "exclude_head", False)
    if excludes_head or getattr(step, "exclude_tail", False):
        keep(_TAIL, tail_nodes(graph.path))
    if excludes_head:
        keep(_HEAD, head_nodes(graph.path))
    keep(_NAMED, getattr(step, "exclude_nodes", ()))
    only = set(getattr(step, "only_nodes", ()))
    if only:
        keep(_UNNAMED, [node for group in groups(graph.path) for node in group.nodes if node not in only])
    return tuple(found)
