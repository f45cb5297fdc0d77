"""Channels are followed exactly: a graph without them answers as one in which nothing reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ferryman.optimize._atom_rules import follow
from ferryman.optimize._atoms import Channels
from ferryman.optimize._narrow import choose, families, kept_along, layers_with_work, narrow
from ferryman.optimize._onnx import fold, infer_shapes, load, name_nodes
from ferryman.runtimes.onnx import OnnxSession
from tests.optimize.making import artifact_of

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
Graph = tuple[list[Any], dict[str, Any]]  # nodes and arrays


class Drawing:
    """Write a graph line by line: node(op, inputs, attributes) gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.arrays: dict[str, Any] = {}
        self._random = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        return self.constant(self._random.normal(0, 0.4, shape).astype(np.float32))

    def constant(self, values: Any) -> str:
        name = f"c{len(self.arrays)}"
        self.arrays[name] = np.asarray(values)
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"n{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, given: str, before: int, after: int, kernel: int = 3, **attributes: Any) -> str:
        pads = [kernel // 2] * 4
        weight, bias = self.weight(after, before, kernel, kernel), self.weight(after)
        made: str = self.node("Conv", given, weight, bias, pads=pads, **attributes)
        return made

    def silu(self, given: str) -> str:
        made: str = self.node("Mul", given, self.node("Sigmoid", given))
        return made


def chunked_by_split(draw: Drawing) -> str:
    """Write YOLO's C2f: half of a convolution's channels goes through a bottleneck with a shortcut."""
    given = draw.silu(draw.conv("images", 3, 32))
    first, second = draw.node("Split", given, draw.constant(np.array([16, 16])), outputs=2, axis=1)
    inner = draw.silu(draw.conv(draw.silu(draw.conv(second, 16, 16)), 16, 16))
    joined = draw.node("Concat", first, second, draw.node("Add", second, inner), axis=1)
    return draw.conv(joined, 48, 4, 1)


def chunked_by_slices(draw: Drawing) -> str:
    given = draw.node("Relu", draw.conv("images", 3, 32))
    parts = [
        draw.node("Slice", given, *(draw.constant(np.array([one])) for one in (start, end, 1, 1)))
        for start, end in ((0, 16), (16, 2**62))
    ]
    joined = draw.node("Concat", draw.node("Relu", draw.conv(parts[1], 16, 24)), parts[0], axis=1)
    return draw.conv(joined, 40, 4, 1)


def shuffled(draw: Drawing, mode: str) -> str:
    deep = draw.node("Relu", draw.conv("images", 3, 64, strides=[2, 2]))
    large = draw.node("DepthToSpace", deep, blocksize=2, mode=mode)
    joined = draw.node("Concat", large, draw.conv("images", 3, 16), axis=1)
    folded = draw.node("SpaceToDepth", draw.conv(joined, 32, 16), blocksize=2)
    return draw.conv(folded, 64, 4, 1)


def shuffled_dcr(draw: Drawing) -> str:
    return shuffled(draw, "DCR")


def shuffled_crd(draw: Drawing) -> str:
    return shuffled(draw, "CRD")


def squeezed_and_excited(draw: Drawing) -> str:
    given = draw.node("HardSwish", draw.conv("images", 3, 32))
    deep = draw.node("Conv", given, draw.weight(32, 1, 3, 3), draw.weight(32), group=32, pads=[1, 1, 1, 1])
    small = draw.node("Relu", draw.conv(draw.node("GlobalAveragePool", deep), 32, 16, 1))
    scaled = draw.node("Mul", deep, draw.node("Sigmoid", draw.conv(small, 16, 32, 1)))
    return draw.conv(draw.node("PRelu", scaled, draw.weight(32, 1, 1)), 32, 4, 1)


def normed_and_raised(draw: Drawing) -> str:
    given = draw.conv("images", 3, 32, strides=[2, 2])
    norm = [draw.weight(32), draw.weight(32), draw.weight(32), draw.constant(np.full(32, 0.5, np.float32))]
    given = draw.node("Relu", draw.node("BatchNormalization", given, *norm))
    raised = draw.node("ConvTranspose", given, draw.weight(32, 24, 2, 2), draw.weight(24), strides=[2, 2])
    scales = draw.constant(np.array([1, 1, 2, 2], np.float32))
    resized = draw.node("Resize", given, "", scales, mode="nearest")
    shifted = draw.node("Add", draw.node("Concat", raised, resized, axis=1), draw.weight(56, 1, 1))
    return draw.conv(shifted, 56, 4, 1)


def flattened(draw: Drawing) -> str:
    given = draw.node("MaxPool", draw.node("Relu", draw.conv("images", 3, 32)), kernel_shape=[8, 8], strides=[8, 8])
    flat = draw.node("Reshape", given, draw.constant(np.array([-1, 128])))
    hidden = draw.node("Relu", draw.node("Gemm", flat, draw.weight(40, 128), draw.weight(40), transB=1))
    product = draw.node("Add", draw.node("MatMul", hidden, draw.weight(40, 24)), draw.weight(24))
    made: str = draw.node("Gemm", draw.node("Relu", product), draw.weight(24, 5), draw.weight(5))
    return made


def averaged(draw: Drawing) -> str:
    given = draw.node("Relu", draw.conv("images", 3, 32))
    mean = draw.node("ReduceMean", given, axes=[2, 3], keepdims=0)
    turned = draw.node("Transpose", draw.node("Unsqueeze", mean, draw.constant(np.array([1]))), perm=[0, 2, 1])
    back = draw.node("Squeeze", turned, draw.constant(np.array([2])))
    made: str = draw.node("Gemm", back, draw.weight(32, 5), draw.weight(5))
    return made


def shared_by_two(draw: Drawing) -> str:
    """Write two layers with the same weights, as heads over several scales have them."""
    fine, coarse = draw.conv("images", 3, 32), draw.conv("images", 3, 32)
    weight, bias = draw.weight(32, 32, 3, 3), draw.weight(32)
    both = [draw.node("Conv", one, weight, bias, pads=[1, 1, 1, 1]) for one in (fine, coarse)]
    return draw.conv(draw.node("Concat", *both, axis=2), 32, 4, 1)


DRAWN = (
    chunked_by_split, chunked_by_slices, shuffled_dcr, shuffled_crd, squeezed_and_excited, normed_and_raised, flattened,
    averaged, shared_by_two,
)  # fmt: skip


def model_of(draw: Drawing, output: str) -> Any:  # onnx.ModelProto
    graph = helper.make_graph(
        draw.nodes,
        "drawn",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(array, name) for name, array in draw.arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return infer_shapes(model)


def cut(model: Any, share: float, multiple: int = 8) -> tuple[Any, Channels, set[int]]:
    channels = follow(model)
    positions = {node.name: 1 for node in model.graph.node}
    gone = choose(
        families(model, channels), layers_with_work(model, channels, positions), share=share, multiple=multiple
    )
    return narrow(model, channels, gone), channels, gone


def blinded(model: Any, channels: Channels, gone: set[int]) -> Any:  # onnx.ModelProto
    """Give the whole model with weights of 0 wherever a layer reads one of the channels."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    arrays = {entry.name: numpy_helper.to_array(entry).copy() for entry in made.graph.initializer}
    weighted = {node.input[1] for node in made.graph.node if node.op_type in WEIGHTED}
    for slot in channels.slots:
        if slot.tensor in weighted and arrays[slot.tensor].ndim >= 2 and arrays[slot.tensor].shape[1] != 1:
            lost = np.setdiff1d(np.arange(len(slot.ids)), kept_along(channels, slot.ids, gone))
            np.moveaxis(arrays[slot.tensor], slot.axis, 0)[lost] = 0
    for entry in made.graph.initializer:
        entry.CopyFrom(numpy_helper.from_array(arrays[entry.name], entry.name))
    return made


def answers(model: Any, path: Path, images: Any) -> list[Any]:  # arrays
    onnx.save(model, path)
    session = OnnxSession(path, threads=1)
    given = {spec.name: images for spec in session.signature.inputs}
    return list(session.infer(given).values())


@pytest.mark.parametrize("write", DRAWN, ids=lambda write: str(write.__name__))
def test_a_graph_without_channels_answers_as_one_that_reads_none_of_them(write: Any, tmp_path: Path) -> None:
    draw = Drawing()
    model = model_of(draw, write(draw))
    made, channels, gone = cut(model, 0.6)
    images = np.random.default_rng(1).normal(size=(3, 3, 16, 16)).astype(np.float32)
    wanted = answers(blinded(model, channels, gone), tmp_path / "blinded.onnx", images)
    given = answers(made, tmp_path / "narrow.onnx", images)
    assert len(gone) >= 8
    for one, other in zip(wanted, given, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


def test_names_inputs_outputs_and_operator_versions_stay(tmp_path: Path) -> None:
    draw = Drawing()
    model = model_of(draw, chunked_by_split(draw))
    made, _, _ = cut(model, 0.5)
    assert [node.name for node in made.graph.node] == [node.name for node in model.graph.node]
    assert list(made.graph.input) == list(model.graph.input)
    assert list(made.graph.output) == list(model.graph.output)
    assert list(made.opset_import) == list(model.opset_import)


def test_what_an_unknown_operator_reads_stays() -> None:
    draw = Drawing()
    free, held = draw.conv("images", 3, 32), draw.conv("images", 3, 32)
    normed = draw.node("LRN", held, size=3)  # it mixes neighbouring channels
    model = model_of(draw, draw.conv(draw.node("Concat", free, normed, axis=1), 64, 4, 1))
    made, _, gone = cut(model, 0.4)
    widths = [entry.dims[0] for entry in made.graph.initializer if len(entry.dims) == 4]
    assert gone
    assert widths == [widths[0], 32, 4]
    assert widths[0] < 32


def test_no_width_leaves_the_multiples_that_engines_compute_at_once() -> None:
    draw = Drawing()
    model = model_of(draw, draw.conv(draw.conv(draw.conv("images", 3, 48), 48, 40), 40, 4))
    made, _, _ = cut(model, 0.6, multiple=16)
    widths = [entry.dims[0] for entry in made.graph.initializer if len(entry.dims) == 4]
    assert [width % 16 for width in widths[:2]] == [0, 0]
    assert widths[2] == 4


def test_the_shipped_detector_keeps_its_heads_and_a_free_batch(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "src" / "ferryman" / "demo" / "factory_nano.onnx"
    model = infer_shapes(fold(load(path)))
    name_nodes(model)
    made, _, gone = cut(model, 0.7, multiple=16)
    onnx.save(made, tmp_path / "narrow.onnx")
    assert gone
    assert artifact_of(tmp_path / "narrow.onnx").signature == artifact_of(path).signature
    answered = answers(made, tmp_path / "narrow.onnx", np.zeros((3, 3, 320, 320), np.float32))
    assert [array.shape for array in answered] == [(3, 8, 2000)]
