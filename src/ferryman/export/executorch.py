"""Convert exported torch programs to ExecuTorch, for phones: XNNPACK computes what it can."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import DataError
from ferryman.core.signature import Array, Signature
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain
from ferryman.export._fixed import Conversion, convert, fix_sizes

TOOLCHAIN = Toolchain(
    "executorch",
    "PyTorch's compiler and runtime for phones and edge devices.",
    python=("executorch==1.5.1", "torchao==0.18.0"),
    base="torch",
    lock=Path(__file__).parent / "locks" / "executorch.txt",
    expected_mb=580,
)
_PROGRAM = Path(__file__).parent / "programs" / "executorch.py"


@dataclass(frozen=True)
class ToExecuTorch:
    """Convert an exported torch program to ExecuTorch with XNNPACK, in float32.

    `batch` fixes a free first dimension.
    """

    name: ClassVar[str] = "executorch"
    accepts: ClassVar[frozenset[str]] = frozenset({"torch-export"})
    produces: ClassVar[str] = "executorch"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "executorch"

    batch: int = 1

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .pte file; raises StepError that names the operators which ExecuTorch doesn't have."""
        return _convert(self, source, context, precision=source.precision, samples=[])


@dataclass(frozen=True)
class ToExecuTorchInt8(ToExecuTorch):
    """Quantize an exported torch program to 8 bits for XNNPACK, and convert it to ExecuTorch.

    `samples` is how many calibration samples are used; `per_channel` gives each output channel a scale of its own.
    `exclude_tail` keeps what follows the last layer with weights in float, `exclude_head` those last layers, too.
    """

    name: ClassVar[str] = "executorch-int8"
    precision: ClassVar[str | None] = "int8"
    calibrates: ClassVar[bool] = True

    samples: int = 64
    per_channel: bool = True
    exclude_tail: bool = False
    exclude_head: bool = False

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .pte file; raises DataError where there is nothing to calibrate with."""
        if not context.calibration:
            raise DataError(f"{self.name} has no calibration samples", hint="set [data] calibration in ferryman.toml")
        signature = fix_sizes(source.signature, self.batch, self.name)
        count = min(self.samples, len(context.calibration))
        samples = [_of_size(signature, dict(context.calibration[index])) for index in range(count)]
        asked = {key: getattr(self, key) for key in ("per_channel", "exclude_tail", "exclude_head")}
        return _convert(self, source, context, precision="int8", samples=samples, signature=signature, **asked)


def _convert(step: ToExecuTorch, source: Artifact, context: StepContext, *, precision: str, **asked: Any) -> Artifact:
    conversion = Conversion(step.name, step.toolchain, _PROGRAM, "executorch", "model.pte")
    asked.setdefault("signature", fix_sizes(source.signature, step.batch, step.name))
    return convert(source, context, conversion, precision=precision, **asked)


def _of_size(signature: Signature, sample: dict[str, Array]) -> list[Array]:
    """Give one sample's tensors in order, repeated to the fixed batch."""
    rows = []
    for spec in signature.inputs:
        value = np.asarray(sample[spec.name])
        batch = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else 0
        if batch and value.shape[0] != batch:
            value = np.concatenate([value] * batch)[:batch]
        rows.append(value)
    return rows
