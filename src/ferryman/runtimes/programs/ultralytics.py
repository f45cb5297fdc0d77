"""Hold an Ultralytics model in a Python of its own."""

import os
import tempfile
from typing import Any

os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
os.environ["YOLO_CONFIG_DIR"] = tempfile.gettempdir()  # no settings in the home folder

import torch
from ultralytics.nn.tasks import load_checkpoint


class Model:
    """Answer with a checkpoint's raw head."""

    def __init__(self, request: "dict[str, Any]", tell: Any) -> None:
        torch.set_num_threads(request["threads"])
        try:
            self._model, _ = load_checkpoint(request["path"], device="cpu", inplace=False)
        except Exception as error:
            line = " ".join(str(error).split())[:300]
            raise Refused(f"Ultralytics can't load this checkpoint: {line}", hint="is it whole?") from error
        for module in self._model.modules():
            if hasattr(module, "export"):
                module.export, module.format = True, "onnx"
        self._model.eval()
        self._input, self._outputs = request["inputs"][0], request["outputs"]

    def infer(self, inputs: "dict[str, Any]") -> "dict[str, Any]":
        """Give every output by its name."""
        try:
            with torch.inference_mode():
                told = _flat(self._model(torch.from_numpy(inputs[self._input].copy())))
        except RuntimeError as error:
            line = " ".join(str(error).split())[:300]
            raise Refused(f"the model can't take these inputs: {line}", hint="see its signature") from error
        return {name: value.numpy() for name, value in zip(self._outputs, told, strict=True)}


def _flat(told: Any) -> "list[Any]":
    return [told] if isinstance(told, torch.Tensor) else [tensor for part in told for tensor in _flat(part)]
