"""Compare and thin out boxes: float xyxy, pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Hold boxes of one picture: corners xyxy float64 [N, 4], scores float64 [N], classes int64 [N]."""

    corners: Floats
    scores: Floats
    classes: Ints

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> "Boxes":
        """Give the boxes at these indices, or where this mask is true."""
        return Boxes(self.corners[chosen], self.scores[chosen], self.classes[chosen])


def iou(first: Floats, second: Floats) -> Floats:
    """Give the intersection over union of each pair, [N, M]; 0 where both boxes are empty."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, 0.0)
    shared = sides[..., 0] * sides[..., 1]
    united = _areas(first)[:, None] + _areas(second)[None, :] - shared
    return np.divide(shared, united, out=np.zeros_like(shared), where=united > 0)


def suppress(boxes: Boxes, *, overlap: float, most: int, agnostic: bool = False) -> Ints:
    """Give the indices that greedy non-maximum suppression keeps, best score first, at most `most`.

    A box goes when its IoU with a better kept box (of its own class, unless `agnostic`) is over `overlap`. Ties keep
    the order they came in.
    """
    order = np.argsort(-boxes.scores, kind="stable")
    corners = np.ascontiguousarray(boxes.corners[order].T)
    classes = boxes.classes[order]
    areas = _areas(boxes.corners)[order]
    kept: list[int] = []
    while order.size and len(kept) < most:
        kept.append(int(order[0]))
        left, top, right, bottom = corners
        shared = np.maximum(np.minimum(right, right[0]) - np.maximum(left, left[0]), 0.0)
        shared *= np.maximum(np.minimum(bottom, bottom[0]) - np.maximum(top, top[0]), 0.0)
        gone = shared > overlap * (areas + areas[0] - shared)
        if not agnostic:
            gone &= classes == classes[0]
        gone[0] = True
        stays = ~gone
        order, corners, classes, areas = order[stays], corners[:, stays], classes[stays], areas[stays]
    return np.asarray(kept, np.int64)


def match(reference: Boxes, other: Boxes, *, overlap: float) -> Ints:
    """Pair boxes of one class one to one, the greatest IoU first; gives index pairs [P, 2] with IoU >= `overlap`."""
    overlaps = iou(reference.corners, other.corners)
    overlaps[reference.classes[:, None] != other.classes[None, :]] = 0.0
    rows, columns = np.nonzero(overlaps >= overlap)
    order = np.argsort(-overlaps[rows, columns], kind="stable")
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            pairs.append((row, column))
    return np.asarray(pairs, np.int64).reshape(-1, 2)


def _areas(corners: Floats) -> Floats:
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 0.0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float64)
