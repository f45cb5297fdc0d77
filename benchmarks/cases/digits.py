"""A torch net that is trained here, in seconds, on scikit-learn's scans of written digits."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.cases.project import Case, Settings

SEED = 7
_SIDE = 32
_EPOCHS = 20
_SCALE = 1 / 255


def write_digits(folder: Path) -> Settings:
    """Train on every second scan, and write the others as labelled pictures; 64 of the first calibrate."""
    import torch
    from benchmarks.cases import nets
    from safetensors.torch import save_file

    pictures, classes = _load()
    shutil.copy(Path(__file__).with_name("nets.py"), folder / "nets.py")
    save_file(
        _train(torch, nets.make_classifier, pictures[::2], classes[::2]).state_dict(), folder / "digits.safetensors"
    )
    _write(folder / "evaluation", pictures[1::2], classes[1::2])
    _write(folder / "calibration", pictures[:128:2], classes[:128:2])
    port = {"name": "images", "dtype": "float32", "shape": ["batch", 3, _SIDE, _SIDE]}
    return {
        "model": {
            "name": "torch-digits",
            "source": "digits.safetensors",
            "factory": "nets:make_classifier",
            "inputs": [port],
        },
        "task": {"kind": "classify", "activation": "softmax", "input": {"fit": "stretch", "scale": _SCALE}},
        "data": {
            "calibration": "calibration/*.png",
            "evaluation": {"items": "evaluation/*.png", "labels": "evaluation/labels.csv"},
        },
        "contract": {"metric": "top1", "max_drop": 0.005, "prefer": "latency"},
    }


def _load() -> tuple[Any, Any]:
    """Give the scans, uint8 [count, side, side], each pixel of 8 x 8 become a square, and their digits."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.round(found.images * (255 / 16)).astype(np.uint8)
    return np.kron(pixels, np.ones((1, _SIDE // 8, _SIDE // 8), np.uint8)), found.target


def _train(torch: Any, make: Any, pictures: Any, classes: Any) -> Any:  # the modules, typed nowhere; a torch module
    torch.manual_seed(SEED)
    module = make().train()
    inputs = torch.from_numpy(np.repeat(pictures[:, None], 3, 1)).float() * _SCALE
    truths = torch.from_numpy(classes)
    learner = torch.optim.AdamW(module.parameters(), 4e-3)
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(inputs)).split(64):
            learner.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs[chosen]), truths[chosen]).backward()
            learner.step()
    return module.eval()


def _write(folder: Path, pictures: Any, classes: Any) -> None:
    import cv2

    folder.mkdir(exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "class_index"])
        for place, (picture, label) in enumerate(zip(pictures, classes, strict=True)):
            cv2.imwrite(str(folder / f"{place:04}.png"), picture)
            writer.writerow([f"{place:04}.png", int(label)])


CASES = (Case("torch-digits", "small torch net, trained on scans of digits", write_digits),)
