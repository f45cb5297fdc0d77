"""Metrics of tables' labels and values, each a function of the rows' weights."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.core.errors import ConfigError, DataError
from ferryman.core.task import Answer, Measurement, Truth
from ferryman.tasks.resample import Statistic, measure_weighted

Floats = NDArray[np.float64]


def measure_labels(
    answers: Sequence[Answer], truths: Sequence[Truth], metric: str, positive: str | None
) -> Measurement:
    """Compute accuracy, f1 or auc.

    f1 is that of `positive`, else the mean over labels; auc likewise, one label against the rest. Of two labels
    without `positive`, auc looks for the second, which gives the same figure.
    """
    given = np.asarray([str(answer["label"]) for answer in answers])
    wanted = np.asarray([name_truth(truth) for truth in truths])
    labels = sorted(set(wanted) | set(given))
    if positive is not None and positive not in labels:
        raise ConfigError(f"[task] positive = '{positive}' is no label of this data", hint=f"it has {labels}")
    places = {label: place for place, label in enumerate(labels)}
    found = np.asarray([places[label] for label in given], np.int64)
    right = np.asarray([places[label] for label in wanted], np.int64)
    looked_for = [places[positive]] if positive is not None else list(range(len(labels)))

    def accuracy(weights: Floats) -> float:
        return float((weights * (found == right)).sum() / weights.sum())

    def f1(weights: Floats) -> float:
        return _f1(found, right, weights, looked_for)

    statistics: dict[str, Statistic] = {"accuracy": accuracy, "f1": f1}
    if all(set(answer["probabilities"]) >= set(labels) for answer in answers):
        statistics["auc"] = _auc_statistic(answers, [label == wanted for label in labels], labels, looked_for)
    measured = _measure(metric, statistics, len(answers), higher_is_better=True)
    if not all(answer["probabilities"] for answer in answers):
        return measured
    scores = np.asarray([max(answer["probabilities"].values()) for answer in answers], np.float64)
    return replace(measured, outcomes=(scores, found == right))


def measure_values(answers: Sequence[Answer], truths: Sequence[Truth], metric: str) -> Measurement:
    """Compute rmse, mae or r2."""
    given = np.asarray([answer["value"] for answer in answers], np.float64)
    try:
        wanted = np.asarray([float(truth) for truth in truths], np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"a regression's truth must be a number: {error}", hint="check [data] target") from None
    errors = given - wanted

    def rmse(weights: Floats) -> float:
        return float(np.sqrt((weights * errors**2).sum() / weights.sum()))

    def mae(weights: Floats) -> float:
        return float((weights * np.abs(errors)).sum() / weights.sum())

    def r2(weights: Floats) -> float:
        mean = (weights * wanted).sum() / weights.sum()
        spread = (weights * (wanted - mean) ** 2).sum()
        return float(1.0 - (weights * errors**2).sum() / spread) if spread > 0 else float("nan")

    statistics: dict[str, Statistic] = {"rmse": rmse, "mae": mae, "r2": r2}
    return _measure(metric, statistics, len(answers), higher_is_better=metric == "r2")


def name_truth(truth: Any) -> str:  # a cell: text or a number
    """Write a label as the answers do: whole numbers without a point."""
    if isinstance(truth, (float, np.floating)) and float(truth).is_integer():
        truth = int(truth)
    # Tables written by way of floats hold "1.0" where the model says 1.
    return re.sub(r"^(-?\d+)\.0+$", r"\1", str(truth))


def _measure(metric: str, statistics: dict[str, Statistic], count: int, *, higher_is_better: bool) -> Measurement:
    if metric not in statistics:
        missing = "; auc needs a probability for each label" if metric == "auc" else ""
        raise ConfigError(f"this table has no metric '{metric}'{missing}", hint=f"it has {', '.join(statistics)}")
    everything = np.ones(count)
    figures = {name: statistic(everything) for name, statistic in statistics.items()}
    return measure_weighted(metric, statistics[metric], count, higher_is_better=higher_is_better, figures=figures)


def _f1(found: NDArray[np.int64], right: NDArray[np.int64], weights: Floats, looked_for: list[int]) -> float:
    count = int(max(found.max(), right.max())) + 1
    both = np.bincount(found[found == right], weights[found == right], minlength=count)
    total = np.bincount(found, weights, minlength=count) + np.bincount(right, weights, minlength=count)
    present = [place for place in looked_for if total[place] > 0]
    return float(np.mean([2 * both[place] / total[place] for place in present])) if present else 0.0


def _auc_statistic(
    answers: Sequence[Answer], truths: list[NDArray[np.bool_]], labels: list[str], looked_for: list[int]
) -> Statistic:
    chosen = looked_for[-1:] if len(labels) == 2 else looked_for
    ranked = []
    for place in chosen:
        scores = np.asarray([answer["probabilities"][labels[place]] for answer in answers], np.float64)
        order = np.argsort(scores, kind="stable")
        ties = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
        ranked.append((order, ties, truths[place][order]))

    def auc(weights: Floats) -> float:
        areas = [_area(weights[order], ties, is_truth) for order, ties, is_truth in ranked]
        known = [area for area in areas if not np.isnan(area)]
        return float(np.mean(known)) if known else float("nan")

    return auc


def _area(weights: Floats, ties: NDArray[np.int64], is_truth: NDArray[np.bool_]) -> float:
    """Give the chance that a true row is above a false one, ties counting half; NaN where one kind is missing."""
    true = np.add.reduceat(weights * is_truth, ties)
    false = np.add.reduceat(weights * ~is_truth, ties)
    if not true.sum() or not false.sum():
        return float("nan")
    below = np.cumsum(false) - false
    return float((true * (below + false / 2)).sum() / (true.sum() * false.sum()))
