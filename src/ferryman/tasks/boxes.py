"""Compare and thin out boxes: float xyxy, pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 256


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
    # A matrix a side: numpy works through a last dimension of 2 or 4 several times slower.
    (left, top, right, bottom), others = first.T[:, :, None], second.T[:, None, :]
    shared = np.maximum(np.minimum(right, others[2]) - np.maximum(left, others[0]), 0.0)
    shared *= np.maximum(np.minimum(bottom, others[3]) - np.maximum(top, others[1]), 0.0)
    united = _areas(first)[:, None] + _areas(second)[None, :] - shared
    return np.asarray(np.divide(shared, united, out=np.zeros_like(shared), where=united > 0), np.float64)


def suppress(boxes: Boxes, *, overlap: float, most: int, agnostic: bool = False) -> Ints:
    """Give the indices that greedy non-maximum suppression keeps, best score first, at most `most`.

    A box goes when its IoU with a better kept box (of its own class, unless `agnostic`) is over `overlap`. Ties keep
    the order they came in.
    """
    order = np.argsort(-boxes.scores, kind="stable")
    kept = np.empty(0, np.int64)
    # Blocks of the best: most pictures have their `most` boxes before all candidates are looked at.
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        if kept.size:
            block = block[~_covers(boxes.take(kept), boxes.take(block), overlap, agnostic).any(axis=0)]
        candidates = boxes.take(block)
        covers = _covers(candidates, candidates, overlap, agnostic)
        stays = np.ones(len(block), np.bool_)
        for place in range(len(block)):
            if stays[place]:
                stays[place + 1 :] &= ~covers[place, place + 1 :]
        kept = np.concatenate([kept, block[stays]])
        if len(kept) >= most:
            break
    return kept[:most]


def _covers(better: Boxes, worse: Boxes, overlap: float, agnostic: bool) -> NDArray[np.bool_]:
    """Tell which of the better boxes [N] drops which of the worse ones [M]."""
    dropped = iou(better.corners, worse.corners) > overlap
    if not agnostic:
        dropped &= better.classes[:, None] == worse.classes[None, :]
    return dropped


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
