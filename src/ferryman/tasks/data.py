"""Read the user's data: items and, where they are labelled, the truth of each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ferryman.core.deployment import DataSection, EvaluationSection
from ferryman.core.errors import DataError
from ferryman.core.task import Item, Samples, TaskSpec
from ferryman.tasks.embed import EmbedSpec, split_pairs
from ferryman.tasks.files import digest_files, digest_truths, find_files, relative_name, spread
from ferryman.tasks.rows import read_rows
from ferryman.tasks.truth_classes import read_csv_classes, read_folder_classes
from ferryman.tasks.truth_coco import read_coco_boxes
from ferryman.tasks.truth_yolo import read_yolo_boxes
from ferryman.tasks.truths import Labelling, TruthReader

_ROW_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".npz")
_PICTURE_FORMATS: dict[str, TruthReader] = {
    "yolo": read_yolo_boxes,
    "coco": read_coco_boxes,
    "csv": read_csv_classes,
    "folders": read_folder_classes,
}
_KINDS = {"yolo": "detect", "coco": "detect", "csv": "classify", "folders": "classify"}


def read_samples(section: EvaluationSection, folder: Path, task_spec: TaskSpec) -> Samples:
    """Read labelled data; raises DataError that names file, line and value."""
    if section.format not in (None, "table", "arrays", *_PICTURE_FORMATS):
        known = ", ".join([*_PICTURE_FORMATS, "table", "arrays"])
        raise DataError(f"data.evaluation.format = '{section.format}' is not known", hint=f"known: {known}")
    if _holds_rows(section.items) and task_spec.kind not in ("classify", "detect"):
        file = find_files(section.items, folder, key="data.evaluation.items")[0]
        rows = read_rows(file, _as_listed(task_spec), target=section.target, needs_target=True)
        samples = _split(_thin(rows, section.limit), task_spec)
    else:
        samples = _read_pictures(section, folder, task_spec)
    # The same files say other things when their column or folder is another: a metric must not outlive its truths.
    return replace(samples, digest=digest_truths(samples.digest, samples.names, samples.truths))


def read_calibration(section: DataSection, folder: Path, task_spec: TaskSpec) -> Samples:
    """Read unlabelled data; raises DataError. Without `calibration` there are none."""
    if section.calibration is None:
        return Samples((), ())
    if _holds_rows(section.calibration) and task_spec.kind not in ("classify", "detect"):
        file = find_files(section.calibration, folder, key="data.calibration")[0]
        target = section.evaluation.target if section.evaluation else None
        rows = read_rows(file, _as_listed(task_spec), target=target, needs_target=False)
        # The target's column is left out of the items, so another target makes other items of the same file.
        unlabelled = Samples(rows.items, rows.names, None, f"{rows.digest}-{target}")
        return _split(_thin(unlabelled, section.calibration_limit), task_spec)
    files = find_files(section.calibration, folder, key="data.calibration")
    chosen = [files[place] for place in spread(len(files), section.calibration_limit)]
    return Samples(chosen, [relative_name(path, folder) for path in chosen], None, digest_files(chosen))


def _as_listed(task_spec: TaskSpec) -> TaskSpec:
    """Give the spec with the columns that its tables have: those of pairs are not those of requests."""
    if isinstance(task_spec, EmbedSpec) and task_spec.pairs:
        return task_spec.model_copy(update={"columns": task_spec.pairs})
    return task_spec


def _split(rows: Samples, task_spec: TaskSpec) -> Samples:
    if isinstance(task_spec, EmbedSpec) and task_spec.pairs:
        return split_pairs(rows, task_spec.pairs, task_spec.columns[0])
    return rows


def _holds_rows(pattern: str) -> bool:
    return pattern.lower().endswith(_ROW_SUFFIXES) and not any(sign in pattern for sign in "*?[")


def _thin(samples: Samples, limit: int | None) -> Samples:
    if limit is None or limit >= len(samples.items):
        return samples
    places = spread(len(samples.items), limit)
    truths = None if samples.truths is None else [samples.truths[place] for place in places]
    items, names = [samples.items[place] for place in places], [samples.names[place] for place in places]
    return Samples(items, names, truths, digest=f"{samples.digest}-{limit}")


def _read_pictures(section: EvaluationSection, folder: Path, task_spec: TaskSpec) -> Samples:
    kind = section.format or _guess_format(section, task_spec)
    if kind not in _PICTURE_FORMATS:
        raise DataError(
            f"data.evaluation.format = '{kind}' doesn't go with task '{task_spec.kind}' and items = '{section.items}'"
        )
    if task_spec.kind in _KINDS.values() and _KINDS[kind] != task_spec.kind:
        raise DataError(
            f"data.evaluation.format = '{kind}' holds truths of task '{_KINDS[kind]}', not of '{task_spec.kind}'",
            hint="boxes come as yolo or coco, classes as csv or folders",
        )
    files = find_files(section.items, folder, key="data.evaluation.items")
    labels = getattr(task_spec, "labels", None)
    labelling = Labelling(
        folder=folder,
        pattern=section.labels,
        target=section.target,
        labels=labels if isinstance(labels, tuple) else None,
        limit=section.limit,
    )
    pictures, truths, sources = _PICTURE_FORMATS[kind](files, labelling)
    items: Sequence[Item] = pictures
    names = [relative_name(path, folder) for path in pictures]
    return Samples(items, names, truths, digest_files([*pictures, *sources]))


def _guess_format(section: EvaluationSection, task_spec: TaskSpec) -> str:
    labels = (section.labels or "").lower()
    if labels.endswith(".json"):
        return "coco"
    if labels.endswith(".csv") or section.items.lower().endswith(".csv"):
        return "csv"
    return "folders" if task_spec.kind == "classify" else "yolo"
