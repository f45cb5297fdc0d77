"""Which signal of pictures moves under which corruption, on real pictures, and what looking costs.

`FERRYMAN_SHARED=FOLDER python -m benchmarks.signals` prints the tables of docs/monitoring/signals.md (two minutes).
"""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from tests.monitor.signals.corrupting import CORRUPTIONS, Picture, moved

from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import bind_task
from ferryman.monitor.signals.read import Signals
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.image import ImageInput

SIGNALS = ("brightness", "contrast", "sharpness", "noise", "faint", "red", "blue", "blocked", "aspect")
SETS = {"coco128_val": ("coco128_val/images/*.jpg", 416), "DeepPCB": ("deeppcb/test/images/*.png", 320)}
COST = ((224, 224), (416, 416), (640, 640), (1280, 1280))


def bound(height: int, width: int) -> tuple[ClassifySpec, Signature]:
    """Give a spec that letterboxes pictures into floats of this size, and a signature that takes them."""
    inputs = (TensorSpec(name="images", dtype="float32", shape=("batch", 3, height, width)),)
    outputs = (TensorSpec(name="scores", dtype="float32", shape=("batch", 10)),)
    return ClassifySpec(input=ImageInput(fit="letterbox", channels="BGR")), Signature(inputs=inputs, outputs=outputs)


def read(pictures: Sequence[Picture], side: int) -> Mapping[str, Sequence[float]]:
    """Give the signals of pictures."""
    spec, signature = bound(side, side)
    task, signals = bind_task(spec, signature), Signals(spec, signature)
    found: dict[str, list[float]] = {}
    for picture in pictures:
        batch = task.preprocess([picture])
        one = signals.read(inputs=batch.inputs, items=None, contexts=batch.contexts, answers=None, outputs=None, rows=1)
        for name, values in one.items():
            found.setdefault(name, []).append(cast(float, values[0]))
    return found


def show_moves(name: str, folder: Path) -> None:
    """Print how far each signal moves under each corruption."""
    import cv2

    pattern, side = SETS[name]
    files = sorted(folder.glob(pattern))[:128]
    pictures = [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]
    clean = read(pictures, side)
    print(f"\n{name}, {len(files)} pictures\n\n| | {' | '.join(CORRUPTIONS)} |\n|---|{'---|' * len(CORRUPTIONS)}")
    spoilt = {corruption: read([spoil(one) for one in pictures], side) for corruption, spoil in CORRUPTIONS.items()}
    for signal in SIGNALS:
        key = f"picture.{signal}"
        shifts = [moved(clean[key], spoilt[corruption][key]) for corruption in CORRUPTIONS]
        cells = [f"**{shift:+.2f}**" if abs(shift) >= 0.3 else f"{shift + 0:+.2f}" for shift in shifts]
        print(f"| {signal} | {' | '.join(cells)} |")


def show_cost() -> None:
    """Print the CPU time of reading one picture."""
    print("\n| input | median ms | least ms |\n|---|---|---|")
    rng = np.random.default_rng(0)
    for height, width in COST:
        spec, signature = bound(height, width)
        signals = Signals(spec, signature)
        batch = bind_task(spec, signature).preprocess([rng.integers(0, 255, (height, width, 3), np.uint8)])
        times = []
        for _ in range(500):
            began_s = time.thread_time()
            signals.read(inputs=batch.inputs, items=None, contexts=batch.contexts, answers=None, outputs=None, rows=1)
            times.append(1000 * (time.thread_time() - began_s))
        print(f"| {height} x {width} | {statistics.median(times):.2f} | {min(times):.2f} |")


if __name__ == "__main__":
    for known in SETS:
        show_moves(known, Path(os.environ["FERRYMAN_SHARED"]))
    show_cost()
