"""Run ncnn models."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.isolated import IsolatedSession

_PROGRAM = Path(__file__).parent / "programs" / "ncnn.py"


class NcnnRuntime:
    """Verify ncnn models on the CPU, in float32, or as the processor can where the weights have 16 bits."""

    name: ClassVar[str] = "ncnn"
    formats: ClassVar[frozenset[str]] = frozenset({"ncnn"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ("edge", "phone")
    toolchain: ClassVar[str] = "ncnn"

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load a folder with model.param and model.bin; raises StepError where ncnn can't."""
        return IsolatedSession.holding(
            artifact,
            self.toolchain,
            _PROGRAM,
            threads=threads,
            half=artifact.precision == "fp16",
            output_shapes=[spec.shape for spec in artifact.signature.outputs],
        )
