"""One tiny model in each format, opened by its source plug-in as a user's file is."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.isolated import isolated
from ferryman.core.plugins import find, plugins
from ferryman.core.signature import Signature, Tensors, TensorSpec
from ferryman.core.toolchain import find_toolchain
from tests.optimize.making import SIZE, context_of, make_convolutions
from tests.runtimes.making_litert import make_convolution, open_litert

AWKWARD = "a folder (é, 漢)"
"""Part of each path: spaces and letters beyond ASCII."""

_COMPILES = frozenset({"aotinductor"})  # calls a C++ compiler


def marks_of(kind: str, name: str) -> list[pytest.MarkDecorator]:
    """Give the marks of a plug-in's tests: slow where it runs in a toolchain, or compiles."""
    is_slow = name in _COMPILES or bool(getattr(plugins(kind)[name].cls, "toolchain", ""))
    return [pytest.mark.slow] if is_slow else []


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


def _huggingface(folder: Path) -> Artifact:
    maker = Path(__file__).parent.parent / "sources" / "huggingface_maker.py"
    if not find("sources", "huggingface").is_available:
        pytest.skip("NOT TESTED: source 'huggingface' lacks its toolchain: ferryman toolchain add huggingface")
    pictures = np.zeros((2, 3, 32, 32), np.float32)
    with isolated("huggingface", maker) as worker:
        asked: dict[str, Any] = {"folder": str(folder / "model"), "pictures": pictures, "labels": [0, 1]}
        worker.ask("pictures", **asked, names=["a", "b"], steps=1)
    return _opened("huggingface", folder / "model")


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


def _litert(folder: Path) -> Artifact:
    if find("runtimes", "litert").missing:
        pytest.skip("NOT TESTED: runtime 'litert' is not installed")
    return open_litert(make_convolution(folder / "model.tflite", batch=-1))


def _by_step(name: str, source: Callable[[Path], Artifact]) -> Callable[[Path], Artifact]:
    def made(folder: Path) -> Artifact:
        plugin = find("steps", name)
        if not plugin.is_available:
            pytest.skip(f"NOT TESTED: step '{name}' lacks {', '.join(plugin.missing)}")
        artifact: Artifact = plugin.cls().run(source(folder), context_of(folder / name))
        return artifact

    return made


def _wide_onnx(folder: Path) -> Artifact:
    make_convolutions(folder / "model.onnx", size=24)  # of another height and width than it has channels
    return _opened("onnx", folder / "model.onnx")


_saved_model = _by_step("tf-savedmodel", _wide_onnx)


def _torch_weights(folder: Path) -> Artifact:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    (folder / "ferryman.toml").touch()
    code = (
        "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())\n"
    )
    (folder / "made_for_conformance.py").write_text(code, "utf-8")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    torch.save(module.state_dict(), folder / "model.pt")
    section = ModelSection(
        name="model",
        source=str(folder / "model.pt"),
        factory="made_for_conformance:make",
        inputs=(TensorSpec(name="images", dtype="float32", shape=("batch", 3, SIZE, SIZE)),),
    )
    artifact: Artifact = find("sources", "torch-weights").cls().open(folder / "model.pt", section, folder / "opened")
    return artifact


@cache
def _compiled() -> Artifact:
    """Compile once: it takes some seconds, and nothing changes the file."""
    folder = Path(tempfile.mkdtemp(prefix="ferryman-compiled-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    artifact: Artifact = find("steps", "aotinductor").cls().run(_torch_export(folder), context_of(folder / "made"))
    return artifact


def _aotinductor(folder: Path) -> Artifact:
    if find("steps", "aotinductor").missing or shutil.which("g++") is None:
        pytest.skip("NOT TESTED: step 'aotinductor' lacks torch or g++")
    compiled = _compiled()
    shutil.copy(compiled.path, folder / "model.pt2")
    return replace(compiled, path=folder / "model.pt2")


def _in_toolchain(name: str, program: str, verb: str, file: str, **request: Any) -> Callable[[Path], Artifact]:
    """Give a maker whose file a program of the sources' tests writes, in the toolchain that its format needs."""

    def made(folder: Path) -> Artifact:
        if not find_toolchain(name).is_installed:
            pytest.skip(f"NOT TESTED: no toolchain {name}: ferryman toolchain add {name}")
        with isolated(name, Path(__file__).parent.parent / "sources" / program) as worker:
            worker.ask(verb, folder=str(folder), path=str(folder / file), **request)
        return _opened("keras" if name == "tensorflow" else name, folder / file)

    return made


_MAKERS: dict[str, Callable[[Path], Artifact]] = {
    "ort-web": _by_step("ort-web", _onnx),
    "tensorrt": _by_step("tensorrt", _onnx),
    "tf-savedmodel": _saved_model,
    "coreml": _by_step("coreml", _torch_export),
    "executorch": _by_step("executorch", _torch_export),
    "mnn": _by_step("mnn", _onnx),
    "ncnn": _by_step("ncnn", _onnx),
    "tfjs": _by_step("tfjs", _saved_model),
    "aotinductor": _aotinductor,
    "keras": _in_toolchain("tensorflow", "tensorflow_maker.py", "small", "small.keras"),
    "ultralytics": _in_toolchain(
        "ultralytics", "ultralytics_maker.py", "make", "best.pt", kind="DetectionModel", shape="yolo11n.yaml"
    ),
    "onnx": _onnx,
    "huggingface": _huggingface,
    "openvino": _openvino,
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "litert": _litert,
    "torch-export": _torch_export,
    "torch-weights": _torch_weights,
    "torchscript": _torchscript,
}
