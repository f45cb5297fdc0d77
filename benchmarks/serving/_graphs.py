"""Write the three models as ONNX: their usual layouts, seeded random weights, no normalization layers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx  # noqa: TID253 - this program makes models
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper  # noqa: TID253 - as above

Weights = NDArray[np.float32]
_OPSET = 17
_MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_CLASSES = 80
_BINS = 16
_SIDE = 640
_STRIDES = (8, 16, 32)


class Graph:
    """Collect nodes and weights; each layer gives the name of what it makes."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[Any] = []  # onnx has no types here
        self._weights: list[Any] = []  # as above
        self._count = 0

    def constant(self, value: NDArray[Any]) -> str:  # of any dtype
        """Keep an array."""
        name = self._name("w")
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:  # attributes are ONNX's own
        """Add a node of one output."""
        return self.nodes(kind, *inputs, outputs=1, **attributes)[0]

    def nodes(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:  # as above
        """Add a node of several outputs."""
        names = [self._name("t") for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def draw(self, *shape: int, fan_in: int) -> Weights:
        """Draw weights that keep the spread of what goes through them."""
        return self._rng.normal(0.0, (2.0 / fan_in) ** 0.5, shape).astype(np.float32)

    def conv(self, features: str, *, inner: int, outer: int, size: int = 1, stride: int = 1, group: int = 1) -> str:
        """Convolve with a bias, no activation."""
        weights = self.constant(self.draw(outer, inner // group, size, size, fan_in=inner // group * size * size))
        bias = self.constant(self._rng.normal(0.0, 0.05, outer).astype(np.float32))
        edge = size // 2
        return self.node(
            "Conv", features, weights, bias, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[edge] * 4, group=group
        )

    def save(self, path: Path, given: Any, made: dict[str, str], shape: list[Any]) -> None:  # ONNX's own types
        """Write the model; `made` is {name of the output: what it is}."""
        for name, inner in made.items():
            self._nodes.append(helper.make_node("Identity", [inner], [name]))
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in made]
        graph = helper.make_graph(self._nodes, path.stem, [given], outputs, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)

    def _name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"


def write_mlp(path: Path) -> None:
    """Write T: rows [batch, 30] -> 64, ReLU -> 2 scores."""
    graph = Graph(seed=1)
    features, inner = "rows", 30
    for outer in (64, 2):
        weights = graph.constant(graph.draw(inner, outer, fan_in=inner))
        bias = graph.constant(graph.draw(outer, fan_in=outer))
        features = graph.node("Add", graph.node("MatMul", features, weights), bias)
        features = graph.node("Relu", features) if outer == 64 else graph.node("Softmax", features, axis=1)
        inner = outer
    given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 30])
    graph.save(path, given, {"scores": features}, ["batch", 2])


def write_mobilenet(path: Path) -> None:
    """Write M: MobileNetV2 1.0, pictures [batch, 3, 224, 224] -> 1000 scores."""
    graph = Graph(seed=2)
    low, high = graph.constant(np.array(0, np.float32)), graph.constant(np.array(6, np.float32))

    def clipped(features: str, **shape: int) -> str:
        return graph.node("Clip", graph.conv(features, **shape), low, high)

    features, inner = clipped("picture", inner=3, outer=32, size=3, stride=2), 32
    for expand, outer, repeats, first_stride in _MOBILE:
        for place in range(repeats):
            stride, wide = first_stride if place == 0 else 1, inner * expand
            made = features if expand == 1 else clipped(features, inner=inner, outer=wide)
            made = clipped(made, inner=wide, outer=wide, size=3, stride=stride, group=wide)
            made = graph.conv(made, inner=wide, outer=outer)
            features = graph.node("Add", features, made) if stride == 1 and inner == outer else made
            inner = outer
    features = graph.node("Flatten", graph.node("GlobalAveragePool", clipped(features, inner=320, outer=1280)))
    weights = graph.constant(graph.draw(1280, 1000, fan_in=1280))
    scores = graph.node("Softmax", graph.node("MatMul", features, weights), axis=1)
    given = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, 224, 224])
    graph.save(path, given, {"scores": scores}, ["batch", 1000])


