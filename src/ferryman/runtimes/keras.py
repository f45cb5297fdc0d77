"""Run Keras 3 files as Keras itself does, in a Python of TensorFlow's own."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import SourceError
from ferryman.core.isolated import IsolatedSession
from ferryman.core.plugins import find

_PROGRAM = Path(__file__).parent / "programs" / "keras.py"


class KerasRuntime:
    """Run Keras 3 files on the CPU, in a Python of TensorFlow's own: what a candidate is measured against."""

    name: ClassVar[str] = "keras"
    formats: ClassVar[frozenset[str]] = frozenset({"keras"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tensorflow"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load the file; code in it runs only where the user trusts it."""
        if not artifact.path.is_file():
            raise SourceError(f"there is no file {artifact.path}", hint="the artifact was moved or removed")
        trust = artifact.loader.get("trust") is True
        find("sources", self.name).cls().check(artifact.path, trust=trust)
        return IsolatedSession.holding(artifact, self.toolchain, _PROGRAM, threads=threads, trust=trust)
