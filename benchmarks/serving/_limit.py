"""Run each model in a bare loop, nothing around it, and print how long a call takes: the limit of every server.

Run with $BENCH_MODELS, on the server's core.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.serving.peers import nets

_SECONDS = {"T": 0.3, "M": 0.7, "D": 1.0}


def _timed(call: Callable[[], Any], seconds: float) -> dict[str, float]:
    for _ in range(2):
        call()
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while (wall_s := time.perf_counter() - start) < seconds:
        call()
        count += 1
    return {"wall_us": wall_s / count * 1e6, "cpu_us": (time.process_time() - cpu) / count * 1e6}


def main() -> None:
    """Time T and M as bare calls of the session, D from the JPEG to its boxes."""
    tabular, mobile, detector = nets.Plain("T"), nets.Plain("M"), nets.Detector()
    row, tensor = np.ones((1, 30), np.float32), np.ones((1, 3, 224, 224), np.float32)
    jpeg = (Path(os.environ["BENCH_MODELS"]) / "picture.jpg").read_bytes()
    calls: dict[str, Callable[[], Any]] = {
        "T": lambda: tabular.session.run(None, {tabular.name: row}),
        "M": lambda: mobile.session.run(None, {mobile.name: tensor}),
        "D": lambda: detector(jpeg),
    }
    print(json.dumps({name: _timed(call, _SECONDS[name]) for name, call in calls.items()}))


if __name__ == "__main__":
    main()
