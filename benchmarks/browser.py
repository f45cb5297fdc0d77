"""Run a detector in headless Chromium, by both engines: the boxes beside Python's, and milliseconds a picture."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks._tables import table
from benchmarks.cases.project import shared_folder
from tests.runtimes.web_pages import opened

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.plugins import find, runtime_for
from ferryman.core.step import StepContext
from ferryman.core.task import Answer, bind_task, infer_items
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.detections import compare_detections, to_boxes
from ferryman.tasks.image import ImageInput
from ferryman.tasks.picture import read_picture

ENGINES = {"onnxruntime-web": ("ort-web",), "TensorFlow.js": ("tf-savedmodel", "tfjs")}
SPEC = DetectSpec(decoder="yolox", labels="coco80", input=ImageInput(anchor="top-left", channels="BGR"))


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one engine's figures; the milliseconds are medians, and the least that the model took."""

    engine: str
    mb: float
    boxes: int
    unmatched: float
    worst_score: float
    worst_box_px: float
    prepare_ms: float
    model_ms: float
    model_least_ms: float
    finish_ms: float


def measure(engine: str, steps: tuple[str, ...], source: Artifact, pictures: list[Any], folder: Path) -> Row:
    """Make the folder, open its page and ask for every picture; the first is asked twice, and counted once."""
    made = source
    for name in steps:
        made = find("steps", name).require()().run(made, StepContext(folder / name))
    session = runtime_for("onnx").require()().load(source, threads=1)
    spec = SPEC.resolved(folder)
    wanted = infer_items(bind_task(spec, source.signature), session, pictures)
    session.close()
    with opened(made.path, spec, made.signature) as page:
        page.ask(pictures[0])
        told = [page.ask(picture) for picture in pictures]
    answers: list[Answer] = [one["answer"] for one in told]
    apart = compare_detections(wanted, answers, show_score=0.25).figures
    taken = {name: np.asarray([one["ms"][name] for one in told]) for name in ("prepare", "model", "finish")}
    return Row(
        engine,
        made.size_bytes / 1e6,
        sum(int((to_boxes(answer).scores >= 0.25).sum()) for answer in answers),
        apart["unmatched"],
        apart["max_score_diff"],
        apart["max_box_diff"],
        float(np.median(taken["prepare"])),
        float(np.median(taken["model"])),
        float(taken["model"].min()),
        float(np.median(taken["finish"])),
    )


def main() -> int:
    """Measure and print; with --json the figures as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=20, help="how many of the photographs")
    parser.add_argument("--json", action="store_true", help="print figures instead of a table")
    args = parser.parse_args()
    shared = shared_folder()
    if shared is None:
        print("the real models and data are missing; set FERRYMAN_SHARED to their folder", file=sys.stderr)
        return 1
    photographs = sorted((shared / "coco128_val" / "images").iterdir())[: args.pictures]
    pictures = [read_picture(path, name=path.name) for path in photographs]
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name), shared / "models" / "yolox_nano.onnx"
        source = find("sources", "onnx").cls().open(file, ModelSection(name="m", source=str(file)), folder / "opened")
        rows = [measure(engine, steps, source, pictures, folder / engine) for engine, steps in ENGINES.items()]
    print(json.dumps([asdict(row) for row in rows], indent=1) if args.json else _table(rows))
    return 0


def _table(rows: list[Row]) -> str:
    head = ["engine", "folder, MB", "boxes", "unmatched", "score", "box, px", "prepare", "model", "least", "finish"]
    body = [
        [row.engine, f"{row.mb:.1f}", str(row.boxes), f"{row.unmatched:.3f}", f"{row.worst_score:.1e}"]
        + [f"{row.worst_box_px:.3f}"]
        + [f"{value:.1f} ms" for value in (row.prepare_ms, row.model_ms, row.model_least_ms, row.finish_ms)]
        for row in rows
    ]
    return table(head, body)


if __name__ == "__main__":
    sys.exit(main())
