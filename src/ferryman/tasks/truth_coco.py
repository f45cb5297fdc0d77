"""Read boxes from COCO's JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.core.errors import DataError
from ferryman.core.task import Truth
from ferryman.tasks.files import find_files, refuse_unlabelled, spread
from ferryman.tasks.listed_pictures import Entry, match_entries
from ferryman.tasks.truths import Labelling, check_number

_FORM = (
    "COCO's JSON has images, categories and annotations, each of these with image_id, category_id and bbox (x, y, w, h)"
)


def read_coco_boxes(files: Sequence[Path], labelling: Labelling) -> tuple[list[Path], list[Truth], list[Path]]:
    """Give pictures, their boxes in pixels, and the JSON file.

    Categories become class numbers by their names in [task] labels, else by the order of their ids. Pictures are found
    by `file_name`: by its path, else by a name that only one of them has.
    """
    if labelling.pattern is None:
        raise DataError("COCO data needs its JSON file", hint="set data.evaluation labels = 'annotations.json'")
    path = find_files(labelling.pattern, labelling.folder, key="data.evaluation.labels")[0]
    content = _load(path)
    numbers = _class_numbers(content, labelling.labels, path)
    entries = [
        Entry(str(_field(image, "file_name", path)), _key(image, "id", path), f"{path}, image {place + 1}")
        for place, image in enumerate(content["images"])
    ]
    images = match_entries(files, entries, (path.parent, labelling.folder))
    pictures = [files[place] for place in spread(len(files), labelling.limit)]
    refuse_unlabelled([str(picture) for picture in pictures if picture not in images], len(pictures), str(path))
    truths: dict[Any, dict[str, list[Any]]] = {  # by COCO's image id, a number or text
        images[picture].said: {"boxes": [], "classes": [], "crowd": []} for picture in pictures
    }
    for place, annotation in enumerate(content["annotations"]):
        truth = truths.get(_key(annotation, "image_id", path))
        if truth is not None:
            where = f"{path}, annotation {place + 1}"
            truth["boxes"].append(_corners(_field(annotation, "bbox", path), where))
            truth["classes"].append(_number(_key(annotation, "category_id", path), numbers, where))
            truth["crowd"].append(int(bool(annotation.get("iscrowd", 0))))
    return pictures, [truths[images[picture].said] for picture in pictures], [path]


def _load(path: Path) -> Mapping[str, Any]:  # COCO's own JSON
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} can't be read as JSON: {error}", hint="data.evaluation labels names COCO's .json"
        ) from None
    for key in ("images", "annotations"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{path} is not COCO's JSON: it has no list '{key}'", hint=_FORM)
    loaded: Mapping[str, Any] = content  # COCO's own JSON
    return loaded


def _field(entry: Mapping[str, Any], name: str, path: Path) -> Any:  # COCO's own JSON
    if name not in entry:
        raise DataError(f"{path}: an entry has no '{name}': {entry!s:.80}", hint=_FORM)
    return entry[name]


def _key(entry: Mapping[str, Any], name: str, path: Path) -> int | str:  # COCO's own JSON
    key = _field(entry, name, path)
    if not isinstance(key, (int, str)):
        raise DataError(f"{path}: '{name}' is {key!r:.80}, neither a number nor text", hint=_FORM)
    return key


def _class_numbers(content: Mapping[str, Any], labels: tuple[str, ...] | None, path: Path) -> dict[Any, int]:
    # Keys are COCO's category ids: numbers, in COCO itself with gaps.
    categories = content.get("categories") or [
        {"id": number, "name": str(number)}
        for number in {_key(entry, "category_id", path) for entry in content["annotations"]}
    ]
    names = {_key(entry, "id", path): str(entry.get("name", "")) for entry in categories}
    if labels is not None and set(names.values()) <= set(labels):
        return {key: labels.index(name) for key, name in names.items()}
    if labels is not None and len(labels) != len(names):
        stranger = next(name for name in names.values() if name not in labels)
        raise DataError(
            f"{path}: category '{stranger}' is not one of the {len(labels)} labels",
            hint="use the same names in [task] labels",
        )
    return {key: place for place, key in enumerate(sorted(names, key=lambda key: (str(type(key)), key)))}


def _number(category: Any, numbers: Mapping[Any, int], where: str) -> int:  # a COCO category id
    if category not in numbers:
        raise DataError(f"{where}: category_id {category!r} is not among the categories", hint=_FORM)
    return check_number(numbers[category], None, where)


def _corners(bbox: Any, where: str) -> list[float]:  # JSON
    is_box = isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(value, (int, float)) for value in bbox)
    if not is_box or not all(math.isfinite(value) for value in bbox):
        raise DataError(f"{where}: bbox {bbox!r:.80} is not four finite numbers", hint=_FORM)
    left, top, width, height = bbox
    if width < 0 or height < 0:
        raise DataError(f"{where}: bbox {bbox!r:.80} has a negative side", hint=_FORM)
    return [left, top, left + width, top + height]
