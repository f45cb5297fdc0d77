"""Convert TensorFlow SavedModels to TensorFlow.js."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.isolated import isolated
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain

_HERE = Path(__file__).parent
_ENGINE = {
    "tf-core.js": "tfjs-core/dist/tf-core.min.js",
    "tf-converter.js": "tfjs-converter/dist/tf-converter.min.js",
    "tf-backend-wasm.js": "tfjs-backend-wasm/dist/tf-backend-wasm.min.js",
    "tfjs-backend-wasm.wasm": "tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm",
    "tfjs-backend-wasm-simd.wasm": "tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm",
}

TFJS = Toolchain(
    "tfjs",
    "TensorFlow.js with its converter.",
    bare=("tensorflowjs==4.22.0",),  # its own pins bring a second TensorFlow
    node=(
        "@tensorflow/tfjs-core@4.22.0",
        "@tensorflow/tfjs-converter@4.22.0",
        "@tensorflow/tfjs-backend-cpu@4.22.0",
        "@tensorflow/tfjs-backend-wasm@4.22.0",
    ),
    base="tensorflow",
    node_lock=_HERE / "locks" / "tfjs.package-lock.json",
    expected_mb=110,
)


@dataclass(frozen=True)
class ToTfjs:
    """Convert a SavedModel to a TensorFlow.js graph model, with the engine for browsers and Node.

    The folder has all that a page needs, so its size includes the engine's own 1.5 MB.
    """

    name: ClassVar[str] = "tfjs"
    accepts: ClassVar[frozenset[str]] = frozenset({"tf-savedmodel"})
    produces: ClassVar[str] = "tfjs"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tfjs"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder model; raises StepError for operators that TensorFlow.js doesn't have."""
        partial, folder = context.workspace / "model.partial", context.workspace / "model"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        program = _HERE / "programs" / "tfjs.py"
        with isolated(self.toolchain, program, limits=context.limits, progress=context.progress) as worker:
            worker.ask("convert", source=str(source.path.resolve()), target=str(partial.resolve()), engine=_ENGINE)
        shutil.copyfile(_HERE / "engines" / "tfjs.mjs", partial / "engine.js")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        made = replace(source, path=folder, format=self.produces, digest=digest_path(folder), loader={})
        return replace(made, made_by=(*source.made_by, self.name))
