"""Draw machined parts as height, colour and gloss maps, ready to be damaged and lit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ferryman.demo._fields import Field, Picture, as_field, blur, fill, grid, pierce, rounded, smoothstep, texture

_METALS = {  # blue, green, red reflectance
    "steel": (0.40, 0.39, 0.375),
    "aluminium": (0.56, 0.55, 0.535),
    "brass": (0.20, 0.42, 0.54),
    "gunmetal": (0.22, 0.20, 0.185),
    "copper": (0.24, 0.33, 0.54),
}
_METAL_ODDS = (0.38, 0.28, 0.12, 0.15, 0.07)
_SHAPE_ODDS = (0.36, 0.27, 0.23, 0.14)


@dataclass(slots=True)
class Scene:
    """Hold the maps that parts and defects are drawn into before the lamp is switched on."""

    side: int
    unit: float  # one pixel of a 320-pixel picture, in pixels of this one
    light: tuple[float, float, float]
    height: Field  # pixels above the part's face
    solid: Field  # 1 where metal covers the belt
    albedo: Field  # three planes: blue, green, red
    gloss: Field
    free: Picture  # 255 where a defect may sit


@dataclass(frozen=True, slots=True)
class Part:
    """Describe one workpiece in pixels of the picture."""

    outline: npt.NDArray[np.float64]
    bores: tuple[tuple[float, float, float], ...]  # x, y, radius
    bolts: tuple[tuple[float, float, float], ...]
    centre: tuple[float, float]
    radius: float
    angle: float
    is_turned: bool  # made on a lathe: the marks of the tool are circles


_Shape = tuple[npt.NDArray[np.float64], list[tuple[float, float, float]], bool]


def empty_scene(side: int, rng: np.random.Generator) -> Scene:
    """Return a scene without parts, lit from a random side."""
    bearing, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 0.95)
    flat = math.cos(elevation)
    light = (math.cos(bearing) * flat, math.sin(bearing) * flat, math.sin(elevation))
    maps = [np.zeros((side, side), np.float32) for _ in range(3)]
    albedo = np.zeros((3, side, side), np.float32)
    free = np.zeros((side, side), np.uint8)
    return Scene(side, side / 320, light, maps[0], maps[1], albedo, maps[2], free)


def _plate(rng: np.random.Generator) -> _Shape:
    wide, tall = 1.0, rng.uniform(0.6, 0.95)
    cut = rng.uniform(0.1, 0.3) if rng.random() < 0.35 else 0.0
    corners = [(-wide, -tall), (wide, -tall), (wide, tall), (-wide, tall)]
    if cut:
        corners = [(-wide + cut, -tall), *corners[1:3], (-wide, tall), (-wide, -tall + cut)]
    inset, radius = rng.uniform(0.17, 0.24), rng.uniform(0.065, 0.1)
    sockets = [(sx * (wide - inset), sy * (tall - inset), radius) for sx in (-1, 1) for sy in (-1, 1)]
    if cut:
        sockets = sockets[1:]
    if rng.random() < 0.45:
        sockets.append((0.0, 0.0, rng.uniform(0.18, 0.3)))
    return rounded(corners, rng.uniform(0.06, 0.1) if cut else rng.uniform(0.06, 0.25)), sockets, False


def _flange(rng: np.random.Generator) -> _Shape:
    turn = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    count, radius = int(rng.integers(3, 9)), rng.uniform(0.06, 0.1)
    reach = rng.uniform(0.66, 0.76)
    sockets = [
        (reach * np.cos(2 * np.pi * k / count), reach * np.sin(2 * np.pi * k / count), radius) for k in range(count)
    ]
    sockets.append((0.0, 0.0, rng.uniform(0.16, 0.34)))
    return np.stack([np.cos(turn), np.sin(turn)], axis=1), sockets, True


def _bracket(rng: np.random.Generator) -> _Shape:
    arm = rng.uniform(0.36, 0.47)
    tall = rng.uniform(0.8, 1.0)
    corners = [(-1, -tall), (1, -tall), (1, -tall + 2 * arm), (-1 + 2 * arm, -tall + 2 * arm)]
    corners += [(-1 + 2 * arm, tall), (-1, tall)]
    radius, middle = rng.uniform(0.08, 0.13), arm * rng.uniform(0.85, 1.0)
    sockets = [(1 - middle, -tall + arm, radius), (-1 + arm, tall - middle, radius)]
    if rng.random() < 0.6:
        sockets.append((-1 + arm, -tall + arm, radius))
    return rounded(corners, rng.uniform(0.08, 0.16)), sockets, False


def _gear(rng: np.random.Generator) -> _Shape:
    teeth = int(rng.integers(14, 27))
    turn = np.linspace(0, 2 * np.pi, teeth * 16, endpoint=False)
    wave = np.clip(np.sin(teeth * turn) * 2.2, -1, 1)
    reach = 0.93 + 0.065 * wave
    sockets = [(0.0, 0.0, rng.uniform(0.15, 0.28))]
    if rng.random() < 0.5:
        count = int(rng.integers(3, 6))
        sockets += [
            (0.58 * np.cos(2 * np.pi * k / count), 0.58 * np.sin(2 * np.pi * k / count), 0.12) for k in range(count)
        ]
    return np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1), sockets, True


def random_part(rng: np.random.Generator, side: int, centre: tuple[float, float], radius: float) -> Part:
    """Design a plate, flange, bracket or gear at the given place."""
    shape = (_plate, _flange, _bracket, _gear)[int(rng.choice(4, p=_SHAPE_ODDS))]
    outline, sockets, is_turned = shape(rng)
    angle = float(rng.uniform(0, 2 * np.pi))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    placed = [(*(np.array([x, y]) @ turn * radius + centre).tolist(), r * radius) for x, y, r in sockets]
    has_bolts = rng.random() < 0.45
    bolts = tuple(s for s, raw in zip(placed, sockets, strict=True) if has_bolts and raw[2] < 0.135)
    bores = tuple(s for s in placed if s not in bolts)
    return Part(outline @ turn * radius + centre, bores, bolts, centre, radius, angle, is_turned)


def _tool_marks(part: Part, rng: np.random.Generator, side: int) -> tuple[Field, Field]:
    # The texture left by brushing or turning, and the streak of light that such a surface shows.
    import cv2

    xs, ys = grid(side)
    dx, dy = xs - part.centre[0], ys - part.centre[1]
    if not part.is_turned:
        angle = part.angle + float(rng.choice([0.0, np.pi / 2])) + 1e-3
        marks = texture("brushed", rng, side, angle, max(1.0, side / 320))
        along = (dx * math.cos(angle) - dy * math.sin(angle)) / part.radius - rng.uniform(-0.5, 0.5)
        streak = np.exp(-(((along + 0.10 * marks) / rng.uniform(0.25, 0.5)) ** 2))
        return marks, as_field(streak)
    rings = texture("brushed", rng, 512)
    reach, turn = cv2.cartToPolar(dx, dy)
    at_x = np.abs(as_field(turn) - math.pi) * (128 / math.pi) + 128  # mirrored, or a seam shows where the turn ends
    at_y = as_field(reach) * (1.6 * 320 / side)
    marks = as_field(cv2.remap(rings, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
    bow = np.abs(np.cos(as_field(turn) - np.float32(rng.uniform(0, np.pi)) + 0.05 * marks))
    return marks, as_field(bow ** float(rng.uniform(6, 14)))


def _engrave(part: Part, rng: np.random.Generator, side: int) -> Field:
    # A serial number along the part's axis: a thin mark that is not a scratch.
    import cv2

    canvas = np.zeros((side, side), np.uint8)
    scale, text = part.radius / 210, f"FM-{rng.integers(1000, 9999)}"
    at = (int(part.centre[0] - part.radius * 0.38), int(part.centre[1] + part.radius * rng.choice([-0.42, 0.48])))
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (255,), max(1, round(scale * 2)), cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D(part.centre, -float(np.degrees(part.angle)), 1.0)
    return as_field(cv2.warpAffine(canvas, turn, (side, side)) * np.float32(1 / 255))


def _bolt(scene: Scene, rng: np.random.Generator, bolt: tuple[float, float, float]) -> None:
    x, y, radius = bolt
    head = radius * 1.25
    xs, ys = grid(scene.side)
    rows = slice(max(0, int(y - head - 3)), max(0, int(y + head + 4)))
    columns = slice(max(0, int(x - head - 3)), max(0, int(x + head + 4)))
    dx, dy = xs[rows, columns] - x, ys[rows, columns] - y
    reach = np.hypot(dx, dy)
    turn = float(rng.uniform(0, np.pi))
    facets = [np.abs(dx * math.cos(turn + k * math.pi / 3) + dy * math.sin(turn + k * math.pi / 3)) for k in range(3)]
    socket = smoothstep(as_field(np.maximum(np.maximum(facets[0], facets[1]), facets[2])), head * 0.52, head * 0.40)
    dome = smoothstep(as_field(reach), head, head * 0.72)
    cover = np.clip(head + 0.5 - reach, 0, 1)
    scene.height[rows, columns] += dome * head * 0.35 - socket * head * 0.3
    shade = 1 - 0.72 * socket - 0.35 * smoothstep(as_field(np.abs(reach - head - 0.8)), 2.0, 0.0)
    scene.albedo[:, rows, columns] *= shade
    scene.gloss[rows, columns] *= 1 - 0.8 * cover
    keep_off = np.clip(head * 1.3 - reach, 0, 1) > 0
    scene.free[rows, columns][keep_off] = 0


def stamp(scene: Scene, part: Part, rng: np.random.Generator) -> None:
    """Draw the part into the scene's maps."""
    import cv2

    side, unit = scene.side, scene.unit
    cover = fill(part.outline, side)
    solid = pierce(cover, part.bores)
    inner = np.asarray(solid > 0.5, np.uint8)
    depth = as_field(cv2.distanceTransform(inner, cv2.DIST_L2, 5))
    bevel = rng.uniform(2.0, 4.5) * unit
    height = bevel * rng.uniform(0.5, 0.9) * smoothstep(depth, 0, bevel)
    if rng.random() < 0.4:
        at, width = rng.uniform(0.07, 0.11) * part.radius + bevel, rng.uniform(1.0, 1.6) * unit
        height -= rng.uniform(0.6, 1.0) * width * np.exp(-(((depth - at) / width) ** 2))
    marks, streak = _tool_marks(part, rng, side)
    cloud = texture("cloud", rng, side)
    metal = np.asarray(_METALS[str(rng.choice(list(_METALS), p=_METAL_ODDS))], np.float32)
    metal = metal * as_field(rng.uniform(0.95, 1.05, 3))
    tone = 1 + rng.uniform(0.03, 0.07) * marks + 0.035 * cloud
    free = np.asarray(depth > bevel + 2 * unit, np.uint8) * 255
    if rng.random() < 0.35:
        letters = _engrave(part, rng, side) * inner
        height -= 0.9 * unit * letters
        tone *= 1 - 0.35 * letters
        free[blur(letters, 3 * unit) > 0.02] = 0
    scene.solid = np.maximum(scene.solid, solid)
    cv2.copyTo(blur(as_field(height), 0.7 * unit), inner, scene.height)
    cv2.copyTo(as_field(streak * (1 + 0.25 * marks) * rng.uniform(0.25, 0.7)), inner, scene.gloss)
    cv2.copyTo(free, inner, scene.free)
    outer = (cover > 0).view(np.uint8)
    for plane, reflectance in zip(scene.albedo, metal, strict=True):
        cv2.copyTo(as_field(tone * reflectance), outer, plane)
    for bolt in part.bolts:
        _bolt(scene, rng, bolt)