class _Detector:
    """Build the detector's blocks."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def conv(self, features: str, inner: int, outer: int, size: int = 1, stride: int = 1) -> str:
        """Convolve, SiLU."""
        made = self.graph.conv(features, inner=inner, outer=outer, size=size, stride=stride)
        return self.graph.node("Mul", made, self.graph.node("Sigmoid", made))

    def split(self, features: str, inner: int, outer: int, *, depth: int = 1, adds: bool = True) -> str:
        """Go two ways, one through bottlenecks, and join every part."""
        half = outer // 2
        parts = self.graph.nodes("Split", self.conv(features, inner, outer), outputs=2, axis=1)
        for _ in range(depth):
            made = self.conv(self.conv(parts[-1], half, half, 3), half, half, 3)
            parts.append(self.graph.node("Add", parts[-1], made) if adds else made)
        return self.conv(self.join(*parts), (2 + depth) * half, outer)

    def pool(self, features: str, width: int) -> str:
        """Pool 5 x 5 three times in a row."""
        parts = [self.conv(features, width, width // 2)]
        for _ in range(3):
            shape = {"kernel_shape": [5, 5], "strides": [1, 1], "pads": [2, 2, 2, 2]}
            parts.append(self.graph.node("MaxPool", parts[-1], **shape))
        return self.conv(self.join(*parts), width * 2, width)

    def up(self, features: str) -> str:
        """Double height and width."""
        scales = self.graph.constant(np.array([1, 1, 2, 2], np.float32))
        kind = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.graph.node("Resize", features, "", scales, **kind)

    def join(self, *parts: str, axis: int = 1) -> str:
        """Concatenate."""
        return self.graph.node("Concat", *parts, axis=axis)

    def levels(self) -> list[tuple[str, int]]:
        """Give the features of the three levels with their widths."""
        features = self.conv("images", 3, 16, 3, 2)
        found = []
        for inner, outer, depth in ((16, 32, 1), (32, 64, 2), (64, 128, 2), (128, 256, 1)):
            features = self.split(self.conv(features, inner, outer, 3, 2), outer, outer, depth=depth)
            found.append(features)
        level3, level4, level5 = found[1], found[2], self.pool(found[3], 256)
        up4 = self.split(self.join(self.up(level5), level4), 384, 128, adds=False)
        out3 = self.split(self.join(self.up(up4), level3), 192, 64, adds=False)
        out4 = self.split(self.join(self.conv(out3, 64, 64, 3, 2), up4), 192, 128, adds=False)
        out5 = self.split(self.join(self.conv(out4, 128, 128, 3, 2), level5), 384, 256, adds=False)
        return [(out3, 64), (out4, 128), (out5, 256)]

    def head(self, features: str, width: int) -> str:
        """Give [batch, 4 bins + classes, cells] of one level."""
        boxes = self.conv(self.conv(features, width, 64, 3), 64, 64, 3)
        classes = self.conv(self.conv(features, width, 80, 3), 80, 80, 3)
        # Small, so that scores lie far from 0 and 1.
        quieter = self.graph.constant(np.array(0.1, np.float32))
        boxes, classes = self.graph.node("Mul", boxes, quieter), self.graph.node("Mul", classes, quieter)
        made = self.join(
            self.graph.conv(boxes, inner=64, outer=4 * _BINS), self.graph.conv(classes, inner=80, outer=_CLASSES)
        )
        shape = self.graph.constant(np.array([0, 4 * _BINS + _CLASSES, -1], np.int64))
        return self.graph.node("Reshape", made, shape)


def write_detector(path: Path, *, bias: float) -> None:
    """Write D: YOLOv8n's layout, pictures [1, 3, 640, 640] -> [1, 84, 8400]; `bias` is added to each class's logit."""
    graph = Graph(seed=3)
    detector = _Detector(graph)
    joined = detector.join(*(detector.head(*level) for level in detector.levels()), axis=2)
    sizes = graph.constant(np.array([4 * _BINS, _CLASSES], np.int64))
    sides, classes = graph.nodes("Split", joined, sizes, outputs=2, axis=1)
    shape = graph.constant(np.array([0, 4, _BINS, -1], np.int64))
    odds = graph.node("Softmax", graph.node("Reshape", sides, shape), axis=2)
    bins = graph.constant(np.arange(_BINS, dtype=np.float32).reshape(1, 1, _BINS, 1))
    axes = graph.constant(np.array([2], np.int64))
    sides = graph.node("ReduceSum", graph.node("Mul", odds, bins), axes, keepdims=0)
    two = graph.constant(np.array([2, 2], np.int64))
    before, after = graph.nodes("Split", sides, two, outputs=2, axis=1)
    centres, strides = _anchors()
    anchors = graph.constant(centres)
    first, last = graph.node("Sub", anchors, before), graph.node("Add", anchors, after)
    middle = graph.node("Mul", graph.node("Add", first, last), graph.constant(np.array(0.5, np.float32)))
    boxes = graph.node("Mul", detector.join(middle, graph.node("Sub", last, first)), graph.constant(strides))
    scores = graph.node("Sigmoid", graph.node("Add", classes, graph.constant(np.array(bias, np.float32))))
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])
    graph.save(path, given, {"found": detector.join(boxes, scores)}, [1, 4 + _CLASSES, len(strides[0, 0])])


def _anchors() -> tuple[Weights, Weights]:
    centres, strides = [], []
    for stride in _STRIDES:
        cells = np.arange(_SIDE // stride, dtype=np.float32) + 0.5
        columns, rows = np.meshgrid(cells, cells)
        centres.append(np.stack([columns.ravel(), rows.ravel()]))
        strides.append(np.full(columns.size, stride, np.float32))
    return np.concatenate(centres, 1)[None], np.concatenate(strides)[None, None]
