"""Torch models: a detector with ordinary convolutions, and a small net as weights and as an exported program."""

import shutil
import warnings
from pathlib import Path

import numpy as np
from benchmarks.cases.project import Case, Settings

from ferryman.core.signature import Array

SEED = 7
_SIDE = 640
_CALIBRATION, _EVALUATION = 32, 8


def make_pictures(count: int, side: int, *, seed: int) -> Array:
    """Make up pictures [count, 3, side, side], uint8: coloured blobs of several sizes and a little noise."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, 3, side, side), np.float32)
    for cells in (8, 20, 80):
        coarse = rng.normal(0.0, 1.0, (count, 3, cells, cells)).astype(np.float32)
        size = -(-side // cells)
        pictures += np.kron(coarse, np.ones((1, 1, size, size), np.float32))[:, :, :side, :side] * 30
    pictures += rng.normal(0.0, 6.0, pictures.shape).astype(np.float32)
    return np.clip(pictures + 120, 0, 255).astype(np.uint8)


def write_detector(folder: Path) -> Settings:
    """Write weights, their factory, and pictures with the module's own answers as truth."""
    import torch
    from benchmarks.cases import nets
    from safetensors.torch import save_file

    shutil.copy(Path(__file__).with_name("nets.py"), folder / "nets.py")
    calibration = make_pictures(_CALIBRATION, _SIDE, seed=SEED)
    evaluation = make_pictures(_EVALUATION, _SIDE, seed=SEED + 1)
    module = nets.settle(nets.make_detector(), torch.from_numpy(calibration[:12]).float(), seed=SEED)
    save_file(module.state_dict(), folder / "detector.safetensors")
    with torch.no_grad():
        truths = [module(torch.from_numpy(picture[None]).float()).numpy()[0] for picture in evaluation]
    np.savez(folder / "calibration.npz", images=calibration)
    np.savez(folder / "evaluation.npz", images=evaluation, target=np.stack(truths))
    port = {"name": "images", "dtype": "float32", "shape": ["batch", 3, _SIDE, _SIDE]}
    return {
        "model": {
            "name": "torch-detector",
            "source": "detector.safetensors",
            "factory": "nets:make_detector",
            "inputs": [port],
        },
        "task": {"kind": "tensor"},
        "data": {
            "calibration": "calibration.npz",
            "evaluation": {"items": "evaluation.npz", "target": "target"},
            "golden": 1,
        },
        # A loose limit, set after a look at the results: outputs lie in 0..1 with a standard deviation near 0.22, and
        # INT8 comes within about a quarter of that. This case measures speed; the others say what INT8 costs.
        "contract": {"metric": "rmse", "max_drop": 0.1, "prefer": "latency"},
    }


def make_classifier(folder: Path) -> None:
    """Write the small net as weights with a factory and as an exported program whose batch varies."""
    import torch
    from benchmarks.cases import nets
    from safetensors.torch import save_file

    shutil.copy(Path(__file__).with_name("nets.py"), folder / "nets.py")
    images = torch.from_numpy(make_pictures(8, 64, seed=SEED)).float() / 255
    module = nets.settle(nets.make_classifier(), images, seed=SEED)
    save_file(module.state_dict(), folder / "classifier.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notices about its own parts
        program = torch.export.export(module, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, folder / "classifier.pt2")


def write_weights(folder: Path) -> Settings:
    """Set up the small net from its factory and weights; without data, seeded tensors compare the formats."""
    make_classifier(folder)
    port = {"name": "images", "dtype": "float32", "shape": ["batch", 3, 64, 64]}
    source = {"source": "classifier.safetensors", "factory": "nets:make_classifier", "inputs": [port]}
    return {
        "model": {"name": "torch-factory", **source},
        "task": {"kind": "tensor"},
        "contract": {"max_error": 1e-4},
    }


def write_program(folder: Path) -> Settings:
    """Set up the same net from its exported program."""
    make_classifier(folder)
    return {
        "model": {"name": "torch-pt2", "source": "classifier.pt2"},
        "task": {"kind": "tensor"},
        "contract": {"max_error": 1e-4},
    }


CASES = (
    Case("torch-detector", "YOLOv8n-like net, ordinary convolutions, 640, random weights", write_detector),
    Case("torch-factory", "small torch net, factory and safetensors", write_weights),
    Case("torch-pt2", "the same net, exported program", write_program),
)
