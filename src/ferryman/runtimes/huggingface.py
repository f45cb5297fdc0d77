"""Run folders of Hugging Face's transformers."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact
from ferryman.core.errors import StepError
from ferryman.core.isolated import IsolatedSession

_PROGRAM = Path(__file__).parent.parent / "sources" / "programs" / "huggingface.py"  # the one that opens and exports


class HuggingFaceRuntime:
    """Run models of transformers with torch, to measure what is made of them against."""

    name: ClassVar[str] = "huggingface"
    formats: ClassVar[frozenset[str]] = frozenset({"huggingface"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    toolchain: ClassVar[str] = "huggingface"

    def load(self, artifact: Artifact, *, threads: int) -> IsolatedSession:
        """Load a folder; raises StepError where transformers can't."""
        loader = artifact.loader
        if missing := [key for key in ("inner", "head", "trust") if key not in loader]:
            raise StepError(
                f"{artifact.path} doesn't say its {missing[0]}, by which a folder of transformers is loaded",
                hint="it was not made by this version of ferryman: open the model's folder anew, and build again",
            )
        if ".." in (inner := Path(loader["inner"])).parts or inner.is_absolute():
            raise StepError(f"{artifact.path} names a folder outside of the model: '{inner}'", hint="don't trust it")
        folder = str((artifact.path / inner).resolve())
        asked = {"folder": folder, "head": loader["head"], "trust": loader["trust"]}
        return IsolatedSession(artifact.signature, self.toolchain, _PROGRAM, threads=threads, **asked)
