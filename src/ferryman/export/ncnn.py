"""Convert ONNX models to ncnn, for phones and small ARM boards."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import SourceError, StepError
from ferryman.core.signature import Signature
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain
from ferryman.export._fixed import Conversion, convert, fix_sizes
from ferryman.export._ncnn_graph import rewrite

TOOLCHAIN = Toolchain(
    "ncnn",
    "Tencent's runtime for phones, and its converter pnnx.",
    python=("numpy==2.4.6",),
    bare=("ncnn==1.0.20261020", "pnnx==20261020"),  # pnnx asks for torch and 5 GB, and its program needs neither
    lock=Path(__file__).parent / "locks" / "ncnn.txt",
    expected_mb=210,
)
_PROGRAM = Path(__file__).parent / "programs" / "ncnn.py"


@dataclass(frozen=True)
class ToNcnn:
    """Convert an ONNX model to ncnn in float32: one picture a call, sizes fixed."""

    name: ClassVar[str] = "ncnn"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "ncnn"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("onnx",)
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "ncnn"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write a folder with model.param and model.bin; raises StepError that names what ncnn doesn't have."""
        return _convert(self, source, context, precision=source.precision, half=False)


@dataclass(frozen=True)
class ToNcnnHalf(ToNcnn):
    """Convert an ONNX model to ncnn with weights kept in 16 bits: half the size, computed as the processor can."""

    name: ClassVar[str] = "ncnn-fp16"
    precision: ClassVar[str | None] = "fp16"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write a folder with model.param and model.bin; raises StepError that names what ncnn doesn't have."""
        return _convert(self, source, context, precision="fp16", half=True)


def _convert(step: ToNcnn, source: Artifact, context: StepContext, *, precision: str, half: bool) -> Artifact:
    if not source.path.is_file():
        raise SourceError(f"there is no ONNX file {source.path}", hint="the artifact was moved or removed")
    signature = fix_sizes(source.signature, 1, step.name)
    _check(signature, step.name)
    context.workspace.mkdir(parents=True, exist_ok=True)
    rewritten = context.workspace / "partial-model.onnx"
    try:
        unusual = rewrite(source.path, rewritten)
        given = replace(source, path=rewritten)
        conversion = Conversion(step.name, step.toolchain, _PROGRAM, "ncnn", "model")
        asked = {"half": half, "unusual": unusual, "output_shapes": [spec.shape for spec in signature.outputs]}
        return convert(given, context, conversion, signature=signature, precision=precision, **asked)
    except OSError as error:
        raise StepError(f"{step.name}: can't write {rewritten}: {error}", hint="free some space there") from error
    finally:
        rewritten.unlink(missing_ok=True)


def _check(signature: Signature, step: str) -> None:
    """Refuse what ncnn can't hold: batches, and other inputs than float32."""
    for spec in signature.inputs:
        if spec.dtype != "float32":
            raise StepError(
                f"{step}: input '{spec.name}' is {spec.dtype}; models are converted to ncnn with float32 inputs only",
                hint="leave ncnn out of [build] formats",
            )
        if len(spec.shape) < 2 or spec.shape[0] != 1:
            raise StepError(
                f"{step}: input '{spec.name}' has shape {list(spec.shape)}; ncnn answers one picture at a time",
                hint="export the source with a batch of 1, or a free one",
            )
