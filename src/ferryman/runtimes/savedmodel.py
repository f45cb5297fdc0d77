"""Run TensorFlow SavedModels in a Python of TensorFlow's own."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import SourceError
from ferryman.core.isolated import IsolatedSession, Refusal
from ferryman.core.plugins import find

_PROGRAM = Path(__file__).parent / "programs" / "savedmodel.py"


class SavedModelRuntime:
    """Run TensorFlow SavedModels on the CPU, in a Python of TensorFlow's own."""

    name: ClassVar[str] = "tf-savedmodel"
    formats: ClassVar[frozenset[str]] = frozenset({"tf-savedmodel"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tensorflow"
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load the signature that the artifact's `loader` names, `serving_default` unless it does.

        Raises SourceError for a graph that reads or writes files, unless the `loader` holds the user's trust.
        """
        if not (artifact.path / "saved_model.pb").is_file():
            raise SourceError(f"{artifact.path} has no saved_model.pb", hint="a SavedModel is a folder that has one")
        find("sources", self.name).cls().check(artifact.path, trust=artifact.loader.get("trust") is True)
        names = [spec.name for spec in artifact.signature.outputs]
        try:
            return IsolatedSession(
                artifact.signature,
                self.toolchain,
                _PROGRAM,
                folder=str(artifact.path.resolve()),
                threads=threads,
                serves=artifact.loader.get("signature", "serving_default"),
                names=names,
            )
        except Refusal as error:
            if artifact.made_by:
                raise
            raise SourceError(
                f"{artifact.path}: {error}", hint="copy the whole folder again, or export it again"
            ) from None
