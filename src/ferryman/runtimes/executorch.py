"""Run ExecuTorch programs."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.isolated import IsolatedSession

_PROGRAM = Path(__file__).parent / "programs" / "executorch.py"


class ExecuTorchRuntime:
    """Verify ExecuTorch programs in ExecuTorch's own runtime, which decides about threads itself."""

    name: ClassVar[str] = "executorch"
    formats: ClassVar[frozenset[str]] = frozenset({"executorch"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ("edge", "phone")
    toolchain: ClassVar[str] = "executorch"

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load a .pte file; raises StepError where it is none."""
        return IsolatedSession.holding(artifact, self.toolchain, _PROGRAM)
