"""Tiny real models: a detector-like network of convolutions, one of matrix products, a tree, and inputs for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.signature import Tensors
from ferryman.core.step import StepContext
from ferryman.runtimes.onnx import OnnxSession

SIZE = 16
CHANNELS = 8


def artifact_of(path: Path) -> Artifact:
    return Artifact(path=path, format="onnx", signature=signature_of(path), digest=digest_path(path))


def signature_of(path: Path) -> Any:  # a Signature
    session = OnnxSession(path, threads=1)
    session.close()
    return session.signature


def context_of(workspace: Path, calibration: Sequence[Tensors] = (), *, cache: Path | None = None) -> StepContext:
    return StepContext(workspace, calibration, cache=cache)


def pictures(count: int, *, seed: int = 0) -> list[Tensors]:
    generator = np.random.default_rng(seed)
    return [{"images": generator.random((1, 3, SIZE, SIZE), dtype=np.float32)} for _ in range(count)]


def rows(count: int, *, batch: int = 1) -> list[Tensors]:
    generator = np.random.default_rng(0)
    return [{"row": generator.normal(size=(batch, 16)).astype(np.float32)} for _ in range(count)]


def make_convolutions(path: Path, *, opset: int = 17, batch: int | str = "batch", size: int = SIZE) -> Artifact:
    """Write stem (conv, BN, ReLU), depthwise, pointwise, add, concat, pool, two 1x1 heads and their decoding."""
    from onnx import TensorProto, helper, save

    weights = _Weights()
    nodes = [
        helper.make_node("Identity", ["images"], ["pixels"], name="identity"),
        _conv(weights, "stem", "pixels", (CHANNELS, 3, 3, 3), pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["stem", *weights.batch_normalization("bn")], ["bn"], name="bn", epsilon=1e-3
        ),
        helper.make_node("Relu", ["bn"], ["relu"], name="relu"),
        _conv(weights, "depthwise", "relu", (CHANNELS, 1, 3, 3), pads=[1, 1, 1, 1], group=CHANNELS),
        _conv(weights, "pointwise", "depthwise", (CHANNELS, CHANNELS, 1, 1)),
        helper.make_node("Add", ["pointwise", "relu"], ["add"], name="add"),
        helper.make_node("Concat", ["add", "relu"], ["concat"], name="concat", axis=1),
        helper.make_node("MaxPool", ["concat"], ["pool"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        _conv(weights, "box_head", "pool", (4, 2 * CHANNELS, 1, 1)),
        _conv(weights, "class_head", "pool", (6, 2 * CHANNELS, 1, 1)),
        helper.make_node(
            "Mul", ["box_head", weights.add("stride", np.array([8.0], dtype=np.float32))], ["boxes"], name="decode"
        ),
        helper.make_node("Sigmoid", ["class_head"], ["scores"], name="sigmoid"),
        helper.make_node("Concat", ["boxes", "scores"], ["output"], name="join", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 10, size // 2, size // 2])],
        weights.tensors,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7), path)
    return artifact_of(path)


def make_products(path: Path, *, op: str = "Gemm") -> Artifact:
    """Write a two-layer perceptron of Gemm or MatMul."""
    from onnx import TensorProto, helper, save

    weights = _Weights()
    second = [weights.random("first_w", (16, 64))], [weights.random("second_w", (64, 3))]
    biases = ([weights.random("first_b", (64,))], [weights.random("second_b", (3,))]) if op == "Gemm" else ([], [])
    nodes = [
        helper.make_node(op, ["row", *second[0], *biases[0]], ["hidden"], name="first"),
        helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
        helper.make_node(op, ["active", *second[1], *biases[1]], ["logits"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        weights.tensors,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return artifact_of(path)


def make_tree(path: Path) -> Artifact:
    """Write a regression tree with one split, in the operators of ai.onnx.ml."""
    from onnx import TensorProto, helper, save

    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["row"],
        ["value"],
        name="tree",
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[2, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_ids=[0, 0],
        target_nodeids=[1, 2],
        target_treeids=[0, 0],
        target_weights=[-1.0, 1.0],
    )
    graph = helper.make_graph(
        [node],
        "tree",
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return artifact_of(path)


def answer(artifact: Artifact, inputs: Tensors) -> NDArray[np.float32]:
    """Give the first output of an ONNX artifact."""
    session = OnnxSession(artifact.path, threads=1)
    first = session.infer(inputs)[session.signature.outputs[0].name]
    session.close()
    return np.asarray(first, dtype=np.float32)


def ops_of(artifact: Artifact) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(artifact.path).graph.node]


class _Weights:
    """Collect initializers with reproducible values."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []  # onnx.TensorProto
        self._generator = np.random.default_rng(7)

    def add(self, name: str, values: NDArray[np.float32]) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def random(self, name: str, shape: tuple[int, ...], *, scale: float = 1.0) -> str:
        spread = scale / np.sqrt(np.prod(shape[1:]) or 1)
        return self.add(name, (self._generator.normal(size=shape) * spread).astype(np.float32))

    def batch_normalization(self, name: str) -> list[str]:
        ones = np.ones(CHANNELS, dtype=np.float32)
        return [
            self.add(f"{name}_{part}", values)
            for part, values in (("scale", ones * 1.5), ("b", ones * 0.1), ("mean", ones * 0.05), ("var", ones * 0.8))
        ]


def _conv(
    weights: _Weights,
    name: str,
    source: str,
    shape: tuple[int, ...],
    *,
    scale: float = 1.0,
    **attributes: Any,  # of the ONNX operator
) -> Any:  # onnx.NodeProto
    from onnx import helper

    inputs = [source, weights.random(f"{name}_w", shape, scale=scale), weights.random(f"{name}_b", shape[:1])]
    return helper.make_node("Conv", inputs, [name], name=name, **attributes)
