"""Open TensorFlow SavedModel folders, and import them to ONNX and LiteRT with TensorFlow's own converters."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file, digest_path
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import NotApplicable, SourceError
from ferryman.core.isolated import isolated
from ferryman.core.step import StepContext
from ferryman.sources._content import read_head
from ferryman.sources._imported import finish_imported
from ferryman.sources._savedmodel_graph import SavedGraph

_PROGRAM = Path(__file__).parent / "programs" / "savedmodel.py"
_NOT_IN_LITERT = frozenset({"string", "float64"})


class SavedModelSource:
    """Open a SavedModel folder; reading it needs no TensorFlow, all that follows runs in the toolchain `tensorflow`."""

    name: ClassVar[str] = "tf-savedmodel"
    suffixes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a folder with saved_model.pb."""
        return bool(read_head(path / "saved_model.pb", 1))

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Read the serving signature; raises SourceError where several could be meant, or the graph reads files.

        The artifact's `loader` tells how the graph itself scales pictures ("picture").
        """
        graph = SavedGraph.read(path)
        _check_reach(graph, trust=model.trust)
        graph.check_variables()
        name = graph.choose(model.signature)
        loader: dict[str, Any] = {"signature": name}  # JSON
        if model.trust:
            loader["trust"] = True
        if last := graph.last_operators(name):
            loader["last_operators"] = last
        if (scale := graph.picture_scale(name)) is not None:
            loader["picture"] = {"scale": scale}
        return Artifact(path, self.name, graph.signature(name), digest_path(path), loader=loader)

    def check(self, path: Path, *, trust: bool) -> None:
        """Raise SourceError for a graph that lacks its variables, or reads files or calls Python and isn't trusted."""
        graph = SavedGraph.read(path)
        _check_reach(graph, trust=trust)
        graph.check_variables()


def _check_reach(graph: SavedGraph, *, trust: bool) -> None:
    reaching = graph.reaching_out()
    if reaching and not trust:
        raise SourceError(
            f"{graph.path} holds operators that read or write files, or call Python: {', '.join(reaching)}",
            hint="trust it if you know where it comes from: [model] trust = true; of a bundle: --trust",
        )


@dataclass(frozen=True)
class SavedModelToOnnx:
    """Import a SavedModel to ONNX with tf2onnx, with its names and its layout of pictures.

    Equal bytes come out each time, but for graphs with loops: tf2onnx may order their nodes otherwise.
    """

    name: ClassVar[str] = "savedmodel-to-onnx"
    accepts: ClassVar[frozenset[str]] = frozenset({"tf-savedmodel"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("onnx",)
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tensorflow"
    imports: ClassVar[bool] = True

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the ONNX file; raises StepError that names the operators which ONNX doesn't have."""
        context.workspace.mkdir(parents=True, exist_ok=True)
        partial = context.workspace / "model.partial"
        try:
            ports = _convert("to_onnx", source, partial, context)
            return finish_imported(partial, ports, source, context, self.name)
        finally:
            partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class SavedModelToLiteRT:
    """Import a SavedModel to LiteRT (TensorFlow Lite) with TensorFlow's own converter.

    `half` keeps weights in 16 bits.
    """

    name: ClassVar[str] = "savedmodel-to-litert"
    accepts: ClassVar[frozenset[str]] = frozenset({"tf-savedmodel"})
    produces: ClassVar[str] = "litert"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "tensorflow"
    imports: ClassVar[bool] = True

    half: bool = False

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .tflite file; raises StepError that names the operators which LiteRT doesn't have."""
        signature = source.signature
        unfit = [spec for spec in (*signature.inputs, *signature.outputs) if spec.dtype in _NOT_IN_LITERT]
        if unfit:
            raise NotApplicable(
                f"{self.name}: '{unfit[0].name}' is {unfit[0].dtype}, which LiteRT doesn't compute with"
            )
        context.workspace.mkdir(parents=True, exist_ok=True)
        partial, path = context.workspace / "model.partial", context.workspace / "model.tflite"
        try:
            _convert("to_litert", source, partial, context, half=self.half)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        made = replace(source, path=path, format=self.produces, digest=digest_file(path), loader={})
        return replace(made, made_by=(*source.made_by, self.name))


def _convert(verb: str, source: Artifact, target: Path, context: StepContext, **options: Any) -> dict[str, Any]:
    if not source.path.is_dir():
        raise SourceError(f"there is no folder {source.path}", hint="the artifact was moved or removed")
    with isolated("tensorflow", _PROGRAM, limits=context.limits, progress=context.progress) as worker:
        return worker.ask(
            verb,
            source=str(source.path.resolve()),
            target=str(target.resolve()),
            signature=source.loader.get("signature", "serving_default"),
            inputs=[spec.name for spec in source.signature.inputs],
            outputs=[spec.name for spec in source.signature.outputs],
            **options,
        )
