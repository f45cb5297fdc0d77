"""Pictures that were kept, with the boxes that were found in them; they are shown as redacted as they lie there."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.monitor.report.facts import Sample
from ferryman.monitor.report.traffic import Range
from ferryman.monitor.store.engine import name as quoted
from ferryman.monitor.store.payloads import Payload, payloads
from ferryman.monitor.store.query import Reader

_MOST = 12
_MOST_BYTES = 400_000
_SIDE_PX = 480
_LEAST_SCORE = 0.25
_MOST_BOXES = 100
_BEST = 3

Box = tuple[float, float, float, float]


def read_samples(folder: Path, reader: Reader, within: Range, models: set[str]) -> tuple[list[Sample], int]:
    """Give up to 12 pictures of the range, the reasons in turn and the newest first, and the number of payloads."""
    kept = [one for one in payloads(folder) if within.since_s <= one.at_s < within.until_s and one.model in models]
    chosen = _in_turn([one for one in kept if one.kind == "picture"])
    shown = Shown(reader, kept)
    shown.measure(chosen)
    made: list[Sample] = []
    for one in chosen:
        if len(made) == _MOST:
            break
        if (sample := shown.sample(one)) is not None:
            made.append(sample)
    return made, len(kept)


class Shown:
    """Make samples of payloads: `kept` holds the answers that belong to pictures."""

    def __init__(self, reader: Reader, kept: Sequence[Payload]) -> None:
        self._reader = reader
        self._answers = {(one.model, one.version, one.id): one for one in kept if one.kind == "answer"}
        self._sizes: dict[tuple[str, str, str], tuple[float, float]] = {}
        self._measured: set[tuple[str, str, str]] = set()

    def measure(self, pictures: Sequence[Payload]) -> None:
        """Learn how large these were as they were sent, at once."""
        self._sizes |= _sizes(self._reader, pictures)
        self._measured |= {(one.model, one.version, one.id) for one in pictures}

    def sample(self, picture: Payload) -> Sample | None:
        """Give a picture with its boxes; None where it can't be shown."""
        key = (picture.model, picture.version, picture.id)
        if key not in self._measured:
            self.measure([picture])
        answer = self._answers.get(key)
        return _sample(picture, _answer(answer.path) if answer else {}, self._sizes.get(key))


def _in_turn(pictures: Sequence[Payload]) -> list[Payload]:
    whys: dict[str, list[Payload]] = {}
    for one in reversed(pictures):
        whys.setdefault(one.why, []).append(one)
    longest = max(map(len, whys.values()), default=0)
    listed = [of[place] for place in range(min(longest, 2 * _MOST)) for of in whys.values() if place < len(of)]
    return listed[: 2 * _MOST]


def _sizes(reader: Reader, chosen: Sequence[Payload]) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Give the pixels that pictures had as they were sent, of their records' signals; a request of several has none."""
    columns = {column.lower(): column for column in reader.columns}
    aspect, size = columns.get("s_picture.aspect"), columns.get("s_picture.megapixels")
    if aspect is None or size is None or not chosen:
        return {}
    rows = reader.select(
        f"SELECT model, version, id, max({quoted(aspect)}), max({quoted(size)}) FROM records "  # noqa: S608 - of quoted names
        f"WHERE item IS NOT NULL AND list_contains($1, id) GROUP BY model, version, id HAVING count(*) = 1",
        [[one.id for one in chosen]],
    ).rows
    known = [row for row in rows if row[3] is not None and row[4] is not None and abs(row[3]) < 20 and 0 < row[4] < 1e6]
    return {
        (row[0], row[1], row[2]): (math.sqrt(row[4] * 1e6 * 2 ** row[3]), math.sqrt(row[4] * 1e6 / 2 ** row[3]))
        for row in known
    }


def _sample(one: Payload, answer: Mapping[str, Any], sent: tuple[float, float] | None) -> Sample | None:
    shown = _picture(one.path)
    if shown is None:
        return None
    jpeg, width, height = shown
    found = _detections(answer)
    scale = width / sent[0] if sent else 0.0
    fits = sent is not None and abs(height / sent[1] / scale - 1) < 0.05
    boxes = [(a * scale, b * scale, c * scale, d * scale) for (a, b, c, d), _ in found] if fits else []
    told = _told(answer, found, is_drawn=bool(boxes) or not found)
    labels = [label for _, label in found] if boxes else []
    return Sample(one.id, one.model, one.version, one.at_s, one.why, jpeg, width, height, boxes, labels, told)


def _picture(path: Path) -> tuple[bytes, int, int] | None:
    """Give a picture as JPEG with its size, made smaller where it is large; None where it can't be shown."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        return None
    try:
        content = path.read_bytes()
        picture = Image.open(io.BytesIO(content), formats=("JPEG",))
        if len(content) > _MOST_BYTES or max(picture.size) > 2 * _SIDE_PX:
            picture.draft("RGB", (_SIDE_PX, _SIDE_PX))
            picture.thumbnail((_SIDE_PX, _SIDE_PX))
            written = io.BytesIO()
            picture.convert("RGB").save(written, "JPEG", quality=85)
            content = written.getvalue()
        else:
            picture.verify()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return content, picture.width, picture.height


def _answer(path: Path) -> Mapping[str, Any]:  # JSON
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    listed = told.get("answers") if isinstance(told, Mapping) else None
    if isinstance(listed, list) and len(listed) == 1:
        told = listed[0]
    return told if isinstance(told, Mapping) else {}


def _detections(answer: Mapping[str, Any]) -> list[tuple[Box, str]]:  # JSON
    """Give boxes with what stands beside them; what is not four finite figures and a score is left out."""
    boxes, scores = answer.get("boxes"), answer.get("scores")
    if not isinstance(boxes, list) or not isinstance(scores, list):
        return []
    labels = answer.get("labels") or answer.get("classes")
    labels = labels if isinstance(labels, list) else [""] * len(boxes)
    found = [
        ((box[0], box[1], box[2], box[3]), f"{label} {score:.2f}")
        for box, score, label in zip(boxes, scores, labels, strict=False)
        if _is_number(score) and score >= _LEAST_SCORE and isinstance(box, list) and _is_box(box)
    ]
    return found[:_MOST_BOXES]


def _told(answer: Mapping[str, Any], found: Sequence[tuple[Box, str]], *, is_drawn: bool) -> str:  # JSON
    if isinstance(answer.get("boxes"), list):
        many = f"{len(found)} {'box' if len(found) == 1 else 'boxes'} of score {_LEAST_SCORE:g} or more"
        return many if is_drawn else f"{many}: {', '.join(label for _, label in found[:_BEST])}"
    names, scores = answer.get("labels") or answer.get("classes"), answer.get("scores")
    if isinstance(names, list) and isinstance(scores, list):
        best = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=False) if _is_number(score)]
        return ", ".join(best[:_BEST])
    return ""


def _is_box(box: Sequence[object]) -> bool:
    return len(box) == 4 and all(_is_number(side) for side in box)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
