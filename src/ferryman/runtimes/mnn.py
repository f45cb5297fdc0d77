"""Run MNN models."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.isolated import IsolatedSession

_PROGRAM = Path(__file__).parent / "programs" / "mnn.py"


class MNNRuntime:
    """Verify MNN models on the CPU, in float32."""

    name: ClassVar[str] = "mnn"
    formats: ClassVar[frozenset[str]] = frozenset({"mnn"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ("edge", "phone")
    toolchain: ClassVar[str] = "mnn"

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load a .mnn file; raises StepError where MNN can't."""
        return IsolatedSession.holding(artifact, self.toolchain, _PROGRAM, threads=threads)
