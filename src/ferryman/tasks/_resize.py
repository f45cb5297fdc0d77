"""Resize pictures without OpenCV, to its very pixels.

The rules are OpenCV's for uint8 (modules/imgproc/src/resize.cpp: HResizeLinear, VResizeLinear, resizeNN): weights of
11 bits, a pass over rows to whole numbers, then one over columns.
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Whole = NDArray[np.int32]

_ONE = np.float32(2048)
_BLOCK_BYTES = 128 * 1024  # of one pass's numbers: they stay in the core's own cache


def resize_nearest(picture: Pixels, height: int, width: int) -> Pixels:
    """Give a picture [height, width, 3] whose pixels are the nearest of `picture`, left and above where two are."""
    rows, columns = (
        np.minimum(np.floor(np.arange(size) * (1 / (size / own))).astype(np.intp), own - 1)
        for size, own in zip((height, width), picture.shape[:2], strict=True)
    )
    nearest: Pixels = picture.take(rows, axis=0).take(columns, axis=1)
    return nearest


def resize_bilinear(picture: Pixels, height: int, width: int) -> Pixels:
    """Give a picture [height, width, 3] whose pixels are between those of `picture`; not antialiased."""
    own_height, own_width, channels = picture.shape
    lefts, left_weights, right_weights = _weights(own_width, width)
    rights = np.minimum(lefts + 1, own_width - 1)
    # At the first and last column, not row, OpenCV gives the one pixel that is there the whole weight.
    is_beyond = (lefts < 0) | (lefts >= own_width - 1)
    left_weights[is_beyond], right_weights[is_beyond] = 2048, 0
    lefts = np.clip(lefts, 0, own_width - 1)
    left_places, right_places = (_of_channels(places, channels) for places in (lefts, rights))
    left_weights, right_weights = (np.repeat(weights, channels) for weights in (left_weights, right_weights))
    above, top_weights, bottom_weights = _weights(own_height, height)
    tops, bottoms = (np.clip(rows, 0, own_height - 1) for rows in (above, above + 1))
    flat = picture.reshape(own_height, own_width * channels)
    resized = np.empty((height, width * channels), np.uint8)
    step = max(1, _BLOCK_BYTES // (width * channels * 4))
    for start in range(0, height, step):
        part = slice(start, min(start + step, height))
        rows, places = np.unique(np.concatenate((tops[part], bottoms[part])), return_inverse=True)
        mixed = _weighted(flat[rows].take(left_places, axis=1), left_weights)
        mixed += _weighted(flat[rows].take(right_places, axis=1), right_weights)
        mixed >>= 4
        top, bottom = np.split(places, 2)
        resized[part] = _blend(
            mixed.take(top, axis=0), mixed.take(bottom, axis=0), top_weights[part], bottom_weights[part]
        )
    return resized.reshape(height, width, channels)


def _weights(own: int, size: int) -> tuple[NDArray[np.intp], Whole, Whole]:
    """Give, of each new place, the old one before it (-1: none), its weight and that of the next; 2048 is all of it."""
    scale = 1 / (size / own)
    exact = ((np.arange(size) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(exact)
    share = exact - before
    weights = ((np.float32(1) - share) * _ONE, share * _ONE)
    first, second = (np.rint(weight).astype(np.int32) for weight in weights)
    return before.astype(np.intp), first, second


def _of_channels(places: NDArray[np.intp], channels: int) -> NDArray[np.intp]:
    return (places[:, None] * channels + np.arange(channels)).ravel()


def _weighted(pixels: Pixels, weights: Whole) -> Whole:
    values = pixels.astype(np.int32)
    values *= weights
    return values


def _blend(top: Whole, bottom: Whole, top_weights: Whole, bottom_weights: Whole) -> Whole:
    top *= top_weights[:, None]
    top >>= 16
    bottom *= bottom_weights[:, None]
    bottom >>= 16
    top += bottom
    top += 2
    top >>= 2
    return top
