"""Run Core ML packages."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.isolated import IsolatedSession

_PROGRAM = Path(__file__).parent / "programs" / "coreml.py"


class CoreMLRuntime:
    """Verify Core ML packages: on macOS with Apple's runtime, elsewhere by evaluating the saved program."""

    name: ClassVar[str] = "coreml"
    formats: ClassVar[frozenset[str]] = frozenset({"coreml"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ("phone",)
    toolchain: ClassVar[str] = "coreml"

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load an .mlpackage folder; raises StepError that names an operation which can't be evaluated here."""
        return IsolatedSession.holding(
            artifact,
            self.toolchain,
            _PROGRAM,
            threads=threads,
            output_dtypes=[spec.dtype for spec in artifact.signature.outputs],
        )
