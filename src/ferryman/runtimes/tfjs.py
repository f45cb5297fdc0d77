"""Run TensorFlow.js models in Node: what a browser would run, file by file."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import SourceError
from ferryman.core.isolated import IsolatedSession

_PROGRAM = Path(__file__).parent / "programs" / "browser.mjs"


class TfjsRuntime:
    """Run TensorFlow.js graph models on its WebAssembly backend, in Node."""

    name: ClassVar[str] = "tfjs"
    formats: ClassVar[frozenset[str]] = frozenset({"tfjs"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tfjs"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ("browser",)
    runs_code: ClassVar[bool] = True

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load the folder's own engine on one thread, as a page without special headers has it."""
        if not (artifact.path / "engine.js").is_file():
            raise SourceError(f"{artifact.path} has no engine.js", hint="convert it again from its source")
        return IsolatedSession(artifact.signature, self.toolchain, _PROGRAM, folder=str(artifact.path.resolve()))
