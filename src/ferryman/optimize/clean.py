"""Clean an ONNX model before anything else is done to it."""

from pathlib import Path

from ferryman.core.artifact import Artifact
from ferryman.optimize._onnx import fold, infer_shapes, load, name_nodes, write


def clean(source: Artifact, workspace: Path) -> Artifact:
    """Fold constants and batch normalization, drop dead nodes, name all nodes, infer shapes; same names, same answers.

    Gives `source` itself where the graph has nothing to clean.
    """
    if source.format != "onnx":
        return source
    model = load(source.path)
    folded = fold(model)
    named = name_nodes(folded)
    if not named and len(folded.graph.node) == len(model.graph.node):
        return source
    cleaned = infer_shapes(folded)
    return write(cleaned, source, workspace, step="clean", precision=None)
