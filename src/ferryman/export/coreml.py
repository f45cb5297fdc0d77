"""Convert exported torch programs to Core ML packages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain
from ferryman.export._fixed import Conversion, convert, fix_sizes

TOOLCHAIN = Toolchain(
    "coreml",
    "Apple's converter from torch to Core ML; on macOS also what runs it.",
    python=("coremltools==9.0",),
    base="torch",
    lock=Path(__file__).parent / "locks" / "coreml.txt",
    expected_mb=60,
)
_PROGRAM = Path(__file__).parent / "programs" / "coreml.py"


@dataclass(frozen=True)
class ToCoreML:
    """Convert an exported torch program to a Core ML package in float32.

    `batch` fixes a free first dimension. `deployment` is the oldest system that must run it, as coremltools names it.
    """

    name: ClassVar[str] = "coreml"
    accepts: ClassVar[frozenset[str]] = frozenset({"torch-export"})
    produces: ClassVar[str] = "coreml"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "coreml"

    batch: int = 1
    deployment: str = "iOS16"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .mlpackage folder; raises StepError that names the operation which Core ML doesn't have."""
        return _convert(self, source, context, weights="fp32", precision=source.precision)


@dataclass(frozen=True)
class ToCoreMLHalf(ToCoreML):
    """Convert an exported torch program to a Core ML package in float16: what the Neural Engine computes with."""

    name: ClassVar[str] = "coreml-fp16"
    precision: ClassVar[str | None] = "fp16"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .mlpackage folder; inputs and outputs stay float32."""
        return _convert(self, source, context, weights="fp16", precision="fp16")


@dataclass(frozen=True)
class ToCoreMLInt8(ToCoreML):
    """Convert an exported torch program to a Core ML package with weights of 8 bits, computed in float16.

    Weights of fewer than `threshold` values stay as they are.
    """

    name: ClassVar[str] = "coreml-int8"
    precision: ClassVar[str | None] = "int8"

    threshold: int = 2048

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .mlpackage folder; needs no calibration, since only weights are quantized."""
        return _convert(self, source, context, weights="int8", precision="int8", threshold=self.threshold)


def _convert(step: ToCoreML, source: Artifact, context: StepContext, *, precision: str, **asked: Any) -> Artifact:
    conversion = Conversion(step.name, step.toolchain, _PROGRAM, "coreml", "model.mlpackage")
    signature = fix_sizes(source.signature, step.batch, step.name)
    return convert(
        source, context, conversion, signature=signature, precision=precision, deployment=step.deployment, **asked
    )
