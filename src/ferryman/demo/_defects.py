"""Damage a scene's parts: scratches, dents, punched holes and stains, each with the mask of what it touched."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ferryman.demo._fields import Field, as_field, blur, fill, grid, ragged, smoothstep, texture
from ferryman.demo._parts import Scene


class Defect(NamedTuple):
    """Name one defect and the pixels it changed."""

    label: str
    touched: Field  # 0 to 1


_Spot = tuple[float, float]


def _find_spot(scene: Scene, rng: np.random.Generator, clearance: float) -> _Spot | None:
    import cv2

    room = as_field(cv2.distanceTransform(scene.free, cv2.DIST_L2, 3))
    edge = int(clearance) + 2
    room[:edge] = room[-edge:] = 0
    room[:, :edge] = room[:, -edge:] = 0
    places = np.flatnonzero(room > clearance)
    if places.size < 40:
        return None
    y, x = divmod(int(places[rng.integers(places.size)]), scene.side)
    return float(x), float(y)


def _scratch(scene: Scene, rng: np.random.Generator) -> Field | None:
    import cv2

    unit = scene.unit
    spot = _find_spot(scene, rng, 7 * unit)
    if spot is None:
        return None
    reach, bearing = rng.uniform(15, 42) * unit, rng.uniform(0, np.pi)
    along = np.array([np.cos(bearing), np.sin(bearing)])
    across = np.array([-along[1], along[0]]) * reach * rng.uniform(0.2, 0.6) * rng.choice([-1, 1])
    ramp = np.linspace(-1, 1, 32)[:, None]
    wobble = rng.uniform(-0.25, 0.25)
    path = np.array(spot) + along * reach * ramp + across * (ramp**2 + wobble * ramp**3)
    # The tool bites in the middle and lifts at both ends. A soft edge adds a pixel, so the outline holds the rest.
    slope = np.gradient(path, axis=0)
    normal = slope[:, ::-1] * (-1, 1) / np.linalg.norm(slope, axis=1, keepdims=True)
    half = (rng.uniform(1.2, 2.3) * (1 - 0.6 * ramp**4) * unit - 1) / 2
    outline = np.concatenate([path + normal * half, (path - normal * half)[::-1]])
    canvas = np.asarray(fill(outline, scene.side) * 255, np.uint8)
    cv2.bitwise_and(canvas, scene.free, canvas)
    _, pieces = cv2.connectedComponents((canvas > 60).view(np.uint8))
    canvas[pieces != pieces[int(spot[1]), int(spot[0])]] = 0
    line = as_field(canvas * np.float32(1 / 255))
    lip = np.roll(line, (round(1.3 * unit) or 1, round(scene.light[0]) or 1), (0, 1)) * (1 - line)
    shine = rng.uniform(0.7, 1.3)
    scene.gloss += line * shine
    scene.albedo *= 1 - 0.75 * lip * scene.solid
    scene.height -= blur(line, 0.7 * unit) * rng.uniform(0.6, 1.2) * unit
    return line


def _dent(scene: Scene, rng: np.random.Generator) -> Field | None:
    radius = rng.uniform(8, 19) * scene.unit
    spot = _find_spot(scene, rng, radius * 0.85)
    if spot is None:
        return None
    xs, ys = grid(scene.side)
    turn, squash = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
    dx, dy = xs - spot[0], ys - spot[1]
    long = (dx * math.cos(turn) + dy * math.sin(turn)) / radius
    short = (-dx * math.sin(turn) + dy * math.cos(turn)) / (radius * squash)
    reach = as_field(np.hypot(long, short))
    bowl = smoothstep(reach, 1.0, 0.0)
    rim = np.exp(-(((reach - 1.05) / 0.13) ** 2))
    scene.height -= radius * rng.uniform(0.3, 0.5) * bowl - radius * 0.03 * rim
    scene.albedo *= 1 - 0.16 * bowl
    scene.gloss *= 1 - 0.5 * bowl
    return as_field((reach < 0.98).astype(np.float32))


def _hole(scene: Scene, rng: np.random.Generator) -> Field | None:
    unit = scene.unit
    radius = rng.uniform(3.6, 8.5) * unit
    spot = _find_spot(scene, rng, radius * 1.5)
    if spot is None:
        return None
    outline = ragged(rng, radius, 0.16)
    pit = fill(outline + spot, scene.side)
    collar = fill(outline * (1 + 2.2 * unit / radius) + spot, scene.side)
    burr = np.clip(collar - pit, 0, 1)
    xs, ys = grid(scene.side)
    facing = (xs - spot[0]) * scene.light[0] + (ys - spot[1]) * scene.light[1]
    # The wall away from the lamp catches some light, so that the pit reads as deep and not as a black dot.
    floor = 0.06 + 0.12 * smoothstep(as_field(facing), -radius * 0.5, radius * 1.6)
    scene.albedo *= 1 - pit * (1 - floor)
    scene.gloss *= 1 - pit
    scene.gloss += burr * rng.uniform(0.3, 0.6) * (0.45 + 0.55 * smoothstep(as_field(-facing), -radius, radius))
    scene.height += blur(as_field(burr), 0.6 * unit) * 1.3 * unit
    return collar


def _stain(scene: Scene, rng: np.random.Generator) -> Field | None:
    unit = scene.unit
    radius = rng.uniform(10, 27) * unit
    spot = _find_spot(scene, rng, radius * 0.7)
    if spot is None:
        return None
    tints = ((0.30, 0.48, 0.66), (0.38, 0.40, 0.42), (0.66, 0.52, 0.42), (0.34, 0.40, 0.58))  # rust oil blue brown
    tint = np.asarray(tints[int(rng.choice(4, p=(0.4, 0.25, 0.15, 0.2)))], np.float32)
    shape = fill(ragged(rng, radius, 0.24) + spot, scene.side) * scene.solid
    soft = blur(as_field(shape), 1.2 * unit)
    # Liquid dries from the edge: the pigment gathers in a darker ring, as under a coffee cup.
    ring = np.clip(soft - blur(soft, 4.5 * unit), 0, 1) * soft
    cloud = texture("cloud", rng, scene.side)
    strength = soft * np.clip(rng.uniform(0.6, 0.9) + 0.12 * cloud, 0.35, 1) + 0.9 * ring
    strength = as_field(np.clip(strength, 0, 1.15))
    scene.albedo *= 1 - strength * (1 - tint)[:, None, None]
    scene.gloss *= 1 - 0.6 * soft
    return as_field(shape)


_PAINTERS: dict[str, Callable[[Scene, np.random.Generator], Field | None]] = {
    "scratch": _scratch,
    "dent": _dent,
    "hole": _hole,
    "stain": _stain,
}


def damage(scene: Scene, rng: np.random.Generator, count: int) -> list[Defect]:
    """Put up to `count` defects on free metal; fewer where there is no room."""
    import cv2

    defects = []
    for _ in range(count):
        label = str(rng.choice(list(_PAINTERS)))
        touched = _PAINTERS[label](scene, rng)
        if touched is None:
            continue
        gap = round(5 * scene.unit)
        kernel = np.ones((2 * gap + 1, 2 * gap + 1), np.uint8)
        keep_off = cv2.dilate((touched > 0.1).astype(np.uint8), kernel)
        scene.free[keep_off > 0] = 0
        defects.append(Defect(label, touched))
    return defects
