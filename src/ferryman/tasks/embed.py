"""Embeddings: texts in, vectors out that lie close where the texts mean the like."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ferryman.core.errors import ConfigError, DataError
from ferryman.core.signature import Array, Signature
from ferryman.core.task import Agreement, Answer, Batch, Item, Measurement, Samples, TaskSpec, Truth
from ferryman.tasks.labels import Names
from ferryman.tasks.resample import measure_mean
from ferryman.tasks.text import TextSpec, bind_text

Floats = NDArray[np.float64]
_BLOCK = 256  # texts that are set beside all others at once: 100 MB for 50 000


class EmbedSpec(TextSpec):
    """Be the `[task]` section of a model that embeds texts."""

    kind: Literal["embed"] = Field("embed", description="What the tensors mean.")
    columns: Annotated[Names, Field(max_length=1)] = Field(
        ("text",), description="What the text is called in tables and requests."
    )
    pairs: Annotated[Names, Field(min_length=2, max_length=2)] | None = Field(
        None, description="Two columns of a table that are both texts; its target says how alike they are."
    )
    output: str | None = Field(None, description="The output with the vector; the first by default.")


class EmbedTask:
    """Give a text its vector.

    An item is {"text": "..."}. An answer is {"embedding": [...]}. A truth is a label or, of a text of a pair,
    [number of the pair, likeness].
    """

    kind: ClassVar[str] = "embed"
    needs: ClassVar[tuple[str, ...]] = ("tokenizers",)
    extra: ClassVar[str] = "text"
    Spec: ClassVar[type[TaskSpec]] = EmbedSpec
    tolerance: ClassVar[Mapping[str, float]] = {"max_cosine_distance": 1e-3}
    rows_a_call: ClassVar[int] = 16  # as a text classifier's

    def __init__(self, spec: EmbedSpec, signature: Signature) -> None:
        self.spec = spec
        self._port = bind_text(spec, signature)
        ports = {port.name: port for port in signature.outputs}
        self._output = spec.output or next(iter(ports), "")
        if self._output not in ports:
            raise ConfigError(
                f"[task] output = '{self._output}' is no output of the model", hint=f"it has {list(ports)}"
            )
        if len(ports[self._output].shape) != 2:
            raise ConfigError(
                f"output '{self._output}' is {list(ports[self._output].shape)}, not one vector a text",
                hint="export the model with its pooling, or name the output that is pooled: [task] output",
            )

    def preprocess(self, items: Sequence[Item]) -> Batch:
        """Turn texts into tokens, padded to the longest; raises InputError that names the text."""
        return Batch(inputs=self._port.write(items), contexts=(None,) * len(items))

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        """Give each text its vector, rounded to 6 digits after the point."""
        values = np.asarray(outputs[self._output], np.float64).reshape(len(batch.contexts), -1)
        return [{"embedding": row} for row in np.round(values, 6).tolist()]

    def agreement(self, reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
        """Give the largest and the mean cosine distance.

        score_shift is that mean, too: it has a contract bound the distance where no metric does.
        """
        if not reference:
            return Agreement({"max_cosine_distance": 0.0, "mean_cosine_distance": 0.0})
        distances = 1.0 - _cosines(_vectors(reference), _vectors(answers))
        distances = np.where(distances < 1e-12, 0.0, distances)
        mean = float(distances.mean())
        return Agreement(
            {"max_cosine_distance": float(distances.max()), "mean_cosine_distance": mean, "score_shift": mean}
        )

    def measure(self, answers: Sequence[Answer], truths: Sequence[Truth], metric: str | None) -> Measurement:
        """Compute spearman or pearson, of cosine and likeness of pairs; nearest, of labels.

        nearest is the share of texts whose nearest other text has the same label.
        """
        vectors = _vectors(answers)
        is_paired = bool(truths) and all(isinstance(truth, list | tuple) for truth in truths)
        known = ("spearman", "pearson") if is_paired else ("nearest",)
        chosen = metric or known[0]
        if chosen not in known:
            raise ConfigError(
                f"these truths have no metric '{chosen}'",
                hint=f"{'pairs' if is_paired else 'labels'} have {' and '.join(known)}",
            )
        if not is_paired:
            return measure_mean("nearest", _nearest_hits(vectors, truths), higher_is_better=True)
        first, second = _places_of_pairs(truths)
        likeness = np.asarray([truths[place][1] for place in first], np.float64)
        return _measure_pairs(chosen, _cosines(vectors[first], vectors[second]), likeness)


def split_pairs(rows: Samples, pairs: tuple[str, ...], column: str) -> Samples:
    """Give two items for each row of a table of pairs, one after the other, with the pair's number and likeness."""
    items: list[Item] = []
    names, truths = [], []
    for place, row in enumerate(rows.items):
        for name in pairs:
            items.append({column: cast(Mapping[str, Any], row)[name]})
            names.append(f"{rows.names[place]} {name}")
            if rows.truths is not None:
                truths.append([place, _likeness(rows.truths[place], rows.names[place])])
    return Samples(items, names, None if rows.truths is None else truths, f"{rows.digest}-{pairs}")


