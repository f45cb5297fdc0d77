"""One tiny model in each format, opened by its source plug-in as a user's file is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.plugins import find
from ferryman.core.signature import Signature, Tensors, TensorSpec
from tests.optimize.making import SIZE, context_of, make_convolutions

AWKWARD = "a folder (é, 漢)"
"""Part of each path: spaces and letters beyond ASCII."""


def make(format_name: str, folder: Path) -> Artifact:
    """Give an artifact of a format; skips, loudly, where the test knows no model of that format."""
    folder = folder / AWKWARD
    folder.mkdir(parents=True)
    if format_name not in _MAKERS:
        pytest.skip(
            f"NOT TESTED: no model of format '{format_name}' is made here; add one to tests/conformance/making.py"
        )
    return _MAKERS[format_name](folder)


def inputs_for(signature: Signature, *, seed: int = 0) -> Tensors:
    """Give random inputs, in batches of one or of the model's fixed size."""
    generator = np.random.default_rng(seed)
    return {spec.name: _random(spec, generator) for spec in signature.inputs}


def _random(spec: TensorSpec, generator: np.random.Generator) -> "np.typing.NDArray[np.generic]":
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    return generator.random(shape).astype(spec.dtype)


def _opened(source: str, path: Path) -> Artifact:
    plugin = find("sources", source)
    if not plugin.is_available:
        pytest.skip(f"NOT TESTED: source '{source}' lacks {', '.join(plugin.missing)}")
    section = ModelSection(name="model", source=str(path), trust=True)
    artifact: Artifact = plugin.cls().open(path, section, path.parent / "opened")
    return artifact


def _table() -> tuple[Any, Any]:  # float32 [150, 4], int64 [150]
    generator = np.random.default_rng(0)
    features = generator.normal(size=(150, 4)).astype(np.float32)
    return features, (features[:, 0] + features[:, 1] > 0).astype(np.int64) + (features[:, 2] > 1)


def _onnx(folder: Path) -> Artifact:
    make_convolutions(folder / "model.onnx")
    return _opened("onnx", folder / "model.onnx")


def _openvino(folder: Path) -> Artifact:
    plugin = find("steps", "openvino")
    if not plugin.is_available:
        pytest.skip(f"NOT TESTED: step 'openvino' lacks {', '.join(plugin.missing)}")
    artifact: Artifact = plugin.cls().run(_onnx(folder), context_of(folder / "converted"))
    return artifact


def _sklearn(folder: Path) -> Artifact:
    joblib = pytest.importorskip("joblib")
    linear = pytest.importorskip("sklearn.linear_model")
    joblib.dump(linear.LogisticRegression().fit(*_table()), folder / "model.joblib")
    return _opened("sklearn", folder / "model.joblib")


def _xgboost(folder: Path) -> Artifact:
    xgboost = pytest.importorskip("xgboost")
    xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(*_table()).save_model(folder / "model.json")
    return _opened("xgboost", folder / "model.json")


def _lightgbm(folder: Path) -> Artifact:
    lightgbm = pytest.importorskip("lightgbm")
    features, labels = _table()
    booster = lightgbm.train(
        {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(features, labels),
        num_boost_round=3,
    )
    (folder / "model.txt").write_text(booster.model_to_string(), "utf-8")
    return _opened("lightgbm", folder / "model.txt")


def _catboost(folder: Path) -> Artifact:
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostClassifier(iterations=3, depth=2, verbose=False, allow_writing_files=False, thread_count=1)
    model.fit(*_table())
    model.save_model(str(folder / "model.cbm"))
    return _opened("catboost", folder / "model.cbm")


def _torch_export(folder: Path) -> Artifact:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, SIZE, SIZE),)), folder / "model.pt2")
    return _opened("torch-export", folder / "model.pt2")


def _torchscript(folder: Path) -> Artifact:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 3, SIZE, SIZE)), folder / "model.pt")
    section = ModelSection(
        name="model",
        source=str(folder / "model.pt"),
        trust=True,
        inputs=(TensorSpec(name="images", dtype="float32", shape=(1, 3, SIZE, SIZE)),),
    )
    artifact: Artifact = find("sources", "torchscript").cls().open(folder / "model.pt", section, folder / "opened")
    return artifact


_MAKERS: dict[str, Callable[[Path], Artifact]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "torch-export": _torch_export,
    "torchscript": _torchscript,
}
