"""Write checkpoints as Ultralytics does, of random weights; runs in its toolchain."""

import os
import tempfile
from typing import Any

os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": tempfile.gettempdir()}

import torch
from ultralytics.nn import tasks


def make(request: dict[str, Any], tell: Any) -> dict[str, Any]:
    """Write a checkpoint of an architecture, with statistics that are not those of an untrained net."""
    torch.manual_seed(0)
    model = getattr(tasks, request["kind"])(request["shape"], nc=3, verbose=False)
    model.names = {0: "bolt", 1: "nut", 2: "ring"}
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    checkpoint = {"model": model.half(), "ema": None, "train_args": {"imgsz": 96}, "version": "8.4.190"}
    torch.save(checkpoint, request["path"])
    return {}
