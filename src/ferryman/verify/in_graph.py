"""Compare a model that has its task in the graph with the same model and its separate pre- and postprocessing."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.plugins import runtime_for
from ferryman.core.proof import CandidateProof, Footprint, Parity
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Tensors
from ferryman.core.task import Agreement, Answer, Item, Task, TaskSpec, bind_task, infer_items
from ferryman.export.in_graph.picture import INPUT, PICTURES, name_in_graph
from ferryman.tasks.boxes import iou, match
from ferryman.tasks.detections import to_boxes
from ferryman.tasks.picture import Picture, name_picture, read_picture
from ferryman.verify.examine import PARITY_SAMPLES
from ferryman.verify.parity import tensor_parity

STEP = "in-graph"
SUFFIX = "-in-graph"
_SAMPLES = 20
_LIMITS = {"unmatched": 0.0, "label_changed": 0.0, "max_score_diff": 1e-3, "max_iou_loss": 0.01}
"""Distances that count as the same answer: the model is the same, and so are its numbers, but for rounding."""


def is_in_graph(artifact: Artifact) -> bool:
    """Tell whether a model takes pictures instead of tensors."""
    return artifact.made_by[-1:] == (STEP,)


def examine_in_graph(
    line: CandidateProof, spec: TaskSpec, models: tuple[Artifact, Artifact], items: Sequence[Item], *, threads: int
) -> CandidateProof:
    """Answer pictures with a model and its task, and with both in one graph; `models` are these two.

    Some of the items are taken, evenly spread. Where answers differ the line is refused, and names the stage that
    does it. `parity` is of what the graph makes of the pictures for the model.
    """
    bare, whole = models
    task = bind_task(spec, bare.signature)
    pictures = [read_picture(item, name=name_picture(item, place)) for place, item in enumerate(_spread(items))]
    with closing(_open(bare, threads)) as plain, closing(_open(whole, threads)) as joined:
        pair = _Pair(task, bare, whole, plain)
        wanted = infer_items(task, plain, pictures)
        figures, over = _compare(task, wanted, [pair.answer(joined, picture) for picture in pictures])
        parity = pair.parity(pictures)
        blamed = pair.blame(pictures, wanted) if over else ""
    told = ", ".join(f"{name} {value:.3g} > {_LIMITS[name]:g}" for name, value in over.items())
    found = {
        "status": "refused" if over else "accepted",
        "reason": f"answers differ from the model's with its separate task: {told}; '{blamed}' diverges"
        if over
        else "",
        "agreement": figures,
        "parity": parity,
        "digest": whole.digest,
        "steps": whole.made_by,
        "footprint": Footprint(size_mb=whole.size_bytes / 1e6),
    }
    return line.model_copy(update=found)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Hold a model, the task that answers with it, and the same model with the task in its graph."""

    task: Task
    bare: Artifact
    whole: Artifact
    plain: Session

    @property
    def is_pre(self) -> bool:
        """Tell whether the graph ends with the model: its own outputs come out."""
        return self.whole.signature.outputs == self.bare.signature.outputs

    def answer(self, joined: Session, picture: Picture) -> Answer:
        """Answer with the task in the graph."""
        outputs = joined.infer(self.fed(picture))
        return self.finish(outputs, picture) if self.is_pre else _read_answer(outputs)

    def fed(self, picture: Picture) -> Tensors:
        """Give a picture as the graph takes it, red first, as often as the model's batch asks for."""
        flipped = np.ascontiguousarray(picture[None, :, :, ::-1])
        return {PICTURES: np.repeat(flipped, self.bare.signature.max_batch or 1, axis=0)}

    def prepare(self, picture: Picture) -> Any:  # core.task.Batch
        """Prepare a picture by the task."""
        return self.task.preprocess([picture] * (self.bare.signature.max_batch or 1))

    def finish(self, outputs: Mapping[str, Array], picture: Picture) -> Answer:
        """Read the model's own outputs by the task."""
        return self.task.postprocess(outputs, self.prepare(picture))[0]

    def look_inside(self, pictures: Sequence[Picture]) -> tuple[list[Tensors], list[Tensors]]:
        """Give what the graph makes of each picture for the model, and what the model makes of that in it."""
        runtime = runtime_for(self.whole.format).require()()
        own = {name_in_graph(port.name): port.name for port in self.bare.signature.outputs}
        inputs: list[Tensors] = []
        outputs: list[Tensors] = []
        for seen in runtime.trace(self.whole, [self.fed(picture) for picture in pictures], [INPUT, *own]):
            inputs.append({port.name: seen[INPUT].astype(port.dtype) for port in self.bare.signature.inputs})
            outputs.append({name: seen[tensor] for tensor, name in own.items()})
        return inputs, outputs

    def parity(self, pictures: Sequence[Picture]) -> Parity | None:
        """Tell how far the graph's inputs of the model are from the task's."""
        if "int8" in self.whole.precision:
            return None  # an engine shows quantized inputs as it rounds them
        some = pictures[:PARITY_SAMPLES]
        return tensor_parity([self.prepare(picture).inputs for picture in some], self.look_inside(some)[0])

    def blame(self, pictures: Sequence[Picture], wanted: Sequence[Answer]) -> str:
        """Name the first stage that changes answers: each that is alike is taken from the graph, the rest is plain."""
        inputs, outputs = self.look_inside(pictures)
        from_inputs = [self.finish(self.plain.infer(each), one) for each, one in zip(inputs, pictures, strict=True)]
        if _compare(self.task, wanted, from_inputs)[1]:
            return "pre"
        from_outputs = [self.finish(each, picture) for each, picture in zip(outputs, pictures, strict=True)]
        return "model" if _compare(self.task, wanted, from_outputs)[1] else "post"


def _spread(items: Sequence[Item]) -> list[Item]:
    count = min(len(items), _SAMPLES)
    return [items[round(place * (len(items) - 1) / max(count - 1, 1))] for place in range(count)]


def _open(artifact: Artifact, threads: int) -> Session:
    session: Session = runtime_for(artifact.format).require()().load(artifact, threads=threads)
    return session


def _read_answer(outputs: Mapping[str, Array]) -> Answer:
    """Give the first picture's answer, as its task would."""
    if "picture_index" in outputs:
        own = outputs["picture_index"] == 0
        return {name: outputs[name][own].tolist() for name in ("boxes", "scores", "classes")}
    return {name: outputs[name][0].tolist() for name in ("scores", "classes")}


def _compare(task: Task, wanted: Sequence[Answer], got: Sequence[Answer]) -> tuple[dict[str, float], dict[str, float]]:
    """Give how far answers are apart, and what of it is over its limit."""
    figures = dict(task.agreement(wanted, got).figures)
    if "unmatched" in figures:
        figures["max_iou_loss"] = max((_iou_loss(*pair) for pair in zip(wanted, got, strict=True)), default=0.0)
    limits = {name: limit for name, limit in _LIMITS.items() if name in figures}
    return figures, Agreement(figures).beyond(limits)


def _iou_loss(wanted: Answer, got: Answer) -> float:
    """Give 1 - IoU of the pair of boxes that is farthest apart."""
    before, after = to_boxes(wanted), to_boxes(got)
    pairs = match(before, after, overlap=0.5)
    overlaps = np.diagonal(iou(before.corners[pairs[:, 0]], after.corners[pairs[:, 1]]))
    return float(np.max(1.0 - overlaps, initial=0.0))
