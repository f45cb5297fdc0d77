"""Prepare ONNX models for TensorRT, whose engines are built on the device that runs them."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.engine import GpuOptions
from ferryman.core.errors import SourceError
from ferryman.core.step import StepContext


@dataclass(frozen=True)
class ToTensorRT(GpuOptions):
    """Keep an ONNX model, in the precision that it has, with how its TensorRT engine is built on the device."""

    name: ClassVar[str] = "tensorrt"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "tensorrt"
    precision: ClassVar[str | None] = None
    takes: ClassVar[frozenset[str]] = frozenset({"fp16", "int8"})
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    cost_s: ClassVar[float] = 120.0

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder: model.onnx, and engine.json with the options."""
        if not source.path.is_file():
            raise SourceError(f"there is no ONNX file {source.path}", hint="the artifact was moved or removed")
        partial, folder = context.workspace / "model.partial", context.workspace / "model"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        shutil.copyfile(source.path, partial / "model.onnx")
        (partial / "engine.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        made = replace(source, path=folder, format=self.produces, digest=digest_path(folder), loader={})
        return replace(made, made_by=(*source.made_by, self.name))
