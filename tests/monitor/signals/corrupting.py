"""Spoil pictures in ways that happen to cameras, and tell how far a signal moved."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_RNG = np.random.default_rng(0)


def _clipped(values: NDArray[np.floating]) -> Picture:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def darken(picture: Picture) -> Picture:
    return _clipped(picture * 0.4)


def flatten(picture: Picture) -> Picture:
    """Take contrast away, as fog or a dirty lens does."""
    return _clipped((picture.astype(float) - 128) * 0.45 + 128)


def blur(picture: Picture) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(picture.shape) / 300), np.uint8)


def add_noise(picture: Picture) -> Picture:
    return _clipped(picture + _RNG.normal(0, 15, picture.shape))


def tint(picture: Picture) -> Picture:
    return _clipped(picture * np.array([0.65, 1, 1.15]))


def cover(picture: Picture) -> Picture:
    """Hold something dark before the left half of the lens."""
    covered = picture.copy()
    width = picture.shape[1] // 2
    covered[:, :width] = _clipped(25 + _RNG.normal(0, 2, (picture.shape[0], width, 3)))
    return covered


def squeeze(picture: Picture) -> Picture:
    """Save as JPEG of low quality."""
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], 1), np.uint8)


def turn(picture: Picture) -> Picture:
    return np.ascontiguousarray(np.rot90(picture))


CORRUPTIONS: dict[str, Callable[[Picture], Picture]] = {
    "dark": darken, "fog": flatten, "blur": blur, "noise": add_noise, "tint": tint, "cover": cover, "jpeg": squeeze,
    "turned": turn,
}  # fmt: skip


def moved(before: Sequence[float], after: Sequence[float]) -> float:
    """Give the probability that a value after is above one before (ties half), less a half: 0 where nothing moved."""
    ranks = np.sort(np.asarray(before, float))
    low, high = (np.searchsorted(ranks, np.asarray(after, float), side) for side in ("left", "right"))
    return float(((low + high) / 2).mean() / len(ranks) - 0.5)
