"""Published image models on public pictures."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from benchmarks.cases.project import Case, Settings

from ferryman.demo.belt import LABELS, write_dataset

_YOLOX_INPUT = {"fit": "letterbox", "anchor": "top-left", "pad": 114, "channels": "BGR"}


def write_yolox(folder: Path) -> Settings:
    """Set up YOLOX-nano on 128 pictures of COCO, calibrated on pictures of another data set."""
    return {
        "model": {"name": "yolox-nano", "source": "data/models/yolox_nano.onnx", "license": "Apache-2.0"},
        "task": {
            "kind": "detect",
            "decoder": "yolox",
            "labels": "coco80",
            "input": {"size": [416, 416], **_YOLOX_INPUT},
            "nms": {"iou": 0.65, "score": 0.01},
        },
        "data": {
            "calibration": "data/imagenet200/*.jpg",
            "calibration_limit": 64,
            "evaluation": {"items": "data/coco128_val/images/*.jpg", "labels": "data/coco128_val/labels/*.txt"},
        },
        "contract": {"metric": "map", "max_drop": 0.005, "prefer": "latency"},
    }


def write_deeppcb(folder: Path) -> Settings:
    """Set up a detector of faults on circuit boards on the official test split of 500 pictures."""
    return {
        "model": {"name": "deeppcb-nano", "source": "data/models/deeppcb_nano_320.onnx", "license": "MIT"},
        "task": {
            "kind": "detect",
            "decoder": "yolox",
            "labels": ["open", "short", "mousebite", "spur", "copper", "pin-hole"],
            "input": {"size": [320, 320], **_YOLOX_INPUT},
            "nms": {"iou": 0.5, "score": 0.01, "multi_label": True},
        },
        "data": {
            "calibration": "data/deeppcb/trainval/images/*.png",
            "calibration_limit": 64,
            "evaluation": {"items": "data/deeppcb/test/images/*.png", "labels": "data/deeppcb/test/labels/*.txt"},
        },
        "contract": {"metric": "map", "max_drop": 0.005, "prefer": "latency"},
    }


def write_squeezenet(folder: Path) -> Settings:
    """Set up SqueezeNet 1.1 on 200 ImageNet samples, calibrated on COCO's pictures."""
    return {
        "model": {"name": "squeezenet", "source": "data/models/squeezenet_v1.1.onnx", "license": "BSD-2-Clause"},
        "task": {
            "kind": "classify",
            "input": {"size": [227, 227], "fit": "stretch", "channels": "BGR", "mean": [104, 117, 123]},
        },
        "data": {
            "calibration": "data/coco128_val/images/*.jpg",
            "calibration_limit": 64,
            "evaluation": {"items": "data/imagenet200/*.jpg", "labels": "data/imagenet200/labels.csv"},
        },
        "contract": {"metric": "top1", "max_drop": 0.01, "prefer": "latency"},
    }


def write_factory(folder: Path) -> Settings:
    """Set up the shipped detector on 200 pictures that its training never saw; they are drawn here."""
    write_dataset(folder / "calibration", count=64, seed=11_000_000)
    write_dataset(folder / "evaluation", count=200, seed=15_000_000)
    with as_file(files("ferryman.demo") / "factory_nano.onnx") as weights:
        shutil.copyfile(weights, folder / "factory_nano.onnx")
    return {
        "model": {"name": "factory-nano", "source": "factory_nano.onnx", "license": "Apache-2.0"},
        "task": {
            "kind": "detect",
            "decoder": "yolov8",
            "labels": list(LABELS),
            "input": {"size": [320, 320], "channels": "RGB", "scale": 1 / 255},
            "nms": {"iou": 0.65, "score": 0.01},
        },
        "data": {
            "calibration": "calibration/images/*.jpg",
            "evaluation": {"items": "evaluation/images/*.jpg", "labels": "evaluation/labels/*.txt"},
        },
        "contract": {"metric": "map", "max_drop": 0.005, "prefer": "latency"},
    }


CASES = (
    Case("yolox-nano", "YOLOX-nano 416 (depthwise) on 128 pictures of COCO", write_yolox, reads_shared=True),
    Case("deeppcb-nano", "circuit-board faults, 320, on the 500 pictures of DeepPCB", write_deeppcb, reads_shared=True),
    Case("squeezenet", "SqueezeNet 1.1 on 200 ImageNet samples", write_squeezenet, reads_shared=True),
    Case("factory-nano", "the shipped detector, 320, on 200 drawn pictures", write_factory),
)
