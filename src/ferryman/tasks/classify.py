"""Image classification: pictures in, classes with scores out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ferryman.core.errors import ConfigError, InputError
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.core.task import Agreement, Answer, Batch, Item, Measurement, TaskSpec, Truth
from ferryman.tasks.image import ImageInput, bind_image
from ferryman.tasks.labels import Labels, label_of, require_resolved, resolve_labels
from ferryman.tasks.picture import name_picture, read_picture
from ferryman.tasks.resample import measure_mean
from ferryman.tasks.shifts import mean_shifts


class ClassifySpec(TaskSpec):
    """Be the `[task]` section of an image classifier."""

    kind: Literal["classify"] = Field("classify", description="What the tensors mean.")
    input: ImageInput = Field(ImageInput(fit="crop"), description="How a picture becomes the model's input.")
    labels: Labels | None = Field(
        None, description="Class names, or the file with one name a line; numbers by default."
    )
    activation: Literal["none", "softmax", "sigmoid"] = Field(
        "none", description="What makes scores of the outputs; none where the model has it inside."
    )
    top_k: Annotated[int, Field(gt=0, le=1000)] = Field(5, description="Most classes of one answer.")
    output: str | None = Field(None, description="The output with a number for each class; the first by default.")

    def resolved(self, folder: Path) -> "ClassifySpec":
        """Give the spec with its label file, relative to `folder`, read in."""
        return self.model_copy(update={"labels": resolve_labels(self.labels, folder)})


class ClassifyTask:
    """Name what a picture shows.

    An answer is {"classes": [numbers], "labels": [names], "scores": [...]}, best first. A truth is a class number.
    """

    kind: ClassVar[str] = "classify"
    needs: ClassVar[tuple[str, ...]] = ("cv2",)
    Spec: ClassVar[type[TaskSpec]] = ClassifySpec
    tolerance: ClassVar[Mapping[str, float]] = {"label_changed": 0.0, "max_score_diff": 0.01}

    def __init__(self, spec: ClassifySpec, signature: Signature) -> None:
        self.spec = spec
        self._labels = require_resolved(spec.labels)
        self._port = bind_image(spec.input, signature)
        self._output = _bind_output(spec, signature, self._labels)

    def preprocess(self, items: Sequence[Item]) -> Batch:
        """Decode pictures, fit them into the model's input; raises InputError."""
        pictures = [read_picture(item, name=name_picture(item, place)) for place, item in enumerate(items)]
        values, placements = self._port.write(pictures)
        return Batch(inputs={self._port.name: values}, contexts=placements)

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        """Give the best `top_k` classes of each picture."""
        values = np.asarray(outputs[self._output], np.float64)
        if not batch.contexts or values.size % len(batch.contexts):
            raise InputError(f"the model's output '{self._output}' has shape {list(values.shape)} for this batch")
        scores = _activate(values.reshape(len(batch.contexts), -1), self.spec.activation)
        return [self._answer(row) for row in scores]

    def agreement(self, reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
        """Compare best classes and scores.

        label_changed: share of other best classes. score_shift, score_bias: of the reference's best class; left out
        where there is none. max_score_diff: over the reference's listed classes; one that the other doesn't list has
        at most the other's lowest listed score.
        """
        changed, shifts, differences = [], [], [0.0]
        for before, after in zip(reference, answers, strict=True):
            scores = dict(zip(after["classes"], after["scores"], strict=True))
            floor = min(after["scores"], default=0.0)
            changed.append(before["classes"][:1] != after["classes"][:1])
            deltas = [
                scores.get(number, min(floor, score)) - score
                for number, score in zip(before["classes"], before["scores"], strict=True)
            ]
            shifts.extend(deltas[:1])
            differences.extend(abs(delta) for delta in deltas)
        return Agreement(
            {
                "label_changed": float(np.mean(changed)) if changed else 0.0,
                "max_score_diff": float(np.max(differences)),
                **mean_shifts(shifts),
            }
        )

    def measure(self, answers: Sequence[Answer], truths: Sequence[Truth], metric: str | None) -> Measurement:
        """Compute top1 or top5: the share of pictures whose truth is among the best 1 or 5 classes."""
        chosen = metric or "top1"
        if chosen not in ("top1", "top5"):
            raise ConfigError(f"classification has no metric '{chosen}'", hint="it has top1 and top5")
        if chosen == "top5" and self.spec.top_k < 5:
            raise ConfigError(f"metric top5 needs [task] top_k >= 5, but it is {self.spec.top_k}")
        hits = {
            f"top{depth}": np.asarray(
                [truth in answer["classes"][:depth] for answer, truth in zip(answers, truths, strict=True)], np.float64
            )
            for depth in (1, 5)
            if depth <= self.spec.top_k
        }
        figures = {name: float(values.mean()) for name, values in hits.items() if values.size}
        return measure_mean(chosen, hits[chosen], higher_is_better=True, figures=figures)

    def _answer(self, scores: NDArray[np.float64]) -> Answer:
        # A NaN sorts last; it stays in the answer if it gets there, so that a comparison fails on it.
        best = np.argsort(-scores, kind="stable")[: self.spec.top_k].tolist()
        return {
            "classes": best,
            "labels": [label_of(self._labels, number) for number in best],
            "scores": np.round(scores[best], 6).tolist(),
        }


def _bind_output(spec: ClassifySpec, signature: Signature, labels: tuple[str, ...] | None) -> str:
    ports = {port.name: port for port in signature.outputs}
    name = spec.output or next(iter(ports), "")
    if name not in ports:
        raise ConfigError(f"[task] output = '{name}' is no output of the model", hint=f"it has {list(ports)}")
    count = _class_count(ports[name])
    if labels is not None and count is not None and count != len(labels):
        raise ConfigError(
            f"output '{name}' is {list(ports[name].shape)}: {count} classes, but there are {len(labels)} labels",
            hint="give one label a class, in the model's order (some models put a background class first)",
        )
    return name


def _class_count(port: TensorSpec) -> int | None:
    sizes = port.shape[1:]
    return int(np.prod(cast(tuple[int, ...], sizes))) if all(isinstance(size, int) for size in sizes) else None


def _activate(values: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)
    if activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -500.0, 500.0))), np.float64)
    return values
