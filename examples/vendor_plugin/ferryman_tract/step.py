"""The toolchain and the step: ONNX in, a compiled model out."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import StepError
from ferryman.core.isolated import isolated
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.step import StepContext
from ferryman.core.toolchain import Toolchain

# Data only: `ferryman toolchain add tract` makes the environment, and nothing else does.
TOOLCHAIN = Toolchain(
    "tract",
    "Sonos' compiler and runtime for small devices.",
    python=("tract==0.23.9", "numpy==2.4.6"),
    expected_mb=130,
)
PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class ToTract:
    """Compile an ONNX model with tract, in float32 and with a fixed batch."""

    name: ClassVar[str] = "tract"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "tract"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("onnx",)
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tract"

    batch: int = 1  # an option: [build.options.tract] batch = 4

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write model.nnef.tar; raises StepError that names what tract doesn't have."""
        context.workspace.mkdir(parents=True, exist_ok=True)
        settled, partial = context.workspace / "partial.onnx", context.workspace / "partial.tar"
        path = context.workspace / "model.nnef.tar"
        try:
            signature = settle(source, settled, self.batch)
            with isolated(
                self.toolchain, PROGRAMS / "tract_compile.py", limits=context.limits, progress=context.progress
            ) as worker:
                worker.ask("compile_model", source=str(settled.resolve()), target=str(partial.resolve()))
            os.replace(partial, path)
        except OSError as error:
            raise StepError(f"{self.name}: can't write {path}: {error}", hint="free some space there") from error
        finally:
            settled.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)
        made_by = (*source.made_by, self.name)
        return Artifact(path, self.produces, signature, digest_file(path), source.precision, made_by)


def settle(source: Artifact, target: Path, batch: int) -> Signature:
    """Write the graph with its batch fixed and without metadata, whose quotes tract can't read back."""
    import onnx

    model = onnx.load(source.path)
    del model.metadata_props[:]
    del model.graph.value_info[:]
    for tensor in (*model.graph.input, *model.graph.output):
        sizes = tensor.type.tensor_type.shape.dim
        if sizes and sizes[0].dim_param:
            sizes[0].dim_value = batch
    onnx.save(model, target)
    names = {spec.shape[0] for spec in source.signature.inputs if spec.has_dynamic_batch}

    def fixed(spec: TensorSpec) -> TensorSpec:
        return spec.model_copy(update={"shape": tuple(batch if size in names else size for size in spec.shape)})

    return Signature(
        inputs=tuple(map(fixed, source.signature.inputs)), outputs=tuple(map(fixed, source.signature.outputs))
    )
