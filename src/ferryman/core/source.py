"""What recognises a trained model's file and opens it."""

from pathlib import Path
from typing import ClassVar, Protocol

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection


class Source(Protocol):
    """Recognise and open one file format of trained models."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]

    def recognises(self, path: Path) -> bool:
        """Tell from the content (not the name alone) whether this is such a file; loads no framework, runs no code."""

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Check the file, repair what is harmless (into `workspace`) and read its signature; raises SourceError."""
