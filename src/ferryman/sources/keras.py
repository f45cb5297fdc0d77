"""Open Keras 3 files (.keras), and write them as TensorFlow SavedModels."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file, digest_path
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.isolated import Refusal, isolated
from ferryman.core.signature import Signature
from ferryman.core.step import StepContext
from ferryman.sources._content import looks_like, zip_names
from ferryman.sources._keras_config import check_code, last_activation, read_config, scales_itself

_PROGRAM = Path(__file__).parent / "programs" / "keras.py"


class KerasSource:
    """Open a .keras file of Keras 3, in the toolchain `tensorflow`; Lambda layers, which are code, need trust."""

    name: ClassVar[str] = "keras"
    suffixes: ClassVar[tuple[str, ...]] = (".keras",)
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tensorflow"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a zip with Keras's description and weights."""
        names = set(zip_names(path))
        return {"config.json", "metadata.json"} <= names and any(name.startswith("model.weights.") for name in names)

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Have Keras load the file and tell its inputs and outputs; raises SourceError for code that isn't trusted.

        The artifact's `loader` tells whether the model scales pictures itself ("picture").
        """
        if not self.recognises(path):
            raise SourceError(
                f"{path} is not a Keras 3 model: it looks like {looks_like(path)}",
                hint="save it so: model.save('m.keras'); an .h5 file: keras.saving.load_model('m.h5').save('m.keras')",
            )
        config = read_config(path)
        check_code(config, path, trust=model.trust)
        try:
            with isolated(self.toolchain, _PROGRAM) as worker:
                told = worker.ask("describe", source=str(path.resolve()), trust=model.trust)
        except Refusal as error:
            raise SourceError(str(error), hint=error.hint) from None
        signature = Signature.model_validate(told)
        loader: dict[str, Any] = {"trust": model.trust}  # JSON
        if scales_itself(config):
            loader["picture"] = {"scale": 1.0}
        if (last := last_activation(config)) and len(signature.outputs) == 1:
            loader["last_operators"] = {signature.outputs[0].name: last}
        return Artifact(path, self.name, signature, digest_file(path), loader=loader)

    def check(self, path: Path, *, trust: bool) -> None:
        """Raise SourceError for code in the file, unless the user trusts it, and for layers that aren't Keras's."""
        check_code(read_config(path), path, trust=trust)


@dataclass(frozen=True)
class KerasToSavedModel:
    """Write a Keras model as a TensorFlow SavedModel whose weights are constants, with the same names."""

    name: ClassVar[str] = "keras-to-savedmodel"
    accepts: ClassVar[frozenset[str]] = frozenset({"keras"})
    produces: ClassVar[str] = "tf-savedmodel"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tensorflow"
    imports: ClassVar[bool] = True

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the folder model; raises StepError for what TensorFlow can't trace."""
        partial, folder = context.workspace / "model.partial", context.workspace / "model"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            with isolated(self.toolchain, _PROGRAM, limits=context.limits, progress=context.progress) as worker:
                worker.ask(
                    "to_savedmodel",
                    source=str(source.path.resolve()),
                    target=str(partial.resolve()),
                    trust=bool(source.loader.get("trust")),
                )
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        made = replace(source, path=folder, format=self.produces, digest=digest_path(folder))
        return replace(made, loader={"signature": "serving_default"}, made_by=(*source.made_by, self.name))
