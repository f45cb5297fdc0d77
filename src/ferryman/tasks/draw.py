"""Draw an answer over its picture."""

import colorsys
import zlib

import numpy as np

from ferryman.core.task import Answer, TaskSpec
from ferryman.tasks.picture import Picture

Colour = tuple[int, int, int]
"""Blue, green, red."""

_GOLDEN_RATIO = 0.6180339887498949
_MOST_LINES = 5


def draw(task_spec: TaskSpec, picture: Picture, answer: Answer) -> Picture:
    """Give a copy of the picture with the answer on it: boxes from `show_score` on, or the best classes."""
    canvas = np.ascontiguousarray(picture).copy()
    if "boxes" in answer:
        _draw_boxes(canvas, answer, getattr(task_spec, "show_score", 0.25))
    elif "classes" in answer:
        _draw_banner(canvas, answer)
    return canvas


def _draw_boxes(canvas: Picture, answer: Answer, show_score: float) -> None:
    import cv2

    line = max(round(max(canvas.shape[:2]) / 400), 1)
    shown = [place for place, score in enumerate(answer["scores"]) if score >= show_score]
    for place in reversed(shown):  # the surest is drawn last, over the others
        colour = _colour_of(answer["classes"][place])
        left, top, right, bottom = (round(value) for value in answer["boxes"][place])
        # A dark line outside the coloured one keeps it visible on a background of its own colour.
        cv2.rectangle(canvas, (left, top), (right, bottom), (0, 0, 0), line + 2)
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, line)
    for place in reversed(shown):
        left, top = (round(value) for value in answer["boxes"][place][:2])
        text = f"{answer['labels'][place]} {answer['scores'][place]:.2f}"
        _draw_tab(canvas, text, (left, top), _colour_of(answer["classes"][place]))


def _draw_tab(canvas: Picture, text: str, corner: tuple[int, int], colour: Colour) -> None:
    """Write on a filled tab above a box's corner, or inside the box where there is no room above."""
    import cv2

    scale, weight = _type_of(canvas)
    (width, height), descent = cv2.getTextSize(_plain(text), cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    margin = max(height // 3, 2)
    full_height = height + descent + 2 * margin
    left = max(min(corner[0], canvas.shape[1] - width - 2 * margin), 0)
    top = corner[1] - full_height if corner[1] >= full_height else corner[1]
    cv2.rectangle(canvas, (left, top), (left + width + 2 * margin, top + full_height), colour, cv2.FILLED)
    _write(canvas, text, (left + margin, top + margin + height), _ink_on(colour))


def _draw_banner(canvas: Picture, answer: Answer) -> None:
    import cv2

    scale, weight = _type_of(canvas)
    lines = [f"{label}  {score:.3f}" for label, score in zip(answer["labels"], answer["scores"], strict=True)]
    lines = lines[:_MOST_LINES]
    if not lines:
        return
    (_, height), descent = cv2.getTextSize("Ag", cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    step = round((height + descent) * 1.4)
    depth = min(step * len(lines) + step // 2, canvas.shape[0])
    canvas[:depth] = (canvas[:depth] * 0.35).astype(np.uint8)
    for place, text in enumerate(lines):
        ink = (255, 255, 255) if place == 0 else (190, 190, 190)
        _write(canvas, text, (step // 2, step * (place + 1)), ink)


def _write(canvas: Picture, text: str, origin: tuple[int, int], ink: Colour) -> None:
    import cv2

    scale, weight = _type_of(canvas)
    cv2.putText(canvas, _plain(text), origin, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, weight, cv2.LINE_AA)


def _type_of(canvas: Picture) -> tuple[float, int]:
    """Give the letters' scale and line width for a picture's size."""
    scale = max(max(canvas.shape[:2]) / 1500, 0.35)
    return scale, max(round(scale * 1.6), 1)


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")  # OpenCV's letters are ASCII only


def _colour_of(number: int) -> Colour:
    """Give a class its colour: neighbours in number are far apart in hue."""
    hue = (0.02 + number * _GOLDEN_RATIO) % 1.0
    brightness = 0.95 if zlib.crc32(str(number).encode()) % 2 else 0.8
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, brightness)
    return round(blue * 255), round(green * 255), round(red * 255)


def _ink_on(colour: Colour) -> Colour:
    blue, green, red = colour
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)
