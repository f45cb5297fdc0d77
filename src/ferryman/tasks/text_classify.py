"""Text classification: texts, or pairs of them, in; classes with scores out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from ferryman.core.errors import ConfigError, DataError
from ferryman.core.signature import Array, Signature
from ferryman.core.task import Agreement, Answer, Batch, Item, Measurement, TaskSpec, Truth
from ferryman.tasks.labels import Labels, label_of, require_resolved, resolve_labels
from ferryman.tasks.ranking import Ranking, bind_scores, compare_rankings
from ferryman.tasks.row_metrics import measure_labels, name_truth
from ferryman.tasks.text import TextSpec, bind_text
from ferryman.tasks.truths import number_of


class TextClassifySpec(TextSpec):
    """Be the `[task]` section of a text classifier."""

    kind: Literal["text-classify"] = Field("text-classify", description="What the tensors mean.")
    labels: Labels | None = Field(
        None, description="Class names, or the file with one name a line; numbers by default."
    )
    activation: Literal["none", "softmax", "sigmoid"] = Field(
        "softmax", description="What makes scores of the outputs; sigmoid where several classes may hold at once."
    )
    top_k: Annotated[int, Field(gt=0, le=1000)] = Field(5, description="Most classes of one answer.")
    positive: str | None = Field(None, description="The label that f1 and auc look for, where there are two.")
    output: str | None = Field(None, description="The output with a number for each class; the first by default.")

    def resolved(self, folder: Path) -> Self:
        """Give the spec with its label file and its tokenizer found, relative to `folder`."""
        labels = resolve_labels(self.labels, folder)
        return super().resolved(folder).model_copy(update={"labels": labels})


class TextClassifyTask:
    """Say what class a text is of.

    An item is {"text": "..."}, or as [task] columns name it; two columns are a pair. An answer is {"classes":
    [numbers], "labels": [names], "scores": [...]}, best first. A truth is a label or a class number.
    """

    kind: ClassVar[str] = "text-classify"
    needs: ClassVar[tuple[str, ...]] = ("tokenizers",)
    extra: ClassVar[str] = "text"
    Spec: ClassVar[type[TaskSpec]] = TextClassifySpec
    tolerance: ClassVar[Mapping[str, float]] = {"label_changed": 0.0, "max_score_diff": 0.01}
    rows_a_call: ClassVar[int] = 16  # the work of attention grows with the longest text, and its memory with the batch

    def __init__(self, spec: TextClassifySpec, signature: Signature) -> None:
        self.spec = spec
        self._labels = require_resolved(spec.labels)
        self._port = bind_text(spec, signature)
        output = bind_scores(spec.output, signature, self._labels)
        self._ranking = Ranking(output, self._labels, spec.activation, spec.top_k)

    def preprocess(self, items: Sequence[Item]) -> Batch:
        """Turn texts into tokens, padded to the longest; raises InputError that names the text."""
        return Batch(inputs=self._port.write(items), contexts=(None,) * len(items))

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        """Give the best `top_k` classes of each text."""
        return self._ranking.rank(outputs, len(batch.contexts))

    def agreement(self, reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
        """Compare best classes and scores, as `compare_rankings` does."""
        return compare_rankings(reference, answers)

    def measure(self, answers: Sequence[Answer], truths: Sequence[Truth], metric: str | None) -> Measurement:
        """Compute accuracy, f1 or, where an answer lists every class, auc; as a table's labels are measured."""
        chosen = metric or "accuracy"
        if chosen not in ("accuracy", "f1", "auc"):
            raise ConfigError(f"texts have no metric '{chosen}'", hint="they have accuracy, f1 and auc")
        named = [
            {
                "label": answer["labels"][0],
                "probabilities": dict(zip(answer["labels"], answer["scores"], strict=True)),
            }
            for answer in answers
        ]
        wanted = [self._label(truth, place) for place, truth in enumerate(truths)]
        return measure_labels(named, wanted, chosen, self.spec.positive)

    def _label(self, truth: Truth, place: int) -> str:
        if not isinstance(truth, str | int | float):
            raise DataError(
                f"row {place + 1}: its truth is not one label", hint="give one label, or class number, a text"
            )
        return label_of(self._labels, number_of(name_truth(truth), self._labels, f"row {place + 1}"))
