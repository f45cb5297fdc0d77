"""Signals of real pictures, clean and spoiled, once for each picture and change; kept on disk."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2  # noqa: TID253 - a bench, not the package
import numpy as np
from benchmarks.cases.pictures import write_deeppcb, write_yolox
from numpy.typing import NDArray

from ferryman.core.plugins import find
from ferryman.core.record import Value
from ferryman.core.task import bind_task
from ferryman.monitor.signals.read import Signals
from ferryman.runtimes.onnx import OnnxSession

Picture = NDArray[np.uint8]
Table = dict[str, list[Value]]

MOST_PICTURES = 300


def _brightness(picture: Picture, rng: np.random.Generator) -> Picture:
    return np.asarray(picture * 0.6, np.uint8)


def _blur(picture: Picture, rng: np.random.Generator) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.0), np.uint8)


def _noise(picture: Picture, rng: np.random.Generator) -> Picture:
    noisy = picture + rng.normal(0, 15, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _jpeg(picture: Picture, rng: np.random.Generator) -> Picture:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 12])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def _lens_shift(picture: Picture, rng: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    moved = cv2.warpAffine(picture, np.float32([[1, 0, 0.25 * width], [0, 1, 0.15 * height]]), (width, height))
    return np.asarray(moved, np.uint8)


def _occlusion(picture: Picture, rng: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    covered = picture.copy()
    covered[: int(0.45 * height), : int(0.55 * width)] = 30  # a quarter of the picture: dirt on the lens
    return covered


CHANGES: Mapping[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "clean": lambda picture, rng: picture,
    "brightness": _brightness,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "lens shift": _lens_shift,
    "occlusion": _occlusion,
}
SETS: Mapping[str, Callable[[Path], Mapping[str, Any]]] = {"coco128": write_yolox, "deeppcb": write_deeppcb}


def signals_of(name: str, data: Path, cache: Path) -> dict[str, Table]:
    """Give the signals of each change of a set of pictures, by change; made where the cache lacks them."""
    return {change: _table(name, change, data, cache / f"{name}-{change.replace(' ', '-')}.json") for change in CHANGES}


def mix_of(name: str, table: Table) -> NDArray[np.float64]:
    """Give how likely each picture of a set is once other classes come: five times for those without the usual one."""
    labels = table["answer.label"]
    known = [label for label in labels if label is not None]
    usual = max(set(known), key=known.count)
    weights = np.asarray([1.0 if label == usual else 5.0 for label in labels])
    return weights / weights.sum()


def _table(name: str, change: str, data: Path, path: Path) -> Table:
    if path.is_file():
        stored: Table = json.loads(path.read_text())
        return stored
    settings = SETS[name](path.parent)
    spec = find("tasks", "detect").cls.Spec.model_validate(settings["task"]).resolved(path.parent)
    session = OnnxSession(data / settings["model"]["source"].removeprefix("data/"), threads=2)
    task, signals = bind_task(spec, session.signature), Signals(spec, session.signature)
    pattern = settings["data"]["evaluation"]["items"].removeprefix("data/")
    table: Table = {}
    rng = np.random.default_rng(0)
    files = sorted(data.glob(pattern))
    for file in files[:: -(-len(files) // MOST_PICTURES)]:
        picture = CHANGES[change](np.asarray(cv2.imread(str(file)), np.uint8), rng)
        batch = task.preprocess([picture])
        outputs = session.infer(batch.inputs)
        answers = task.postprocess(outputs, batch)
        read = signals.read(
            inputs=batch.inputs, items=[picture], contexts=batch.contexts, answers=answers, outputs=outputs, rows=1
        )
        for signal, values in read.items():
            table.setdefault(signal, []).extend(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(table))
    part.rename(path)
    return table
