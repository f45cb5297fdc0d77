"""Show golden samples: the picture with its boxes, or the row, and the answer."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.core.bundle import Bundle, Golden
from ferryman.core.errors import InputError
from ferryman.core.task import Answer
from ferryman.tasks.picture import read_picture
from ferryman.verify._svg import text
from ferryman.verify.figures import figure, is_number, plain

LONGEST_SIDE_PX = 720
MOST_PIXELS = 50_000_000
_HUES = 12


def render_golden(bundle: Bundle) -> str:
    """Write a card a golden sample."""
    least = float(getattr(bundle.deployment.task, "show_score", 0.25))
    return "".join(_card(golden, least) for golden in bundle.golden)


def _card(golden: Golden, least: float) -> str:
    try:
        pixels = read_picture(golden.item, name=golden.name, max_pixels=MOST_PIXELS)
    except InputError:  # not a picture: a row or arrays
        body = f"<pre>{text(_shorten(_row(golden.item)))}</pre>"
        return f"<figure>{body}<figcaption>{text(golden.name)}{_answer(golden.answer, least)}</figcaption></figure>"
    height, width = pixels.shape[:2]
    shown = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(golden.name)}">'
        f'<image href="{_embed(pixels)}" width="{width}" height="{height}"/>'
        f"{_draw_boxes(golden.answer, least, max(width, height))}</svg>"
    )
    return f"<figure>{shown}<figcaption>{text(golden.name)}{_answer(golden.answer, least)}</figcaption></figure>"


def _embed(pixels: NDArray[np.uint8]) -> str:
    """Give the picture as a data URI, scaled down: the report stays small enough to be mailed."""
    import cv2

    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE_PX / max(height, width)
    if scale < 1:
        small = (max(round(width * scale), 1), max(round(height * scale), 1))
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _detections(answer: Answer, least: float) -> list[tuple[list[float], float, str]]:
    """Give the boxes that are shown; what is not four finite figures and a score is left out."""
    boxes, scores = answer.get("boxes"), answer.get("scores")
    if not isinstance(boxes, list) or not isinstance(scores, list):
        return []
    labels = answer.get("labels") or answer.get("classes") or [""] * len(boxes)
    return [
        (box, score, str(label))
        for box, score, label in zip(boxes, scores, labels, strict=False)
        if is_number(score) and score >= least and _is_box(box)
    ]


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(is_number(side) and math.fabs(side) < 1e6 for side in box)


def _draw_boxes(answer: Answer, least: float, side_px: int) -> str:
    line, letters = side_px / 300, side_px / 38
    hues = {label: index % _HUES for index, label in enumerate(sorted({one[2] for one in _detections(answer, least)}))}
    parts = []
    for (x1, y1, x2, y2), score, label in _detections(answer, least):
        told = plain(f"{label} {score:.2f}")
        tab_y = y1 - letters * 1.3 if y1 > letters * 1.3 else y1
        parts.append(
            f'<g class="box h{hues[label]}"><rect class="edge" x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 0):.1f}" '
            f'height="{max(y2 - y1, 0):.1f}" stroke-width="{line:.2f}"/><rect class="tab" x="{x1 - line / 2:.1f}" '
            f'y="{tab_y:.1f}" width="{0.58 * letters * len(told) + letters * 0.5:.1f}" height="{letters * 1.3:.1f}"/>'
            f'<text x="{x1 + letters * 0.25:.1f}" y="{tab_y + letters:.1f}" '
            f'style="font-size:{letters:.1f}px">{text(told)}</text></g>'
        )
    return "".join(parts)


def _answer(answer: Answer, least: float) -> str:
    if "boxes" in answer:
        found = len(_detections(answer, least))
        return f"<span>{found} {'box' if found == 1 else 'boxes'} of score {least:g} or more</span>"
    if isinstance(answer.get("scores"), list):
        names = answer.get("labels") or answer.get("classes") or []
        best = ", ".join(f"{plain(name)} {figure(score)}" for name, score in zip(names, answer["scores"], strict=False))
        return f"<span>{text(best)}</span>"
    return f"<span>{text(_shorten(answer))}</span>"


def _row(item: object) -> Mapping[str, Any] | str:  # a row's cells or named arrays
    if not isinstance(item, Mapping):
        return type(item).__name__
    return {
        str(name): f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else value
        for name, value in item.items()
    }


def _shorten(value: object) -> str:
    shown = json.dumps(value, default=str, ensure_ascii=False)
    return shown if len(shown) < 400 else f"{shown[:400]} …"
