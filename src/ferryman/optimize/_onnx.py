"""Read, prepare and write ONNX files for the steps of this folder."""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import SourceError, StepError
from ferryman.core.privacy import forbid_telemetry

Model = Any  # onnx.ModelProto: onnx isn't imported at module level
Node = Any  # onnx.NodeProto

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_LARGEST_BYTES = 2**31 - 1  # protobuf's limit


def load(path: Path) -> Model:
    """Read an ONNX file with its external data; raises SourceError."""
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:
        raise SourceError(f"{path} can't be read as ONNX: {reason_of(error)}") from error


def write(model: Model, source: Artifact, workspace: Path, *, step: str, precision: str | None) -> Artifact:
    """Write a model as `workspace`/model.onnx once ONNX Runtime has loaded it; raises StepError where it doesn't."""
    content = serialize(model, step)
    verify_loads(content, step)
    workspace.mkdir(parents=True, exist_ok=True)
    path = workspace / "model.onnx"
    partial = workspace / "model.onnx.partial"
    partial.write_bytes(content)
    partial.replace(path)
    return replace(
        source,
        path=path,
        digest=digest_file(path),
        precision=precision or source.precision,
        made_by=(*source.made_by, step),
        loader={},
    )


def serialize(model: Model, step: str) -> bytes:
    """Give the model's bytes, equal for equal models; raises StepError over 2 GiB."""
    if model.ByteSize() > _LARGEST_BYTES:
        raise StepError(f"{step}: the model would be over 2 GiB", hint="only models below that size can be converted")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def verify_loads(content: bytes, step: str) -> None:
    """Raise StepError unless ONNX Runtime loads these bytes."""
    forbid_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise StepError(f"{step}: ONNX Runtime refuses the result: {reason_of(error)}") from error


def open_engine(content: bytes, threads: int) -> Any:  # onnxruntime.InferenceSession
    """Load a model to run calibration samples through it; raises StepError.

    8-bit products are added exactly, as the runtime has them: sums that saturate (processors without VNNI) would be
    taken for what quantization has shifted, and "corrected".
    """
    forbid_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise StepError(f"int8: the model can't be calibrated: {reason_of(error)}") from error


def infer_shapes(model: Model) -> Model:
    """Give the model with the types and shapes of its inner tensors, as far as they follow from its inputs."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # noqa: BLE001 - data propagation fails on graphs that plain inference takes
        return onnx.shape_inference.infer_shapes(model)


def raise_opset(model: Model, least: int, step: str) -> Model:
    """Give the model in opset `least` or later; raises StepError that names what can't be converted."""
    import onnx

    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or versions[0] >= least:
        return model
    try:
        return onnx.version_converter.convert_version(model, least)
    except Exception as error:
        raise StepError(
            f"{step}: the model's opset {versions[0]} can't be raised to {least}: {reason_of(error)}",
            hint=f"export the model again with opset {least} or later",
        ) from error


def fold(model: Model) -> Model:
    """Fold constants and batch normalization, remove identities and dead nodes, by ONNX Runtime's portable passes.

    Gives the model unchanged where the passes fail or would write operators that only ONNX Runtime knows.
    """
    forbid_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    folder = Path(tempfile.mkdtemp(prefix="ferryman-fold-"))
    try:
        options.optimized_model_filepath = str(folder / "folded.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = load(folder / "folded.onnx")
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors share no base; the model is used as it is
        return model
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if any(node.domain not in STANDARD_DOMAINS for node in folded.graph.node if node.domain not in _domains(model)):
        return model
    keep = _domains(model)
    imports = [entry for entry in folded.opset_import if _plain(entry.domain) in keep]
    del folded.opset_import[:]
    folded.opset_import.extend(imports)
    return _with_interface_of(model, folded)


def name_nodes(model: Model) -> bool:
    """Give each node without a name of its own one; tell whether there were any."""
    taken = {node.name for node in model.graph.node if node.name}
    seen: set[str] = set()
    changed = False
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = _fresh(f"{node.op_type}_{index}", taken)
            changed = True
        seen.add(node.name)
        taken.add(node.name)
    return changed


def reason_of(error: BaseException) -> str:
    """Give an error's last line that says something, without ONNX Runtime's code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1].rsplit(" : ", 1)[-1] if lines else type(error).__name__)[:400]


def _domains(model: Model) -> set[str]:
    return {_plain(entry.domain) for entry in model.opset_import}


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _with_interface_of(model: Model, folded: Model) -> Model:
    """Keep inputs and outputs as the source declares them: the passes drop names of free sizes."""
    for kind in ("input", "output"):
        wanted, there = getattr(model.graph, kind), getattr(folded.graph, kind)
        initialized = {tensor.name for tensor in model.graph.initializer}
        if _names(entry for entry in wanted if entry.name not in initialized) != _names(
            entry for entry in there if entry.name not in initialized
        ):
            return model
        kept = [entry for entry in wanted if entry.name not in initialized]
        del there[:]
        there.extend(kept)
    return folded


def _names(entries: Iterable[Any]) -> list[str]:  # onnx.ValueInfoProto
    return [entry.name for entry in entries]


def _fresh(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        candidate, count = f"{name}_{count}", count + 1
    return candidate
