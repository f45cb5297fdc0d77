"""Convert ONNX models to MNN, for phones. The part of MNN that reports to its maker is never touched."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import SourceError, StepError
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain
from ferryman.export._fixed import Conversion, convert

TOOLCHAIN = Toolchain(
    "mnn",
    "Alibaba's converter and runtime for phones.",
    python=("MNN==3.6.1", "numpy==2.4.6"),
    lock=Path(__file__).parent / "locks" / "mnn.txt",
    expected_mb=155,
)
_PROGRAM = Path(__file__).parent / "programs" / "mnn.py"
_DTYPES = ("float32", "int32", "uint8")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class ToMNN:
    """Convert an ONNX model to MNN in float32, with the same names and free sizes."""

    name: ClassVar[str] = "mnn"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "mnn"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "mnn"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .mnn file; raises StepError whose last lines name the operator that MNN doesn't have."""
        return _convert(self, source, context, precision=source.precision, half=False, bits=0)


@dataclass(frozen=True)
class ToMNNHalf(ToMNN):
    """Convert an ONNX model to MNN with weights kept in 16 bits: half the size."""

    name: ClassVar[str] = "mnn-fp16"
    precision: ClassVar[str | None] = "fp16"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .mnn file; inputs and outputs stay float32."""
        if not source.path.is_file():
            raise SourceError(f"there is no ONNX file {source.path}", hint="the artifact was moved or removed")
        context.workspace.mkdir(parents=True, exist_ok=True)
        rounded = context.workspace / "partial-model.onnx"
        try:
            _round_weights(source.path, rounded)
            given = replace(source, path=rounded)
            return _convert(self, given, context, precision="fp16", half=True, bits=0)
        except OSError as error:
            raise StepError(f"{self.name}: can't write {rounded}: {error}", hint="free some space there") from error
        finally:
            rounded.unlink(missing_ok=True)


@dataclass(frozen=True)
class ToMNNInt8(ToMNN):
    """Convert an ONNX model to MNN with weights of 8 bits, a scale for each output channel.

    `half_quadratic` chooses scales by half-quadratic quantization (Badri, Shaji 2023), which forgets outliers: better
    for some models, worse for others. A build tries it where the usual scales break the contract.
    """

    name: ClassVar[str] = "mnn-int8"
    precision: ClassVar[str | None] = "int8"
    remedies: ClassVar[tuple[tuple[str, dict[str, Any]], ...]] = (
        ("scales by half-quadratic quantization", {"half_quadratic": True}),
    )

    half_quadratic: bool = False

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .mnn file; needs no calibration, since only weights are quantized."""
        robust = self.half_quadratic
        return _convert(self, source, context, precision="int8", half=False, bits=8, half_quadratic=robust)


def _round_weights(source: Path, target: Path) -> None:
    """Write a model whose weights have 16 bits already, each the nearest: the converter itself cuts bits off.

    Where a normalization follows, the converter makes other weights of both, and they are left to it.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source)
    normalized = {node.input[0] for node in model.graph.node if node.op_type == "BatchNormalization"}
    weights = {
        name
        for node in model.graph.node
        if node.op_type in _WEIGHTED and node.output[0] not in normalized
        for name in node.input[:2]
    }
    for part in model.graph.initializer:
        if part.name in weights and part.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(part)
            with np.errstate(over="ignore"):
                half = values.astype(np.float16).astype(np.float32)
            part.CopyFrom(numpy_helper.from_array(np.where(np.isfinite(half), half, values), part.name))
    onnx.save(model, target)


def _convert(step: ToMNN, source: Artifact, context: StepContext, *, precision: str, **asked: Any) -> Artifact:
    for spec in source.signature.inputs:
        if spec.dtype not in _DTYPES:
            raise StepError(
                f"{step.name}: input '{spec.name}' is {spec.dtype}; MNN takes {', '.join(_DTYPES)}",
                hint="export the source with inputs of 32 bits, or leave MNN out of [build] formats",
            )
    conversion = Conversion(step.name, step.toolchain, _PROGRAM, "mnn", "model.mnn")
    return convert(source, context, conversion, signature=source.signature, precision=precision, **asked)
