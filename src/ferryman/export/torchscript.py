"""Convert exported programs of torch to TorchScript."""

from dataclasses import dataclass, replace
from typing import ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.step import StepContext


@dataclass(frozen=True)
class ToTorchScript:
    """Convert an exported program of torch to TorchScript, which also phones and C++ programs load.

    `freeze` folds the weights into the code (faster, for one device); without it they stay parameters.
    """

    name: ClassVar[str] = "torchscript"
    accepts: ClassVar[frozenset[str]] = frozenset({"torch-export"})
    produces: ClassVar[str] = "torchscript"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"

    freeze: bool = True

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write a module that takes inputs by position; raises StepError for what TorchScript doesn't have."""
        from ferryman.export._torch import program, script

        context.progress(self.name, note=source.path.name)
        module = script.script(program.load(source.path), step=self.name)
        path = context.workspace / "model.torchscript"
        script.save(module, path, freeze=self.freeze, step=self.name)
        return replace(
            source,
            path=path,
            format="torchscript",
            digest=digest_file(path),
            made_by=(*source.made_by, self.name),
            loader={},
        )
