"""Image classification: pictures in, classes with scores out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from ferryman.core.errors import ConfigError
from ferryman.core.signature import Array, Signature
from ferryman.core.task import Agreement, Answer, Batch, Item, Measurement, TaskSpec, Truth
from ferryman.tasks.image import ImageInput, bind_image
from ferryman.tasks.labels import Labels, require_resolved, resolve_labels
from ferryman.tasks.picture import name_picture, read_picture
from ferryman.tasks.ranking import Ranking, bind_scores, compare_rankings
from ferryman.tasks.resample import measure_mean


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
    needs: ClassVar[tuple[str, ...]] = ("PIL",)
    Spec: ClassVar[type[TaskSpec]] = ClassifySpec
    tolerance: ClassVar[Mapping[str, float]] = {"label_changed": 0.0, "max_score_diff": 0.01}

    def __init__(self, spec: ClassifySpec, signature: Signature) -> None:
        self.spec = spec
        labels = require_resolved(spec.labels)
        self._port = bind_image(spec.input, signature)
        output = bind_scores(spec.output, signature, labels)
        self._ranking = Ranking(output, labels, spec.activation, spec.top_k)

    def preprocess(self, items: Sequence[Item]) -> Batch:
        """Decode pictures, fit them into the model's input; raises InputError."""
        pictures = [read_picture(item, name=name_picture(item, place)) for place, item in enumerate(items)]
        values, placements = self._port.write(pictures)
        return Batch(inputs={self._port.name: values}, contexts=placements)

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        """Give the best `top_k` classes of each picture."""
        return self._ranking.rank(outputs, len(batch.contexts))

    def agreement(self, reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
        """Compare best classes and scores, as `compare_rankings` does."""
        return compare_rankings(reference, answers)

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
        scores = np.asarray([answer["scores"][0] for answer in answers], np.float64)
        measured = measure_mean(chosen, hits[chosen], higher_is_better=True, figures=figures)
        return replace(measured, outcomes=(scores, hits["top1"] > 0))
