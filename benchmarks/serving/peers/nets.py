"""The three models as every peer runs them: plain ONNX Runtime, NumPy and OpenCV, one thread. It imports no peer."""

import os
from pathlib import Path
from typing import Any

import cv2  # noqa: TID253 - this runs in the peers' environments
import numpy as np
import onnxruntime  # noqa: TID253 - as above

_SIDE = 640
_SCORE, _OVERLAP, _MOST = 0.25, 0.65, 300


def open_session(name: str) -> Any:  # a peer's environment has no types
    """Load a model from the folder that $BENCH_MODELS names, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = Path(os.environ["BENCH_MODELS"]) / f"{name}.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Plain:
    """Answer one array with one array: T and M."""

    def __init__(self, name: str) -> None:
        self.session = open_session(name)
        self.name = self.session.get_inputs()[0].name

    def __call__(self, values: Any) -> Any:  # an array to an array
        """Infer."""
        return self.session.run(None, {self.name: values})[0]


class Detector:
    """Answer a JPEG with boxes: D."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        self.session = open_session("D")

    def __call__(self, jpeg: bytes) -> dict[str, Any]:
        """Decode, letterbox, infer, drop overlapping boxes, map them back."""
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError("not a picture")
        values, ratio, left, top = letterbox(picture)
        found = self.session.run(None, {"images": values})[0][0].T
        scores = found[:, 4:]
        classes = scores.argmax(1)
        best = scores[np.arange(len(scores)), classes]
        kept = best >= _SCORE
        boxes, classes, best = found[kept, :4], classes[kept], best[kept]
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
        corners = (corners - (left, top, left, top)) / ratio
        chosen = _suppress(corners, best, classes)
        height, width = picture.shape[:2]
        corners = np.clip(corners[chosen], 0, (width, height, width, height))
        return {"boxes": corners.tolist(), "scores": best[chosen].tolist(), "classes": classes[chosen].tolist()}


def letterbox(picture: Any) -> tuple[Any, float, int, int]:
    """Fit a BGR picture into the middle of the input; gives the tensor, the factor and the offsets."""
    height, width = picture.shape[:2]
    ratio = min(_SIDE / height, _SIDE / width)
    inner_height, inner_width = round(height * ratio), round(width * ratio)
    top, left = (_SIDE - inner_height) // 2, (_SIDE - inner_width) // 2
    canvas = np.full((_SIDE, _SIDE, 3), 114, np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = cv2.resize(picture, (inner_width, inner_height))
    values = cv2.dnn.blobFromImage(canvas, 1 / 255, swapRB=True)
    return values, ratio, left, top


def _suppress(corners: Any, scores: Any, classes: Any) -> Any:
    # Moving each class to a place of its own lets one pass serve all: boxes of different classes never overlap then.
    moved = corners + (classes * 10_000.0)[:, None]
    areas = (moved[:, 2] - moved[:, 0]) * (moved[:, 3] - moved[:, 1])
    order = np.argsort(-scores, kind="stable")
    chosen: list[Any] = []  # indices
    while order.size and len(chosen) < _MOST:
        first, order = order[0], order[1:]
        chosen.append(first)
        low = np.maximum(moved[first, :2], moved[order, :2])
        high = np.minimum(moved[first, 2:], moved[order, 2:])
        sides = np.clip(high - low, 0, None)
        shared = sides[:, 0] * sides[:, 1]
        order = order[shared <= _OVERLAP * (areas[first] + areas[order] - shared)]
    return np.array(chosen, np.int64)
