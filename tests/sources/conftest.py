"""Tiny real models of each library, made on the spot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ferryman.core.deployment import ModelSection
from ferryman.core.isolated import isolated
from ferryman.core.step import StepContext

MakeSection = Callable[..., ModelSection]


@pytest.fixture
def section() -> MakeSection:
    """Make a [model] section; keywords are its keys."""

    def make(**keys: Any) -> ModelSection:  # any key of [model]
        return ModelSection.model_validate({"name": "tiny", "source": "tiny.bin", **keys})

    return make


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    return StepContext(workspace=tmp_path / "step")


@pytest.fixture
def linear_onnx() -> Any:  # onnx.ModelProto
    """Make y = x @ weight + bias, with a name for everything; x is [batch, 3], y is [batch, 2]."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weight"], ["product"], name="multiply"),
            helper.make_node("Add", ["product", "bias"], ["y"], name="add"),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "weight"),
            numpy_helper.from_array(np.ones(2, dtype=np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.fixture
def save_onnx(tmp_path: Path) -> Callable[[Any], Path]:
    """Write a model to a file in a folder of its own."""

    def save(model: Any) -> Path:  # onnx.ModelProto
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save


@pytest.fixture(scope="session")
def tensorflow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of real models that TensorFlow and Keras wrote; needs their toolchain."""
    folder = tmp_path_factory.mktemp("tensorflow")
    with isolated("tensorflow", Path(__file__).parent / "tensorflow_maker.py") as worker:
        worker.ask("small", folder=str(folder))
        worker.ask("signatures", folder=str(folder))
    return folder


@pytest.fixture(scope="session")
def keras_digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train a classifier of scikit-learn's digits with Keras; gives folder, test pictures, truth, its own accuracy."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    pictures = (digits.images * 255 / 16).round().astype(np.float32)[..., None]
    labels = digits.target.astype(np.int64)
    folder = tmp_path_factory.mktemp("digits")
    with isolated("tensorflow", Path(__file__).parent / "tensorflow_maker.py") as worker:
        told = worker.ask(
            "train",
            folder=str(folder),
            pictures=pictures[:1200],
            labels=labels[:1200],
            test=pictures[1200:],
            truth=labels[1200:],
        )
    return {"folder": folder, "test": pictures[1200:], "truth": labels[1200:], "accuracy": told["accuracy"]}
