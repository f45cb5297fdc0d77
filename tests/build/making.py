"""Make small projects that really build: a detector worked out by hand, its pictures and labels, a ferryman.toml."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 160
CELL = 16
GRID = SIDE // CELL
WIDTH = 32
TASK = """
kind = "detect"
decoder = "yolov8"
labels = ["red", "green"]
input = { size = [160, 160], fit = "stretch", channels = "RGB", scale = 0.00392156862745098 }
nms = { iou = 0.5, score = 0.01 }
"""
DATA = """
calibration = "calibration/*.png"
evaluation = { items = "evaluation/*.png", labels = "evaluation/*.txt", format = "yolo" }
"""


def make_detector(path: Path, *, opset: int = 17) -> Path:
    """Write a detector of red and green squares: RGB of 0-1 [1, 3, 160, 160] -> [1, 4 + 2, 100], a row a cell of 16 px.

    Its tail joins boxes in pixels with scores of 0 to 1, as real heads do: one INT8 scale for both leaves the scores
    no more than three values.
    """
    weights: dict[str, NDArray[Any]] = {
        "stem_w": _means(3, WIDTH, 2),
        "stem_b": np.zeros(WIDTH, np.float32),
        "down_w": _means(WIDTH, WIDTH, 2),
        "down_b": np.zeros(WIDTH, np.float32),
        "cell_w": _means(WIDTH, WIDTH, 4),
        "cell_b": np.zeros(WIDTH, np.float32),
        "box_w": np.zeros((4, WIDTH, 1, 1), np.float32),
        "box_b": np.array([0, 0, CELL, CELL], np.float32),
        "class_w": _class_weights(),
        "class_b": np.full(2, -6, np.float32),
        "centres": _centres(),
        "box_shape": np.array([1, 4, GRID * GRID]),
        "class_shape": np.array([1, 2, GRID * GRID]),
    }
    nodes = [
        _conv("stem", "images", strides=[2, 2]),
        helper.make_node("Relu", ["stem"], ["stem_relu"], name="stem_relu"),
        _conv("down", "stem_relu", strides=[2, 2]),
        helper.make_node("Relu", ["down"], ["down_relu"], name="down_relu"),
        _conv("cell", "down_relu", strides=[4, 4]),
        helper.make_node("Relu", ["cell"], ["cell_relu"], name="cell_relu"),
        _conv("box", "cell_relu"),
        _conv("class", "cell_relu"),
        helper.make_node("Add", ["box", "centres"], ["pixels"], name="decode"),
        helper.make_node("Reshape", ["pixels", "box_shape"], ["boxes"], name="list_boxes"),
        helper.make_node("Reshape", ["class", "class_shape"], ["logits"], name="list_classes"),
        helper.make_node("Sigmoid", ["logits"], ["scores"], name="sigmoid"),
        helper.make_node("Concat", ["boxes", "scores"], ["output"], name="join", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 6, GRID * GRID])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def _conv(name: str, source: str, *, strides: list[int] | None = None) -> Any:  # onnx.NodeProto
    return helper.make_node("Conv", [source, f"{name}_w", f"{name}_b"], [name], name=name, strides=strides or [1, 1])


def _means(channels: int, count: int, side: int) -> NDArray[np.float32]:
    """Give a kernel that averages each of the first channels, and random mixtures in the others."""
    kernel = np.random.default_rng(5).random((count, channels, side, side)).astype(np.float32)
    kernel /= kernel.sum(axis=(1, 2, 3), keepdims=True)
    kernel[:3] = 0
    for channel in range(3):
        kernel[channel, channel] = 1 / side**2
    return kernel


def _class_weights() -> NDArray[np.float32]:
    kernel = np.zeros((2, WIDTH, 1, 1), np.float32)
    kernel[0, 0] = kernel[1, 1] = 12
    return kernel


def _centres() -> NDArray[np.float32]:
    rows, columns = np.mgrid[:GRID, :GRID].astype(np.float32) * CELL + CELL / 2
    return np.stack([columns, rows, np.zeros_like(rows), np.zeros_like(rows)])[None].astype(np.float32)


def write_pictures(folder: Path, *, count: int, seed: int, has_labels: bool = True) -> Path:
    """Write PNG pictures of bright squares (objects) and dim ones (decoys), beside each its labels in YOLO's form."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        picture, lines = _draw(generator)
        cv2.imwrite(str(folder / f"{index:03d}.png"), picture)
        if has_labels:
            (folder / f"{index:03d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _draw(generator: np.random.Generator) -> tuple[NDArray[np.uint8], list[str]]:
    picture = generator.integers(0, 25, (SIDE, SIDE, 3)).astype(np.uint8)
    lines = []
    for place in generator.permutation(GRID * GRID)[:8]:
        top, left = divmod(int(place), GRID)
        is_object = generator.random() < 0.6
        light = generator.uniform(0.62, 1.0) if is_object else generator.uniform(0.3, 0.46)
        kind = int(generator.integers(2))
        picture[top * CELL : (top + 1) * CELL, left * CELL : (left + 1) * CELL, 2 - kind] = round(255 * light)
        if is_object:
            shift_x, shift_y = generator.uniform(-3, 3, 2)
            middle_x, middle_y = (left + 0.5) * CELL + shift_x, (top + 0.5) * CELL + shift_y
            numbers = np.clip([middle_x / SIDE, middle_y / SIDE, CELL / SIDE, CELL / SIDE], 0, 1)
            lines.append(f"{kind} " + " ".join(f"{number:.5f}" for number in numbers))
    return picture, lines


def write_project(
    folder: Path, *, contract: str = "", build: str = "", data: str = DATA, model: str = "", options: str = ""
) -> Path:
    """Write a project of the detector with 32 calibration and 16 labelled pictures; sections are TOML lines."""
    folder.mkdir(parents=True, exist_ok=True)
    make_detector(folder / "squares.onnx")
    write_pictures(folder / "calibration", count=32, seed=1, has_labels=False)
    write_pictures(folder / "evaluation", count=16, seed=2)
    write_toml(folder, contract=contract, build=build, data=data, model=model, options=options)
    return folder


def write_toml(
    folder: Path, *, contract: str = "", build: str = "", data: str = DATA, model: str = "", options: str = ""
) -> Path:
    """Write the detector's ferryman.toml alone; `options` holds whole sections."""
    source = model or 'name = "squares"\nsource = "squares.onnx"\nlicense = "Apache-2.0"'
    sections = {"model": source, "task": TASK, "data": data, "contract": contract, "build": build}
    text = "".join(f"[{name}]\n{lines.strip()}\n\n" for name, lines in sections.items()) + options
    path = folder / "ferryman.toml"
    path.write_text(text, encoding="utf-8")
    return path
