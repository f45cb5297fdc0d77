"""Make small real models and bundles of them, for the tests of bundles, server and client."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ferryman.bundle.write import write_bundle
from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.bundle import Bundle, Golden
from ferryman.core.deployment import parse_deployment
from ferryman.core.plugins import find, runtime_for
from ferryman.core.proof import CandidateProof, Proof
from ferryman.core.signature import Signature
from ferryman.core.task import Item, infer_items

SIDE = 32
COLUMNS = ("width", "height", "weight")


def save(path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **weights: Any) -> Path:
    """Write an ONNX model; `Any` because onnx has no types that mypy follows."""
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def make_affine(folder: Path, *, factor: float = 2.0) -> Path:
    """Write values -> values * factor + 1, float32 [batch, 3]."""
    return save(
        folder / "affine.onnx",
        [
            helper.make_node("Mul", ["values", "factor"], ["scaled"]),
            helper.make_node("Add", ["scaled", "one"], ["sum"]),
        ],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 3])],
        factor=np.float32(factor),
        one=np.float32(1),
    )


def make_zoo(folder: Path) -> Path:
    """Write a model that passes one tensor of each datatype through."""
    kinds = {
        "BOOL": TensorProto.BOOL,
        "UINT8": TensorProto.UINT8,
        "INT32": TensorProto.INT32,
        "INT64": TensorProto.INT64,
        "UINT64": TensorProto.UINT64,
        "FP16": TensorProto.FLOAT16,
        "FP32": TensorProto.FLOAT,
        "FP64": TensorProto.DOUBLE,
        "BYTES": TensorProto.STRING,
    }
    return save(
        folder / "zoo.onnx",
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in kinds],
        [helper.make_tensor_value_info(f"in_{name}", kind, ["batch", 2]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(f"out_{name}", kind, ["batch", 2]) for name, kind in kinds.items()],
    )


def make_table_model(folder: Path) -> Path:
    """Write rows float32 [batch, 3] -> probabilities [batch, 2]."""
    return save(
        folder / "table.onnx",
        [
            helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        weights=np.array([[1, -1], [0.5, 0.25], [-2, 2]], np.float32),
    )


def make_colour_model(folder: Path) -> Path:
    """Write a classifier of pictures: the mean of each colour channel, softmax; float32 [1, 3, 32, 32]."""
    return save(
        folder / "colour.onnx",
        [
            helper.make_node("GlobalAveragePool", ["picture"], ["means"]),
            helper.make_node("Flatten", ["means"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
    )


def make_slow_model(folder: Path, *, size: int = 700) -> Path:
    """Write a model whose answer takes a few hundredths of a second: a chain of matrix products."""
    chain = [helper.make_node("MatMul", [f"step{place}", "weights"], [f"step{place + 1}"]) for place in range(6)]
    chain[0] = helper.make_node("MatMul", ["grown", "weights"], ["step1"])
    return save(
        folder / "slow.onnx",
        [
            helper.make_node("Mul", ["values", "ones"], ["grown"]),
            *chain,
            helper.make_node("ReduceMean", ["step6"], ["mean"], keepdims=1),
        ],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 1])],
        ones=np.ones((size, size), np.float32),
        weights=np.full((size, size), 1 / size, np.float32),
    )


def encode_picture(pixels: NDArray[np.uint8], suffix: str = ".png") -> bytes:
    """Encode BGR pixels."""
    import cv2

    encoded: bytes = cv2.imencode(suffix, pixels)[1].tobytes()
    return encoded


def plain_picture(blue: int, green: int, red: int, *, suffix: str = ".png") -> bytes:
    """Give a picture of one colour."""
    return encode_picture(np.full((48, 64, 3), (blue, green, red), np.uint8), suffix)


def describe(model: Path) -> Artifact:
    """Give the artifact of an ONNX file."""
    bare = Artifact(model, "onnx", Signature(inputs=(), outputs=()), digest_path(model), made_by=("onnx",))
    session = runtime_for("onnx").require()().load(bare, threads=1)
    try:
        return replace(bare, signature=session.signature)
    finally:
        session.close()


def make_proof(name: str, *, seconds: float = 0.0) -> Proof:
    """Give a proof with a figure that no measurement gave."""
    candidate = CandidateProof(
        name="onnx-fp32", format="onnx", precision="fp32", status="accepted", agreement={"score_shift": float("nan")}
    )
    return Proof(
        model=name,
        source_digest="0" * 64,
        source_format="onnx",
        samples=2,
        metric=None,
        source_value=None,
        winner="onnx-fp32",
        holds=True,
        verdict="holds",
        candidates=(candidate,),
        machine={"took_s": str(seconds)},
        versions={},
    )


def bundle_model(
    destination: Path,
    model: Path,
    task: dict[str, Any],
    items: Sequence[Item],
    *,
    name: str = "tiny",
    seconds: float = 0,
) -> Bundle:
    """Write a bundle of an ONNX model, its golden answers asked of the model itself."""
    artifact = describe(model)
    deployment = parse_deployment({"model": {"name": name, "source": model.name}, "task": task}, origin="test")
    deployment = deployment.model_copy(update={"task": deployment.task.resolved(model.parent)})
    session = runtime_for("onnx").require()().load(artifact, threads=1)
    bound = find("tasks", deployment.task.kind).require()(deployment.task, artifact.signature)
    golden = [Golden(f"item-{n}", item, infer_items(bound, session, [item])[0]) for n, item in enumerate(items)]
    session.close()
    return write_bundle(
        destination,
        deployment=deployment,
        artifact=artifact,
        proof=make_proof(name, seconds=seconds),
        golden=golden,
        tolerance=dict(bound.tolerance),
        baseline={"scores": [0.5, float("inf")]},
        versions={"onnxruntime": "1"},
    )


def bundle_affine(destination: Path, *, factor: float = 2.0, name: str = "affine", seconds: float = 0) -> Bundle:
    """Write a bundle of plain tensors."""
    model = make_affine(destination.parent / f"model-of-{destination.name}", factor=factor)
    item = {"values": np.array([[1, 2, 3]], np.float32)}
    return bundle_model(destination, model, {"kind": "tensor"}, [item], name=name, seconds=seconds)


def bundle_table(destination: Path) -> Bundle:
    """Write a bundle of a table's model."""
    model = make_table_model(destination.parent / "table-model")
    rows: list[Item] = [{"width": 1.0, "height": 2.0, "weight": 0.5}, {"width": 0.0, "height": 0.0, "weight": 3.0}]
    task = {"kind": "tabular", "columns": list(COLUMNS), "labels": ["light", "heavy"], "missing": False}
    return bundle_model(destination, model, task, rows, name="table")


def bundle_colour(destination: Path) -> Bundle:
    """Write a bundle of a picture's model."""
    model = make_colour_model(destination.parent / "colour-model")
    items: list[Item] = [plain_picture(250, 10, 10), plain_picture(10, 20, 240, suffix=".jpg")]
    task = {
        "kind": "classify",
        "labels": ["blue", "green", "red"],
        "input": {"size": [SIDE, SIDE], "fit": "stretch", "channels": "BGR", "scale": 0.01},
    }
    return bundle_model(destination, model, task, items, name="colour")
