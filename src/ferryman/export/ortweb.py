"""Pack ONNX models for browsers: the model with ONNX Runtime's WebAssembly build."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.isolated import isolated
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain

_HERE = Path(__file__).parent

WEB = Toolchain(
    "web",
    "ONNX Runtime for browsers (WebAssembly).",
    node=("onnxruntime-web@1.30.0",),
    node_lock=_HERE / "locks" / "web.package-lock.json",
    expected_mb=150,
)


@dataclass(frozen=True)
class ToOrtWeb:
    """Pack an ONNX model with ONNX Runtime's WebAssembly build for browsers and Node.

    The folder has all that a page needs, so its size includes the engine's own 14 MB.
    """

    name: ClassVar[str] = "ort-web"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "ort-web"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "web"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder model; raises StepError for operators that the engine doesn't have."""
        partial, folder = context.workspace / "model.partial", context.workspace / "model"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        shutil.copyfile(source.path, partial / "model.onnx")
        shutil.copyfile(_HERE / "engines" / "ortweb.mjs", partial / "engine.js")
        program = _HERE / "programs" / "ortweb.mjs"
        with isolated(self.toolchain, program, limits=context.limits, progress=context.progress) as worker:
            worker.ask("pack", folder=str(partial.resolve()))
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        made = replace(source, path=folder, format=self.produces, digest=digest_path(folder), loader={})
        return replace(made, made_by=(*source.made_by, self.name))
