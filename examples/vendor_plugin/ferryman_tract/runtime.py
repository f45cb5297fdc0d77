"""The runtime: what the promise is measured with."""

from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.isolated import IsolatedSession
from ferryman_tract.step import PROGRAMS


class TractRuntime:
    """Run models compiled with tract, in tract's own runtime."""

    name: ClassVar[str] = "tract"
    formats: ClassVar[frozenset[str]] = frozenset({"tract"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = False  # for devices: it is exported, not served here
    targets: ClassVar[tuple[str, ...]] = ("edge",)  # [build] targets = ["edge"] tries it
    toolchain: ClassVar[str] = "tract"

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load a compiled model; tract answers on one core, whatever `threads` is."""
        return IsolatedSession(
            artifact.signature,
            self.toolchain,
            PROGRAMS / "tract_run.py",
            path=str(artifact.path.resolve()),
            inputs=[spec.name for spec in artifact.signature.inputs],
            outputs=[spec.name for spec in artifact.signature.outputs],
        )
