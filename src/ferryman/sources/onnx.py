"""Open ONNX models: check them, repair what is harmless, refuse what is not."""

from pathlib import Path
from typing import ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.sources._content import looks_like, onnx_fields
from ferryman.sources._onnx_checks import check_model, check_operators, check_opset
from ferryman.sources._onnx_external import inline_external_data
from ferryman.sources._onnx_graph import Model, signature_of, write_model
from ferryman.sources._onnx_repairs import repair

_GRAPH_FIELD, _IR_FIELD = 7, 1


class OnnxSource:
    """Open an .onnx model; what had to be repaired is listed in the artifact's `loader["repairs"]`."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    needs: ClassVar[tuple[str, ...]] = ("onnx",)
    extra: ClassVar[str] = ""

    def recognises(self, path: Path) -> bool:
        """Tell whether the bytes are a protobuf message with an IR version and a graph, even if cut short."""
        try:
            fields = onnx_fields(path)
        except OSError:
            return False
        numbers = {number for number, _, _ in fields}
        has_version = any(number == _IR_FIELD and wire == 0 and value < 1000 for number, wire, value in fields)
        has_graph = any(number == _GRAPH_FIELD and wire == 2 for number, wire, _ in fields)
        return has_version and has_graph and numbers <= {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Check and repair the model; the original file is used where nothing had to change."""
        graph = _parse(path)
        check_opset(graph, path)
        repairs = inline_external_data(graph, path.parent)
        repairs += repair(graph)
        check_operators(graph)
        check_model(graph)
        signature = signature_of(graph)
        loader = {"repairs": repairs} if repairs else {}
        if not repairs:
            return Artifact(path, "onnx", signature, digest_file(path), loader=loader)
        repaired = workspace / f"{path.stem}.repaired.onnx"
        digest = write_model(graph, repaired)
        return Artifact(repaired, "onnx", signature, digest, loader=loader)


def _parse(path: Path) -> Model:
    import onnx
    from google.protobuf.message import DecodeError

    size_bytes = path.stat().st_size
    fields = onnx_fields(path)
    if any(wire == 2 and end > size_bytes for _, wire, end in fields):
        wanted = max(end for _, wire, end in fields if wire == 2)
        raise SourceError(
            f"{path} is cut short: it has {size_bytes} bytes of {wanted} or more",
            hint="copy or download the model again",
        )
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise SourceError(
            f"{path} is not an ONNX model ({error}); it looks like {looks_like(path)}", hint="export it again"
        ) from None
    if not model.HasField("graph") or not model.graph.node:
        raise SourceError(
            f"{path} is not an ONNX model: it holds no graph with nodes", hint=f"it looks like {looks_like(path)}"
        )
    return model
