"""Run Ultralytics checkpoints with Ultralytics' own code (AGPL-3.0), in a Python of its own."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import SourceError
from ferryman.core.isolated import IsolatedSession

_PROGRAM = Path(__file__).parent / "programs" / "ultralytics.py"


class UltralyticsRuntime:
    """Run Ultralytics checkpoints, which are pickles, on the CPU: what a candidate is measured against."""

    name: ClassVar[str] = "ultralytics"
    formats: ClassVar[frozenset[str]] = frozenset({"ultralytics"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "ultralytics"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    runs_code: ClassVar[bool] = True

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load the checkpoint; raises SourceError where the artifact's `loader` doesn't hold the user's trust."""
        if not artifact.path.is_file():
            raise SourceError(f"there is no file {artifact.path}", hint="the artifact was moved or removed")
        if artifact.loader.get("trust") is not True:
            raise SourceError(
                f"{artifact.path} is a pickle; opening a pickle runs whatever code is in it",
                hint="trust it if you know where it comes from: [model] trust = true; of a bundle: --trust",
            )
        return IsolatedSession.holding(artifact, self.toolchain, _PROGRAM, threads=threads)
