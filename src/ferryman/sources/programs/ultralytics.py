"""Tell what an Ultralytics checkpoint is, and write it as ONNX. Runs in a Python of its own."""

import os
import tempfile
from typing import Any

os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
os.environ["YOLO_CONFIG_DIR"] = tempfile.gettempdir()  # no settings in the home folder

import torch
from ultralytics.nn.tasks import load_checkpoint

OPSET = 17
_INPUT = "images"


def describe(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Give the signature, and what the checkpoint tells of its task, class names and picture size."""
    model = load(request["source"])
    sides = _sides(model)
    channels = int(getattr(model, "yaml", {}).get("channels", 3))
    example = torch.zeros(1, channels, *sides)
    with torch.inference_mode():
        outputs = flat(model(example))
    names = ["output0"] if len(outputs) == 1 else [f"output{place}" for place in range(len(outputs))]
    return {
        "signature": {
            "inputs": [{"name": _INPUT, "dtype": "float32", "shape": ["batch", channels, *sides]}],
            "outputs": [
                {"name": name, "dtype": str(value.dtype).removeprefix("torch."), "shape": ["batch", *value.shape[1:]]}
                for name, value in zip(names, outputs, strict=True)
            ],
        },
        "architecture": type(model).__name__,
        "names": [str(model.names[number]) for number in sorted(model.names)],
        "stride": int(max(float(side) for side in model.stride)),
        "end2end": bool(getattr(model, "end2end", False)),
    }


def to_onnx(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write the ONNX file `target`: the raw head, without suppression of boxes; the batch varies."""
    model = load(request["source"])
    if hasattr(model, "fuse"):
        model = model.fuse(verbose=False)
    names, shape = request["outputs"], request["shape"]
    example = torch.zeros(2, *shape[1:])
    tell("torch writes the graph")
    try:
        with torch.inference_mode():
            model(example)  # builds what the head keeps for this size
            torch.onnx.export(
                _Flat(model), (example,), request["target"], dynamo=False, opset_version=OPSET,
                input_names=[_INPUT], output_names=names,
                dynamic_axes={name: {0: "batch"} for name in (_INPUT, *names)},
            )  # fmt: skip
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise Refused(
            f"torch can't write this {type(model).__name__} as ONNX: {type(error).__name__}: {line}",
            hint="export it with Ultralytics itself (yolo export format=onnx), and name that file",
        ) from error
    return {"inputs": [_INPUT], "outputs": names}


class _Flat(torch.nn.Module):
    """Answer with a flat tuple of tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Any) -> Any:
        """Answer pictures."""
        outputs = flat(self.model(images))
        return tuple(outputs) if len(outputs) > 1 else outputs[0]


def load(path: str) -> Any:  # an Ultralytics model
    """Unpickle a checkpoint and set its head to what exports answer with: boxes, not what training needs."""
    try:
        model, _ = load_checkpoint(path, device="cpu", inplace=False)
    except Exception as error:
        line = " ".join(str(error).split())[:300]
        raise Refused(
            f"Ultralytics can't load this checkpoint: {type(error).__name__}: {line}",
            hint="it may be cut short, or need code (or a version of Ultralytics) that is not here",
        ) from error
    for module in model.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, "onnx"
    return model.eval().requires_grad_(False)


def flat(told: Any) -> "list[Any]":
    """Give the tensors in an answer."""
    return [told] if isinstance(told, torch.Tensor) else [tensor for part in told for tensor in flat(part)]


def _sides(model: Any) -> "list[int]":
    told = (model.args or {}).get("imgsz", 640)
    sides = list(told) if isinstance(told, (list, tuple)) else [told, told]
    stride = int(max(float(side) for side in model.stride)) if type(model).__name__ != "ClassificationModel" else 1
    return [max(stride, -(-int(side) // stride) * stride) for side in (sides * 2)[:2]]
