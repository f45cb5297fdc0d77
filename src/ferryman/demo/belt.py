"""Draw pictures of machined parts on a conveyor belt, with labelled defects, from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferryman.demo._defects import Defect, damage
from ferryman.demo._fields import Field, Picture, as_field, blur, grid, smoothstep, texture
from ferryman.demo._parts import Scene, empty_scene, random_part, stamp

LABELS = ("scratch", "dent", "hole", "stain")

_DEFECT_COUNT_ODDS = (0.15, 0.22, 0.24, 0.19, 0.12, 0.08)
_SMALLEST_BOX = 5.0  # pixels of a 320-pixel picture; less is not worth a label


@dataclass(frozen=True, slots=True)
class Box:
    """Mark one defect by the index of its label and its corners in pixels."""

    label: int
    x1: float
    y1: float
    x2: float
    y2: float


def render(seed: int, *, size: int = 320) -> tuple[Picture, list[Box]]:
    """Draw the picture of this seed (BGR) and the boxes of its defects."""
    rng = np.random.default_rng(seed)
    scene = empty_scene(size, rng)
    belt_angle = float(rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.05))
    _lay_parts(scene, rng)
    defects = damage(scene, rng, int(rng.choice(6, p=_DEFECT_COUNT_ODDS)))
    belt = _shadowed(_belt(rng, size, belt_angle), scene, rng)
    metal = _lit(scene, rng)
    radiance = belt + (metal - belt) * scene.solid
    return _photograph(as_field(radiance), rng, belt_angle), _boxes(defects, scene)


def write_dataset(folder: Path, *, count: int, seed: int) -> None:
    """Write the pictures of `seed` up to `seed + count - 1`, with labels as YOLO reads them."""
    import cv2

    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture, boxes = render(seed + index)
        # Writing the bytes ourselves: cv2.imwrite answers False for an error instead of raising.
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (folder / "images" / f"{index:04d}.jpg").write_bytes(encoded.tobytes())
        lines = [_yolo_line(box, picture.shape[1], picture.shape[0]) for box in boxes]
        (folder / "labels" / f"{index:04d}.txt").write_text("".join(lines))


def _yolo_line(box: Box, width: int, height: int) -> str:
    cx, cy = (box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height
    w, h = (box.x2 - box.x1) / width, (box.y2 - box.y1) / height
    return f"{box.label} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}\n"


def _boxes(defects: list[Defect], scene: Scene) -> list[Box]:
    boxes = []
    for label, touched in defects:
        seen = touched > 0.3
        columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
        if columns.size == 0 or min(np.ptp(columns), np.ptp(rows)) + 1 < _SMALLEST_BOX * scene.unit:
            continue
        corners = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        boxes.append(Box(LABELS.index(label), *(float(corner) for corner in corners)))
    return boxes


def _lay_parts(scene: Scene, rng: np.random.Generator) -> None:
    side = scene.side
    middle = rng.uniform(0.4, 0.6, 2) * side
    if rng.random() < 0.78:
        places = [(middle, rng.uniform(0.33, 0.47) * side)]
    else:
        bearing = rng.uniform(0, 2 * np.pi)
        away = np.array([np.cos(bearing), np.sin(bearing)]) * side * rng.uniform(0.32, 0.36)
        places = [(side / 2 + sign * away, rng.uniform(0.25, 0.3) * side) for sign in (-1, 1)]
    for centre, radius in places:
        stamp(scene, random_part(rng, side, (float(centre[0]), float(centre[1])), float(radius)), rng)


def _belt(rng: np.random.Generator, side: int, angle: float) -> Field:
    unit = side / 320
    xs, ys = grid(side)
    along = xs * math.cos(angle) + ys * math.sin(angle)
    across = ys * math.cos(angle) - xs * math.sin(angle)
    wear = texture("brushed", rng, side, -angle - 1e-3, unit)
    relief = 0.35 * wear + 0.5 * texture("cloud", rng, side) + 0.9 * texture("speckle", rng, side, 0, unit)
    pattern, pitch = rng.integers(0, 3), rng.uniform(6, 11) * unit
    if pattern == 0:  # woven
        relief += 0.8 * np.sin(along * (2 * np.pi / pitch)) * np.sin(across * (2 * np.pi / pitch))
    elif pattern == 1:  # chevrons
        fold = np.abs(np.mod(across, 24 * unit) - 12 * unit)
        relief += 1.3 * np.tanh(2.5 * np.sin((along + fold) * (np.pi / pitch)))
    tone = np.clip(rng.uniform(0.018, 0.05) * (1 + 0.2 * relief), 0.01, 1)
    specks = smoothstep(texture("speckle", rng, side, 0, 1.3 * unit), rng.uniform(2.3, 3.2), 3.6)
    tone += specks * rng.uniform(0.03, 0.2)
    colour = as_field(tone * as_field([1.06, 1.0, 0.97])[:, None, None])
    if rng.random() < 0.3:
        _rails(colour, as_field(across - across.mean()), wear, rng)
    return colour


def _rails(colour: Field, across: Field, wear: Field, rng: np.random.Generator) -> None:
    side = across.shape[0]
    edge = side * rng.uniform(0.42, 0.48)
    beyond = np.abs(across) - edge
    profile = 0.26 + 0.16 * np.cos(beyond * (14.0 / side)) + 0.03 * wear
    gap = smoothstep(as_field(beyond), -0.035 * side, 0.0)
    colour *= 1 - 0.75 * gap
    rail = smoothstep(as_field(beyond), 0.0, 0.006 * side)
    colour += rail * (as_field([1.0, 0.99, 0.97])[:, None, None] * profile - colour)


def _shadowed(belt: Field, scene: Scene, rng: np.random.Generator) -> Field:
    import cv2

    unit = scene.unit
    throw = rng.uniform(5, 11) * unit
    move = np.array([[1, 0, -scene.light[0] * throw], [0, 1, -scene.light[1] * throw]], np.float64)
    cast = as_field(cv2.warpAffine(scene.solid, move, (scene.side, scene.side)))
    contact = blur(scene.solid, 2.5 * unit)
    dark = 0.72 * blur(cast, rng.uniform(2.5, 5.0) * unit) + 0.35 * contact
    return as_field(belt * (1 - np.minimum(dark, 0.93)))


def _lamp(scene: Scene, rng: np.random.Generator) -> Field:
    xs, ys = grid(scene.side)
    lx, ly, _ = scene.light
    ramp = ((xs - scene.side / 2) * lx + (ys - scene.side / 2) * ly) / scene.side
    x, y = (float(at) for at in rng.uniform(0.25, 0.75, 2) * scene.side)
    spot = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (scene.side * rng.uniform(0.3, 0.6)) ** 2)
    return as_field(0.75 + rng.uniform(0.3, 0.75) * ramp + rng.uniform(0.15, 0.5) * spot)


def _lit(scene: Scene, rng: np.random.Generator) -> Field:
    import cv2

    lx, ly, lz = scene.light
    slope_x = as_field(cv2.Scharr(scene.height, cv2.CV_32F, 1, 0, scale=1 / 32))
    slope_y = as_field(cv2.Scharr(scene.height, cv2.CV_32F, 0, 1, scale=1 / 32))
    up = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    diffuse = np.maximum((lz - slope_x * lx - slope_y * ly) * up, 0)
    length = math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    halfway = np.maximum((lz + 1 - slope_x * lx - slope_y * ly) * up * (1 / length), 0)
    mirror = as_field(cv2.pow(as_field(halfway), float(rng.uniform(24, 60))))
    lamp = _lamp(scene, rng)
    # Metal reflects the lamp in its own colour, so the highlight is scaled by the albedo too.
    level = (0.15 + 0.85 * diffuse) * lamp + 0.55 * mirror * lamp
    glint = scene.gloss * lamp * (0.4 + 0.6 * diffuse)
    return as_field(scene.albedo * (level + 0.7 * glint) + 0.3 * glint)


def _photograph(radiance: Field, rng: np.random.Generator, belt_angle: float) -> Picture:
    import cv2

    side = radiance.shape[1]
    unit = side / 320
    smear = rng.uniform(0.0, 2.6) * unit
    if smear > 1:
        kernel = np.zeros((9, 9), np.uint8) if unit <= 2 else np.zeros((25, 25), np.uint8)
        mid = kernel.shape[0] // 2
        step = np.array([math.cos(belt_angle), math.sin(belt_angle)]) * smear / 2 * 16
        ends = [(int(mid * 16 + sign * step[0]), int(mid * 16 + sign * step[1])) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], (255,), 1, cv2.LINE_AA, shift=4)
        smeared = as_field(kernel / kernel.sum())
        radiance = np.stack([as_field(cv2.filter2D(plane, -1, smeared)) for plane in radiance])
    xs, ys = grid(side)
    vignette = 1 - rng.uniform(0.1, 0.35) * ((xs / side - 0.5) ** 2 + (ys / side - 0.5) ** 2) * 2
    balance = as_field(rng.uniform(0.85, 1.3) * rng.uniform([0.94, 0.98, 0.94], [1.06, 1.02, 1.06]))
    light = radiance * (vignette * balance[:, None, None])
    exposed = as_field(np.sqrt(np.maximum(light, 0)))  # gamma 2, near enough to a camera's 2.2
    # A soft shoulder keeps the highlights from clipping into flat white.
    exposed = as_field(exposed * (1.18 - 0.30 * exposed * np.minimum(exposed, 1.15)))
    noise = np.stack([texture("grain", rng, side) for _ in range(3)])
    exposed += noise * np.float32(rng.uniform(0.004, 0.018)) * (0.5 + 0.5 * exposed)
    raw = cv2.merge(list(np.clip(exposed * 255, 0, 255).astype(np.uint8)))
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(72, 96))]
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", raw, quality)[1], cv2.IMREAD_COLOR), np.uint8)
