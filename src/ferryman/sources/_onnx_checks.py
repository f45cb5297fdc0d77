"""Refuse ONNX models that can't work, naming what is wrong."""

import re
from pathlib import Path

from ferryman.core.errors import SourceError
from ferryman.core.privacy import forbid_telemetry
from ferryman.sources._onnx_graph import Model, graphs_of

_OLDEST_OPSET = 9
_ONNX_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})


def check_opset(model: Model, path: Path) -> None:
    """Refuse opsets that are too old to convert or newer than the installed onnx knows."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if model.ir_version > onnx.IR_VERSION:
        raise SourceError(
            f"{path} has ONNX IR version {model.ir_version}; the installed onnx knows up to {onnx.IR_VERSION}",
            hint="update onnx, or export the model for an older version",
        )
    domains = {"ai.onnx" if entry.domain == "" else entry.domain: entry.version for entry in model.opset_import}
    if not domains:
        raise SourceError(f"{path} does not say which opset it uses", hint="export the model again")
    version = domains.get("ai.onnx")
    if version is not None and version < _OLDEST_OPSET:
        raise SourceError(
            f"{path} uses opset {version}; the oldest that Ferryman takes is {_OLDEST_OPSET}",
            hint="export it again, or raise it with onnx.version_converter.convert_version",
        )
    if version is not None and version > newest:
        raise SourceError(
            f"{path} uses opset {version}; the installed onnx knows up to {newest}",
            hint=f"update onnx, or export the model with opset {newest}",
        )


def check_operators(model: Model) -> None:
    """Refuse operators of domains that neither ONNX nor ONNX Runtime knows, by name."""
    local = {(function.domain, function.name) for function in model.functions}
    foreign = {
        (node.domain, node.op_type)
        for graph in graphs_of(model.graph)
        for node in graph.node
        if node.domain not in _ONNX_DOMAINS
    } - local
    unknown = sorted(foreign - _runtime_operators()) if foreign else []
    if unknown:
        names = ", ".join(f"{domain}::{operator}" for domain, operator in unknown[:5])
        raise SourceError(
            f"the model uses operators that ONNX Runtime does not have: {names}",
            hint="export it with standard operators (the domain belongs to another tool's custom library)",
        )


def _runtime_operators() -> set[tuple[str, str]]:
    forbid_telemetry()
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    return {(schema.domain, schema.name) for schema in get_all_operator_schema()}


def check_model(model: Model) -> None:
    """Run the ONNX checker, with full shape inference where all operators are ONNX's own."""
    import onnx

    if model.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        return  # `write_model` has the words for this
    is_standard = all(
        node.domain in _ONNX_DOMAINS for graph in graphs_of(model.graph) for node in graph.node
    ) and not len(model.functions)
    try:
        onnx.checker.check_model(model)
        if is_standard:
            onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        words = re.sub(r"\s+", " ", str(error)).strip()[:300]
        raise SourceError(
            f"the model breaks the rules of ONNX: {words}", hint="export it again with a current exporter"
        ) from None
