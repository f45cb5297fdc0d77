"""Convert ONNX models to TensorFlow's SavedModel."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.isolated import isolated
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain

_HERE = Path(__file__).parent

TENSORFLOW = Toolchain(
    "tensorflow",
    "TensorFlow for the CPU with Keras, and converters from and to ONNX.",
    python=(
        "tensorflow-cpu==2.21.0; sys_platform != 'darwin' and platform_machine != 'aarch64'",
        "tensorflow==2.21.0; sys_platform == 'darwin' or platform_machine == 'aarch64'",
        "keras==3.15.1",
        "tf2onnx==1.17.0",
        "onnx==1.19.1",
        "onnxruntime==1.23.0",
        "psutil==5.9.5",
    ),
    # Their own pins name other versions of what is above, and hundreds of megabytes that conversion doesn't use.
    bare=(
        "tf_keras==2.21.0",
        "onnx2tf==1.29.24",
        "onnx_graphsurgeon==0.6.1",
        "sng4onnx==2.0.1",
        "sne4onnx==2.0.1",
        "onnxsim==0.4.36",
        "ai-edge-litert==2.1.0",
    ),
    lock=_HERE / "locks" / "tensorflow.txt",
    expected_mb=1850,
)


@dataclass(frozen=True)
class ToSavedModel:
    """Convert an ONNX model to a TensorFlow SavedModel that keeps the source's layout.

    Inside it computes channels-last, as TensorFlow does on CPUs; inputs and outputs are transposed at the doors.
    """

    name: ClassVar[str] = "tf-savedmodel"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "tf-savedmodel"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tensorflow"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder model; raises StepError for operators that can't be converted."""
        partial, folder = context.workspace / "model.partial", context.workspace / "model"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        program = _HERE / "programs" / "savedmodel.py"
        with isolated(self.toolchain, program, limits=context.limits, progress=context.progress) as worker:
            worker.ask(
                "convert",
                source=str(source.path.resolve()),
                target=str(partial.resolve()),
                signature=source.signature.model_dump(mode="json"),
            )
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        made = replace(source, path=folder, format=self.produces, digest=digest_path(folder), loader={})
        return replace(made, made_by=(*source.made_by, self.name))
