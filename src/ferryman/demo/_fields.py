"""Noise fields, masks and outlines: the raw material of the belt generator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

_BANK_SIDE = 1024
_SUBPIXEL_BITS = 4


def as_field(values: npt.ArrayLike) -> Field:
    """Return the values as float32, without a copy where they already are."""
    return np.asarray(values, dtype=np.float32)


def blur(field: Field, sigma: float, sigma_y: float = 0.0) -> Field:
    """Smooth with a Gaussian; `sigma_y` of 0 means the same in both directions."""
    import cv2

    return as_field(cv2.GaussianBlur(field, (0, 0), sigma, sigmaY=sigma_y, borderType=cv2.BORDER_REFLECT_101))


def smoothstep(field: Field, low: float, high: float) -> Field:
    """Ramp from 0 at `low` to 1 at `high` with flat ends."""
    ramp = np.clip((field - low) * (1.0 / (high - low)), 0.0, 1.0)
    return as_field(ramp * ramp * (3.0 - 2.0 * ramp))


@lru_cache(maxsize=4)
def grid(side: int) -> tuple[Field, Field]:
    """Return read-only x and y coordinates of every pixel."""
    ys, xs = np.mgrid[0:side, 0:side].astype(np.float32)
    xs.flags.writeable = ys.flags.writeable = False
    return xs, ys


@lru_cache(maxsize=8)
def _bank(kind: str) -> Field:
    # Banks are drawn once a process from fixed seeds: cropping them is twenty times cheaper than fresh noise.
    side = _BANK_SIDE
    rng = np.random.default_rng(sum(kind.encode()))
    white = as_field(rng.standard_normal((side, side)))
    if kind == "grain":
        field = white
    elif kind == "brushed":
        field = blur(white, 48.0, 0.7) * 4.0 + blur(white, 10.0, 0.5)
    elif kind == "speckle":
        field = blur(white, 1.1)
    else:
        field = np.zeros_like(white)
        for octave in range(5):
            sigma = 2.0 * 2.0**octave
            field += blur(as_field(rng.standard_normal((side, side))), sigma) * sigma**1.7
    field = as_field((field - field.mean()) / field.std())
    field.flags.writeable = False
    return field


def texture(kind: str, rng: np.random.Generator, side: int, angle: float = 0.0, zoom: float = 1.0) -> Field:
    """Cut a zero-mean, unit-deviation patch of noise: `grain`, `speckle`, `cloud` or `brushed` (turned to `angle`)."""
    import cv2

    bank = _bank(kind)
    if angle == 0.0 and zoom == 1.0 and side <= _BANK_SIDE:
        y, x = rng.integers(0, _BANK_SIDE - side + 1, 2)
        return bank[y : y + side, x : x + side]
    middle = rng.uniform(0.3, 0.7, 2) * _BANK_SIDE
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    half = side / 2
    turn = np.array(
        [[cos, sin, middle[0] - (cos + sin) * half], [-sin, cos, middle[1] - (cos - sin) * half]], dtype=np.float64
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return as_field(cv2.warpAffine(bank, turn, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101))


def fill(points: npt.NDArray[Any], side: int) -> Field:
    """Fill a polygon given in pixels, with soft edges, as a mask from 0 to 1."""
    import cv2

    canvas = np.zeros((side, side), np.uint8)
    fixed = np.round(np.asarray(points) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], (255,), lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return as_field(canvas * np.float32(1 / 255))


def pierce(mask: Field, circles: Sequence[tuple[float, float, float]]) -> Field:
    """Return the mask with round, soft-edged openings, each given as x, y and radius."""
    import cv2

    left = np.full(mask.shape, 255, np.uint8)
    for circle in circles:
        x, y, radius = (round(value * (1 << _SUBPIXEL_BITS)) for value in circle)
        cv2.circle(left, (x, y), radius, (0,), -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return as_field(mask * (left * np.float32(1 / 255)))


def rounded(corners: Sequence[tuple[float, float]], radius: float) -> npt.NDArray[np.float64]:
    """Return the polygon's outline with its corners rounded."""
    points = np.asarray(corners, dtype=np.float64)
    ramp = np.linspace(0.0, 1.0, 9)[:, None]
    arcs = []
    for before, corner, after in zip(np.roll(points, 1, 0), points, np.roll(points, -1, 0), strict=True):
        start = corner + (before - corner) * (radius / np.linalg.norm(before - corner))
        stop = corner + (after - corner) * (radius / np.linalg.norm(after - corner))
        arcs.append((1 - ramp) ** 2 * start + 2 * ramp * (1 - ramp) * corner + ramp**2 * stop)
    return np.concatenate(arcs)


def ragged(rng: np.random.Generator, radius: float, roughness: float, count: int = 48) -> npt.NDArray[np.float64]:
    """Return the closed outline of an irregular blob around the origin."""
    turn = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    reach = np.ones(count)
    for wave in range(2, 8):
        reach += roughness * rng.uniform(0.3, 1.0) / wave**0.8 * np.cos(wave * turn + rng.uniform(0, 2 * np.pi))
    stretch, tilt = rng.uniform(0.75, 1.0), rng.uniform(0, np.pi)
    reach = np.maximum(reach, 0.35) * radius
    x, y = reach * np.cos(turn), reach * np.sin(turn) * stretch
    return np.stack([x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)], axis=1)
