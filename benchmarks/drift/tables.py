"""Rows of Elec2, their changes, and a model's answers to them."""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferryman.core.record import Value

Table = dict[str, list[Value]]
Floats = NDArray[np.float64]

FEATURES = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
_FITTED = 0.2  # the share of the rows, the first ones, that the model was fitted on


@dataclass(frozen=True, slots=True)
class Elec:
    """Hold Elec2 in order of time: features [N, 6], truth [N], and the probability that a model gives, [N]."""

    rows: Floats
    truth: NDArray[np.int64]
    probability: Floats
    fitted: int

    def table(self, rows: Floats, probability: Floats) -> Table:
        """Give rows as signals: every cell, the label and its confidence."""
        table: Table = {f"cell.{name}": list(map(float, rows[:, at])) for at, name in enumerate(FEATURES)}
        table["answer.confidence"] = list(map(float, np.maximum(probability, 1 - probability)))
        table["answer.label"] = [("down", "up")[int(each > 0.5)] for each in probability]
        hours = rows[:, 0] * 24
        table["cell.shift"] = [("night", "day", "evening")[int(hour >= 7) + int(hour >= 18)] for hour in hours]
        return table


def read_elec(data: Path) -> Elec:
    """Read the table and fit a logistic regression on its first fifth."""
    with gzip.open(data / "tabular" / "elec.csv.gz", "rt") as file:
        cells = [list(map(float, row)) for row in list(csv.reader(file))[1:]]
    whole = np.asarray(cells)
    rows, truth = whole[:, :-1], whole[:, -1].astype(np.int64)
    fitted = round(len(rows) * _FITTED)
    weights = _fit(rows[:fitted], truth[:fitted])
    return Elec(rows, truth, _answer(weights, rows), fitted)


def change_rows(rows: Floats, change: str, rng: np.random.Generator) -> Floats:
    """Spoil rows [N, 6]: a sensor that reads a fifth too much, a tenth of a column missing."""
    changed = rows.copy()
    if change == "sensor scale":
        changed[:, 2] *= 1.2
    if change == "missing":
        changed[rng.random(len(rows)) < 0.1, 4] = np.nan
    return changed


def _fit(rows: Floats, truth: NDArray[np.int64], steps: int = 25) -> Floats:
    inputs = np.column_stack([rows, np.ones(len(rows))])
    weights = np.zeros(inputs.shape[1])
    for _ in range(steps):  # Newton's, with a little ridge
        answer = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (answer - truth) + 1e-3 * weights
        curve = inputs.T @ (inputs * (answer * (1 - answer))[:, None]) + 1e-3 * np.eye(inputs.shape[1])
        weights -= np.linalg.solve(curve, slope)
    return weights


def _answer(weights: Floats, rows: Floats) -> Floats:
    return np.asarray(
        1 / (1 + np.exp(-np.clip(np.column_stack([np.nan_to_num(rows), np.ones(len(rows))]) @ weights, -30, 30)))
    )


def answer(elec: Elec, rows: Floats) -> Floats:
    """Give the fitted model's probabilities for other rows, [N]."""
    weights = _fit(elec.rows[: elec.fitted], elec.truth[: elec.fitted])
    return _answer(weights, rows)
