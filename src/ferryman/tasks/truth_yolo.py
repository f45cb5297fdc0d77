"""Read boxes from YOLO's text files: one a picture, one box a line, `class cx cy width height` as shares."""

import math
from collections.abc import Sequence
from pathlib import Path

from ferryman.core.errors import DataError
from ferryman.core.task import Truth
from ferryman.tasks.files import find_files, spread
from ferryman.tasks.picture import read_picture_size
from ferryman.tasks.truths import Labelling, check_number

_FORM = "a line is: class cx cy width height, the class a number and the rest shares of the picture"
_SLACK = 0.01  # labels written with few digits may reach a little over the edge


def read_yolo_boxes(files: Sequence[Path], labelling: Labelling) -> tuple[list[Path], list[Truth], list[Path]]:
    """Give pictures, their boxes in pixels, and the label files.

    A label file is found by the picture's name: among `pattern`'s, else beside the picture or in the sibling folder
    `labels`. A picture without one shows nothing (that is how YOLO marks backgrounds), as long as another has one.
    """
    pictures = [files[place] for place in spread(len(files), labelling.limit)]
    known = None
    if labelling.pattern is not None:
        known = _by_stem(find_files(labelling.pattern, labelling.folder, key="data.evaluation.labels"))
        _refuse_shared(files, known)
    label_files = [_beside(path) if known is None else known.get(path.stem) for path in pictures]
    if not any(label_files):
        raise DataError(
            f"none of {len(pictures)} pictures has a label file; {pictures[0]} is the first without",
            hint="set data.evaluation labels = 'labels/*.txt'; each is called as its picture",
        )
    truths: list[Truth] = []
    for picture, label_file in zip(pictures, label_files, strict=True):
        if label_file is None:
            truths.append({"boxes": [], "classes": []})
        else:
            truths.append(_read_file(label_file, picture, labelling.labels))
    return pictures, truths, [path for path in label_files if path is not None]


def _refuse_shared(pictures: Sequence[Path], label_files: dict[str, Path]) -> None:
    owners: dict[str, Path] = {}
    for picture in pictures:
        owner = owners.setdefault(picture.stem, picture)
        if owner.parent != picture.parent and picture.stem in label_files:
            raise DataError(
                f"label file {label_files[picture.stem]} may be that of {owner} or of {picture}",
                hint="leave data.evaluation labels out, and put each label file beside its picture or in labels/",
            )


def _by_stem(paths: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(
                f"two label files are called {path.stem}: {found[path.stem]} and {path}",
                hint="let data.evaluation labels match one of them",
            )
        found[path.stem] = path
    return found


def _beside(picture: Path) -> Path | None:
    name = picture.stem + ".txt"
    parts = [("labels" if part == "images" else part) for part in picture.parent.parts]
    candidates = (picture.parent / name, Path(*parts) / name, picture.parent / "labels" / name)
    return next((path for path in candidates if path.is_file()), None)


def _read_file(path: Path, picture: Path, labels: tuple[str, ...] | None) -> Truth:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"label file {path} can't be read: {error}", hint=_FORM) from None
    height, width = read_picture_size(picture, name=str(picture))
    boxes, classes = [], []
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        where = f"{path}, line {place + 1}"
        number, shares = _parse(line, where)
        classes.append(check_number(number, labels, where))
        x1, y1, x2, y2 = shares
        boxes.append([x1 * width, y1 * height, x2 * width, y2 * height])
    return {"boxes": boxes, "classes": classes}


def _parse(line: str, where: str) -> tuple[int, tuple[float, float, float, float]]:
    cells = line.split()
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        raise DataError(f"{where}: '{line.strip():.80}' holds something that is no number", hint=_FORM) from None
    is_polygon = len(values) >= 7 and len(values) % 2 == 1
    if len(values) != 5 and not is_polygon:
        raise DataError(f"{where}: {len(values)} numbers instead of 5", hint=_FORM)
    if not values[0].is_integer() or not all(math.isfinite(value) for value in values):
        raise DataError(f"{where}: '{line.strip():.80}' is no class number and four finite numbers", hint=_FORM)
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values[1:]):
        raise DataError(
            f"{where}: '{line.strip():.80}' is outside of 0..1",
            hint="YOLO's boxes are shares of the picture, not pixels",
        )
    if is_polygon:
        return int(values[0]), (min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2]))
    number, centre_x, centre_y, width, height = values
    if width <= 0 or height <= 0:
        raise DataError(f"{where}: a box of {width} x {height} has no area", hint="remove the line")
    half_width, half_height = width / 2, height / 2
    return int(number), (centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height)