def _likeness(truth: Truth, name: str) -> float:
    try:
        value = float(truth)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{name}: {truth!r:.40} doesn't say how alike the texts are", hint="give a number, as 0.8")
    return value


def _vectors(answers: Sequence[Answer]) -> Floats:
    return np.asarray([answer["embedding"] for answer in answers], np.float64)


def _cosines(first: Floats, second: Floats) -> Floats:
    """Give the cosine of each row with the other's; 1 of two null vectors, 0 of one."""
    if first.shape != second.shape:
        return np.full(len(first), np.nan)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    is_null = lengths == 0
    cosines = (first * second).sum(axis=1) / np.where(is_null, 1.0, lengths)
    both_null = np.asarray((first == second).all(axis=1), np.float64)
    return np.asarray(np.where(is_null, both_null, np.clip(cosines, -1.0, 1.0)), np.float64)


def _places_of_pairs(truths: Sequence[Truth]) -> tuple[list[int], list[int]]:
    """Give where the first and the second text of each pair lie; raises DataError for a text without its other."""
    places: dict[int, list[int]] = {}
    for place, truth in enumerate(truths):
        places.setdefault(int(truth[0]), []).append(place)
    for pair, found in places.items():
        if len(found) != 2:
            raise DataError(f"pair {pair} has {len(found)} texts here, not 2", hint="measure on whole pairs")
    return [first for first, _ in places.values()], [second for _, second in places.values()]


def _nearest_hits(vectors: Floats, truths: Sequence[Truth]) -> Floats:
    if len(truths) < 2:
        raise DataError("one text has no nearest other one", hint="give more labelled texts")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths == 0, 1.0, lengths)
    nearest = [_nearest(unit, range(start, min(start + _BLOCK, len(unit)))) for start in range(0, len(unit), _BLOCK)]
    labels = np.asarray([str(truth) for truth in truths])
    return np.asarray(labels[np.concatenate(nearest)] == labels, np.float64)


def _nearest(unit: Floats, rows: range) -> NDArray[np.int64]:
    """Give the place of the nearest other vector for some of the vectors of length 1."""
    likeness = unit[rows.start : rows.stop] @ unit.T
    likeness[np.arange(len(rows)), rows] = -np.inf
    return np.asarray(likeness.argmax(axis=1), np.int64)


def _measure_pairs(metric: str, cosines: Floats, likeness: Floats) -> Measurement:
    if len(cosines) < 3 or np.ptp(likeness) == 0:
        raise DataError("a correlation needs three pairs or more, not all equally alike", hint="give more pairs")
    statistics: dict[str, Callable[[Floats, Floats], float]] = {"spearman": _spearman, "pearson": _pearson}
    chosen = statistics[metric]

    def resampled(indices: NDArray[np.int64]) -> Floats:
        # Texts are resampled, but a pair stands or falls as one: half as many pairs as texts are drawn.
        drawn = indices[:, : len(cosines)] // 2
        return np.asarray([chosen(cosines[row], likeness[row]) for row in drawn], np.float64)

    figures = {name: statistic(cosines, likeness) for name, statistic in statistics.items()}
    return Measurement(metric, figures[metric], True, resampled, figures)


def _spearman(first: Floats, second: Floats) -> float:
    return _pearson(_ranks(first), _ranks(second))


def _pearson(first: Floats, second: Floats) -> float:
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def _ranks(values: Floats) -> Floats:
    """Give ranks from 0; equal values share the mean of theirs."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[groups], np.float64)
