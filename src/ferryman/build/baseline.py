"""Statistics of the user's own inputs and answers, kept in the bundle to set later traffic beside."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydantic import JsonValue

from ferryman.core.signature import Array, Tensors
from ferryman.core.task import Answer
from ferryman.verify.scores import confidences

_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def describe(inputs: Iterable[Tensors], answers: Sequence[Answer]) -> dict[str, JsonValue]:
    """Give mean, deviation and quantiles of each input, by channel (axis 1) where there are few, and of the answers."""
    gathered: dict[str, list[Array]] = {}
    for tensors in inputs:
        for name, value in tensors.items():
            if value.dtype.kind in "fiub":
                gathered.setdefault(name, []).append(value)
    return {
        "inputs": {name: _describe_input(values) for name, values in gathered.items()},
        "answers": _describe_answers(answers),
    }


def _describe_input(values: list[Array]) -> JsonValue:
    is_even = len({value.shape[1:] for value in values}) == 1  # texts differ in length
    channels = values[0].shape[1] if is_even and values[0].ndim > 1 and values[0].shape[1] <= 64 else 0
    if not channels:
        return {"all": _spread(np.concatenate([value.ravel()[:100_000] for value in values]))}
    return {
        str(index): _spread(np.concatenate([np.asarray(value[:, index]).ravel()[:100_000] for value in values]))
        for index in range(channels)
    }


def _spread(values: Array) -> dict[str, JsonValue]:
    numbers = np.asarray(values, np.float64)
    known = numbers[np.isfinite(numbers)]
    if not known.size:
        return {"count": int(numbers.size), "missing": 1.0}
    quantiles = zip(_QUANTILES, np.quantile(known, _QUANTILES), strict=True)
    return {
        "count": int(numbers.size),
        "missing": round(float(1 - known.size / numbers.size), 6),
        "mean": round(float(known.mean()), 6),
        "std": round(float(known.std()), 6),
        "quantiles": {f"{share:g}": round(float(value), 6) for share, value in quantiles},
    }


def _describe_answers(answers: Sequence[Answer]) -> JsonValue:
    labels: Counter[str] = Counter()
    counts = []
    scores: list[float] = []
    for answer in answers:
        scores.extend(confidences(answer))
        found = _labels(answer)
        labels.update(found)
        counts.append(len(found))
    described: dict[str, JsonValue] = {"count": len(answers), "labels": dict(sorted(labels.items()))}
    if scores:
        described["confidence"] = _spread(np.array(scores))
    if any("boxes" in answer for answer in answers):
        described["boxes_per_answer"] = _spread(np.array(counts))
    if values := [answer["value"] for answer in answers if "value" in answer]:
        described["value"] = _spread(np.array(values))
    return described


def _labels(answer: dict[str, Any]) -> list[str]:  # an Answer
    if "label" in answer:
        return [str(answer["label"])]
    labels = [str(label) for label in answer.get("labels", [])]
    return labels if "boxes" in answer else labels[:1]
