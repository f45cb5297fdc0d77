"""Answer with an ncnn model, in ncnn's own runtime."""

from pathlib import Path
from typing import Any

import ncnn
import numpy as np


class Model:
    """Hold a model; `half` lets ncnn compute with 16 bits where the processor can."""

    def __init__(self, request: dict[str, Any], tell: Any) -> None:
        folder = Path(request["path"])
        self._names = (request["inputs"], request["outputs"])
        self._shapes = dict(zip(request["outputs"], request["output_shapes"], strict=True))
        self._net = ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = max(int(request["threads"]), 1)
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self._net.opt, option, bool(request["half"]) and "bf16" not in option)
        if self._net.load_param(str(folder / "model.param")) or self._net.load_model(str(folder / "model.bin")):
            raise Refused(f"ncnn can't load {folder.name}", hint="convert it again")

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Give the outputs by the signature's names, in its order."""
        extractor = self._net.create_extractor()
        for blob, name in zip(self._net.input_names(), self._names[0], strict=True):
            extractor.input(blob, ncnn.Mat(np.ascontiguousarray(inputs[name]), batch_index=0).clone())
        answers = {}
        for blob, name in zip(self._net.output_names(), self._names[1], strict=True):
            code, value = extractor.extract(blob)
            if code:
                raise Refused(f"ncnn can't compute the output '{name}' (code {code})")
            answers[name] = np.array(value).reshape(self._shapes[name])
        return answers
