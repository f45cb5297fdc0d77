"""Build a TensorRT engine from an ONNX model. What numbers it computes with, the model says: no layer is lowered."""

import contextlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferryman.core.artifact import Artifact
from ferryman.core.engine import GpuOptions
from ferryman.core.errors import StepError
from ferryman.core.signature import Signature, TensorSpec

_MB = 1024 * 1024
_UNSIGNED = "its INT8 numbers are unsigned, or have a zero point, as CPUs like them; TensorRT wants neither"
_log = logging.getLogger("ferryman.engines")


def check_model(source: Artifact) -> None:
    """Raise StepError for what TensorRT is known not to take, in words about the model: sizes, and kinds of INT8."""
    for spec in source.signature.inputs:
        free = [size for size in spec.shape[1:] if isinstance(size, str)]
        if free:
            raise StepError(
                f"tensorrt: input '{spec.name}' has the free size '{free[0]}', for which an engine needs bounds",
                hint="export the model with this size fixed; only the first one, the batch, may be free",
            )
    if has_unsigned_int8(source.path):
        raise StepError(
            f"tensorrt: {source.path.name} can't be built: {_UNSIGNED}",
            hint='[build.options.int8] symmetric = true makes signed ones; or [build] candidates = ["onnx-fp16"]',
        )


def has_unsigned_int8(path: Path) -> bool:
    """Tell whether an ONNX file has (de)quantization with unsigned numbers, or a zero point other than 0."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = [(node, entry) for node in graph.node if node.op_type == "Constant" for entry in node.attribute]
    constants |= {node.output[0]: entry.t for node, entry in made if entry.name == "value"}
    for node in graph.node:
        point = node.input[2] if len(node.input) > 2 else ""
        if node.op_type == "DynamicQuantizeLinear" or (node.op_type == "QuantizeLinear" and _is_unsigned_unsaid(node)):
            return True
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if any(name in constants and _is_unsigned(constants[name].data_type) for name in (node.input[0], point)):
            return True
        if point in constants and numpy_helper.to_array(constants[point], base_dir=str(path.parent)).any():
            return True
    return False


def _is_unsigned_unsaid(node: Any) -> bool:  # onnx.NodeProto
    """Tell whether quantization without a zero point gives unsigned numbers, as it does unless it names others."""
    if len(node.input) > 2 and node.input[2]:
        return False
    named = [entry.i for entry in node.attribute if entry.name == "output_dtype" and entry.i]
    return not named or _is_unsigned(named[0])


def _is_unsigned(data_type: int) -> bool:
    import onnx

    return str(onnx.TensorProto.DataType.Name(data_type)).startswith("UINT")


def timings_file(shared: Path, about: Mapping[str, str]) -> Path:
    """Name the file of what was measured on a kind of device, which is no other's of the same generation."""
    device = re.sub(r"[^a-z0-9]+", "-", about["device"].lower()).strip("-")
    return shared / f"tensorrt-{about['tensorrt']}-{device}-{about['memory_mb']}.timings"


def write_plan(trt: Any, source: Artifact, target: Path, timings: Path, options: GpuOptions, *, rows: int) -> None:
    """Write the engine's file; raises StepError that names the operator which TensorRT can't take.

    `trt` is the module. `timings` is a file of what was measured on this device: used and renewed where that works.
    """
    logger = make_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # how its bindings say that they were given none
        raise StepError(
            f"tensorrt: there is no builder: {logger.last or error}", hint="does nvidia-smi work?"
        ) from error
    # From version 11 on every network is: numbers are computed as the graph has them.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(source.path)):
        raise StepError(
            f"tensorrt: {_complaints(parser) or logger.last or 'the model can not be parsed'}",
            hint="ONNX Runtime serves it; or export it without this operator",
        )
    config = _configure(trt, builder, options)
    _add_profile(builder, config, source.signature, rows)
    measured = _use_timings(config, timings)
    plan = builder.build_serialized_network(network, config)
    del measured  # not earlier: the builder uses it
    if plan is None:
        raise StepError(
            f"tensorrt: no engine could be built: {logger.last or 'no reason was given'}",
            hint="ONNX Runtime serves it; is the device's memory free?",
        )
    target.write_bytes(plan)
    keep_timings(config, timings)


def _use_timings(config: Any, timings: Path) -> Any:  # tensorrt's IBuilderConfig and ITimingCache
    """Let the builder use what was measured before, or begin anew where that is another device's, or damaged."""
    known = b""
    with contextlib.suppress(OSError):
        known = timings.read_bytes()
    kept = config.create_timing_cache(known)
    if kept is None or not config.set_timing_cache(kept, False):  # False: another device's are refused
        kept = config.create_timing_cache(b"")
        config.set_timing_cache(kept, False)
    return kept


def keep_timings(config: Any, timings: Path) -> None:  # tensorrt.IBuilderConfig
    """Keep what was measured for later builds, where that works: the engine is there without it."""
    partial = timings.with_suffix(".partial")
    try:
        partial.write_bytes(config.get_timing_cache().serialize())
        partial.chmod(0o600)
        partial.replace(timings)
    except Exception as error:  # noqa: BLE001 - a vendor's package may fail in any way, and minutes of work are done
        partial.unlink(missing_ok=True)
        _log.warning("what was measured for %s can't be kept (%s): the next build measures it again", timings, error)


def make_logger(trt: Any) -> Any:  # the module; a tensorrt.ILogger
    """Make a logger that keeps the last error, and is silent."""

    class LastWords(trt.ILogger):  # type: ignore[misc]  # the module's classes are known only where it is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, msg: str) -> None:  # tensorrt.ILogger.Severity
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = " ".join(msg.split())[:400]

    return LastWords()


def _configure(trt: Any, builder: Any, options: GpuOptions) -> Any:  # tensorrt's module, Builder, IBuilderConfig
    config = builder.create_builder_config()
    if options.workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * _MB)
    if options.sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if not options.tf32:  # on by default
        config.clear_flag(trt.BuilderFlag.TF32)
    return config


def _add_profile(builder: Any, config: Any, signature: Signature, rows: int) -> None:
    """Say how many rows a call may have, where the model leaves that free."""
    free = [spec for spec in signature.inputs if spec.shape and isinstance(spec.shape[0], str)]
    if not free:
        return
    profile = builder.create_optimization_profile()
    for spec in free:
        profile.set_shape(spec.name, _sized(spec, 1), _sized(spec, rows), _sized(spec, rows))
    config.add_optimization_profile(profile)


def _sized(spec: TensorSpec, rows: int) -> tuple[int, ...]:
    return (rows, *(int(size) for size in spec.shape[1:]))


def _complaints(parser: Any) -> str:  # tensorrt.OnnxParser
    """Name the first node that the parser refuses, and why."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = f"{error.node_operator()} '{error.node_name()}': " if error.node_operator() else ""
        return f"{node}{' '.join(error.desc().split())}"[:400]
    return ""
