"""Convert exported torch programs to LiteRT (TensorFlow Lite) files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import NotApplicable, SourceError
from ferryman.core.isolated import isolated
from ferryman.core.signature import Signature
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain

TOOLCHAIN = Toolchain(
    "litert",
    "Google's converter from torch to LiteRT (TensorFlow Lite), and its quantizer.",
    python=("litert-torch==0.10.0", "ai-edge-quantizer==0.10.0", "ai-edge-litert==2.3.0"),
    base="torch",
    lock=Path(__file__).parent / "locks" / "litert.txt",
    expected_mb=1250,
)
_PROGRAM = Path(__file__).parent / "programs" / "litert.py"
_NARROWED = {"int64": "int32", "float64": "float32"}  # by the converter: LiteRT's kernels are for 32 bits


@dataclass(frozen=True)
class ToLiteRT:
    """Convert an exported torch program to LiteRT, with the same names and the same order of dimensions.

    `batch` fixes a free first dimension: some accelerators of phones take no model of free sizes. With 0 it stays free
    where the converter can keep it so, and becomes 1 where not.
    """

    name: ClassVar[str] = "litert"
    accepts: ClassVar[frozenset[str]] = frozenset({"torch-export"})
    produces: ClassVar[str] = "litert"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "litert"

    batch: int = 0

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .tflite file; raises StepError that names the operator which LiteRT doesn't have."""
        if not source.path.is_file():
            raise SourceError(f"there is no file {source.path}", hint="the artifact was moved or removed")
        signature = _narrowed(_with_batch(source.signature, self.batch))
        wide = [spec for spec in source.signature.inputs if spec.dtype in _NARROWED]
        if wide:
            raise NotApplicable(
                f"{self.name}: input '{wide[0].name}' is {wide[0].dtype}, which LiteRT's converter narrows to 32 bits",
                hint=f"export the model with {_NARROWED[wide[0].dtype]} inputs",
            )
        context.workspace.mkdir(parents=True, exist_ok=True)
        partial, path = context.workspace / "model.partial", context.workspace / "model.tflite"
        asked = signature.model_dump(mode="json")
        with isolated(self.toolchain, _PROGRAM, limits=context.limits, progress=context.progress) as worker:
            made = worker.ask("convert", source=str(source.path.resolve()), target=str(partial.resolve()), **asked)
        signature = _with_batch(signature, made["batch"])
        os.replace(partial, path)
        made_by = (*source.made_by, self.name)
        return Artifact(path, "litert", signature, digest_file(path), source.precision, made_by)


def _with_batch(signature: Signature, batch: int) -> Signature:
    """Give the signature with its free batch fixed; 0 leaves it."""
    names = {spec.shape[0] for spec in signature.inputs if spec.has_dynamic_batch} if batch else set()

    def fixed(spec_shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
        return tuple(batch if size in names else size for size in spec_shape)

    return Signature(
        inputs=tuple(spec.model_copy(update={"shape": fixed(spec.shape)}) for spec in signature.inputs),
        outputs=tuple(spec.model_copy(update={"shape": fixed(spec.shape)}) for spec in signature.outputs),
    )


def _narrowed(signature: Signature) -> Signature:
    """Give the signature as the converter makes it: whole numbers of 64 bits come out with 32."""
    return Signature(
        inputs=signature.inputs,
        outputs=tuple(
            spec.model_copy(update={"dtype": _NARROWED.get(spec.dtype, spec.dtype)}) for spec in signature.outputs
        ),
    )
