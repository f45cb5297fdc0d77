"""Write what comes before and after a model as two graphs of their own, which are joined with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ferryman.core.errors import NotApplicable
from ferryman.core.signature import Signature, TensorSpec
from ferryman.export.in_graph.boxes import BOX_PORTS, write_boxes
from ferryman.export.in_graph.classes import class_ports, write_classes
from ferryman.export.in_graph.picture import PICTURES, write_pictures
from ferryman.export.in_graph.sketch import OPSET, Model, Port

Bound = Mapping[str, Any]  # JSON
Scope = Literal["pre", "pre+post"]
KINDS = ("detect", "classify")


@dataclass(frozen=True, slots=True)
class Parts:
    """Hold the graphs before and after a model (None: its outputs stay), and what the whole takes and gives."""

    before: Model
    after: Model | None
    signature: Signature


def write_parts(bound: Bound, signature: Signature, scope: Scope, *, opset: int = OPSET) -> Parts:
    """Write a task's graphs for a model of this signature; raises NotApplicable for tasks that have none.

    `bound` is the task's spec bound to the model as plain JSON.
    """
    check_kind(bound["kind"])
    batch = signature.inputs[0].shape[0]
    before = write_pictures(bound["input"], batch, opset=opset)
    taken = _spec((PICTURES, "uint8", (batch, "height", "width", 3)))
    if scope == "pre":
        return Parts(before, None, Signature(inputs=(taken,), outputs=signature.outputs))
    if bound["kind"] == "detect":
        after, given = write_boxes(bound, signature, opset=opset), BOX_PORTS
    else:
        port = next(port for port in signature.outputs if port.name == bound["output"])
        after, given = write_classes(bound, port, opset=opset), class_ports(bound, port)
    return Parts(before, after, Signature(inputs=(taken,), outputs=tuple(map(_spec, given))))


def check_kind(kind: str) -> None:
    """Raise NotApplicable for a kind of task that has no graphs."""
    if kind not in KINDS:
        raise NotApplicable(
            f"build.in_graph: a task of kind '{kind}' has nothing that could be put in the graph",
            hint=f"only tasks of kind {' and '.join(KINDS)} have; leave build.in_graph out",
        )


def _spec(port: Port) -> TensorSpec:
    name, dtype, shape = port
    return TensorSpec(name=name, dtype=dtype, shape=tuple(shape))
