"""Join an ONNX model with the graphs before and after it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import StepError
from ferryman.export.in_graph.parts import Bound, Parts, Scope, write_parts
from ferryman.export.in_graph.picture import INPUT, MODEL, PLACEMENT, name_in_graph
from ferryman.export.in_graph.sketch import OPSET, Model


def join_onnx(source: Artifact, bound: Bound, scope: Scope, workspace: Path) -> Artifact:
    """Write model.onnx, which takes pictures; raises NotApplicable for tasks without a graph, StepError for models.

    What the model itself names is found under `model/`, what was put before it under `pre/`, behind it under `post/`.
    """
    import onnx

    model = _current(_sorted(onnx.load(source.path)))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    parts = write_parts(bound, source.signature, scope, opset=opset)
    _keep_input(model, source.signature.inputs[0].name)
    try:
        joined = _joined(model, parts)
        onnx.checker.check_model(joined)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise StepError(
            f"in-graph: {source.path.name} can't be joined with its task: {error}",
            hint="leave build.in_graph out, or export the model again with opset 17",
        ) from error
    versions = {entry.domain: entry.version for entry in joined.opset_import}  # joining lists each several times
    del joined.opset_import[:]
    joined.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    joined.producer_name = "ferryman"
    path = workspace / "model.onnx"
    onnx.save(joined, path)
    return replace(source, path=path, signature=parts.signature, digest=digest_file(path), loader={})


def _keep_input(model: Model, name: str) -> None:
    """Drop all inputs but one: older models list their weights there, too."""
    kept = [type(port).FromString(port.SerializeToString()) for port in model.graph.input if port.name == name]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _sorted(model: Model) -> Model:
    """Put each node behind those that it reads: engines take any order, quantizers leave one, joining asks for it."""
    waiting, unmade = list(model.graph.node), {name for node in model.graph.node for name in node.output}
    ordered: list[Any] = []  # onnx.NodeProto
    while waiting:
        left = []
        for node in waiting:  # a graph in order takes one round
            if unmade.intersection(_read_by(node)):
                left.append(node)
            else:
                ordered.append(node)
                unmade.difference_update(node.output)
        if len(left) == len(waiting):
            return model  # a circle: the checker names it
        waiting = left
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def _read_by(node: Any) -> Iterator[str]:  # onnx.NodeProto
    """Give the tensors that a node reads, also those that its branches take from outside."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read_by(inner)


def _current(model: Model) -> Model:
    """Give a model of an opset that knows the operators used here."""
    from onnx import version_converter

    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version >= OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        raise StepError(
            f"in-graph: the model is of opset {version}, and can't be made one of {OPSET}: {error}",
            hint="export it again with opset 17",
        ) from error


def _joined(model: Model, parts: Parts) -> Model:
    from onnx import compose, helper

    taken, given = model.graph.input[0].name, [port.name for port in model.graph.output]
    model = compose.add_prefix(model, MODEL)
    for part in (parts.before, parts.after):
        if part is not None:
            part.ir_version = model.ir_version = max(part.ir_version, model.ir_version)
    inner = [name_in_graph(name) for name in given]
    io_map = [(INPUT, f"{MODEL}{taken}")]
    if parts.after is None:
        whole = compose.merge_models(parts.before, model, io_map=io_map, outputs=inner)
        for port, name in zip(whole.graph.output, given, strict=True):
            whole.graph.node.append(helper.make_node("Identity", [port.name], [name], name=f"post/{name}"))
            port.name = name
        return whole
    front = compose.merge_models(parts.before, model, io_map=io_map, outputs=[PLACEMENT, *inner])
    pairs = [(port.name, port.name) for port in parts.after.graph.input]
    outputs = [port.name for port in parts.after.graph.output]
    return compose.merge_models(front, parts.after, io_map=pairs, outputs=outputs)
