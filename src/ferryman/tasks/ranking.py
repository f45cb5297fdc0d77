"""Classes with scores, best first: what classifiers of pictures and of texts answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferryman.core.errors import ConfigError, InputError
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.core.task import Agreement, Answer
from ferryman.tasks.labels import label_of
from ferryman.tasks.shifts import mean_shifts


@dataclass(frozen=True, slots=True)
class Ranking:
    """Turn the numbers of one output into answers: {"classes": [numbers], "labels": [names], "scores": [...]}."""

    output: str
    labels: tuple[str, ...] | None
    activation: str
    top_k: int

    def rank(self, outputs: Mapping[str, Array], count: int) -> list[Answer]:
        """Give the best `top_k` classes of each of `count` items; raises InputError where the output has other rows."""
        values = np.asarray(outputs[self.output], np.float64)
        if not count or values.size % count:
            raise InputError(f"the model's output '{self.output}' has shape {list(values.shape)} for this batch")
        return [self._answer(row) for row in _activate(values.reshape(count, -1), self.activation)]

    def _answer(self, scores: NDArray[np.float64]) -> Answer:
        # A NaN sorts last; it stays in the answer if it gets there, so that a comparison fails on it.
        best = np.argsort(-scores, kind="stable")[: self.top_k].tolist()
        return {
            "classes": best,
            "labels": [label_of(self.labels, number) for number in best],
            "scores": np.round(scores[best], 6).tolist(),
        }


def compare_rankings(reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
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


def bind_scores(wanted: str | None, signature: Signature, labels: tuple[str, ...] | None) -> str:
    """Give the name of the output with a number for each class; raises ConfigError where it doesn't fit."""
    ports = {port.name: port for port in signature.outputs}
    name = wanted or next(iter(ports), "")
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
    count = 1
    for size in port.shape[1:]:
        if not isinstance(size, int):
            return None
        count *= size
    return count


def _activate(values: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)
    if activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -500.0, 500.0))), np.float64)
    return values
