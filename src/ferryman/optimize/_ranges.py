"""Find the range of each tensor on calibration data, and how its values are spread between."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.core.errors import DataError, StepError
from ferryman.core.signature import Tensors
from ferryman.core.step import StepContext
from ferryman.optimize._clip import BINS, Counts, Floats, clip
from ferryman.optimize._onnx import Model, open_engine, reason_of, serialize

HISTOGRAM_SAMPLES = 64
_VALUES_PER_SAMPLE = 32768  # of one tensor in a histogram: a percentile needs no more
_ELEMENTS_AT_ONCE = 2**26  # 256 MiB of float32 fetched in one run


@dataclass(frozen=True, slots=True)
class Ranges:
    """Hold each tensor's extremes over all samples, [N], and where it was asked for a histogram between, [N, BINS]."""

    names: tuple[str, ...]
    low: Floats
    high: Floats
    histogram: Counts | None = None

    def limits(self, calibrator: str, percentile: float) -> dict[str, tuple[float, float]]:
        """Give the range that each tensor's 8 bits shall cover."""
        found: dict[str, tuple[float, float]] = {}
        for index, name in enumerate(self.names):
            low, high = float(self.low[index]), float(self.high[index])
            if self.histogram is not None and high > low:
                counts = self.histogram[index]
                low, high = clip(counts, low, high, calibrator=calibrator, percentile=percentile)
            found[name] = (low, high)
        return found


def measure(model: Model, tensors: Sequence[str], context: StepContext, *, with_histogram: bool) -> Ranges:
    """Run the calibration samples through `model`; results are kept in `context.cache` by the bytes they come from."""
    content = serialize(model, "int8")
    if context.cache is None:
        return _measure(model, content, tensors, context, with_histogram=with_histogram)
    identity = hashlib.sha256(content)
    identity.update("\0".join(tensors).encode())
    identity.update((context.calibration_digest or _digest(context.calibration)).encode())
    settings = (len(context.calibration), with_histogram, BINS, HISTOGRAM_SAMPLES, _VALUES_PER_SAMPLE)
    identity.update(repr(settings).encode())
    file = context.cache / f"ranges-{identity.hexdigest()}.npz"
    if not file.is_file():
        ranges = _measure(model, content, tensors, context, with_histogram=with_histogram)
        _save(ranges, file)
    return _read(file)


def _measure(
    model: Model, content: bytes, tensors: Sequence[str], context: StepContext, *, with_histogram: bool
) -> Ranges:
    low, high = _extremes(model, tensors, context)
    infinite = [name for name, least, most in zip(tensors, low, high, strict=True) if not np.isfinite(most - least)]
    if infinite:
        raise StepError(
            f"int8: tensor '{infinite[0]}' is not finite on the calibration data",
            hint="keep the layer that makes it in float: exclude_nodes",
        )
    histogram = _histogram(content, tensors, low, high, _thinned(context)) if with_histogram else None
    return Ranges(names=tuple(tensors), low=low, high=high, histogram=histogram)


def _thinned(context: StepContext) -> StepContext:
    """Keep as many samples as a histogram's shape needs; the extremes are those of all."""
    step = max(1, len(context.calibration) // HISTOGRAM_SAMPLES)
    picked = range(0, len(context.calibration), step)[:HISTOGRAM_SAMPLES]
    return replace(context, calibration=[context.calibration[index] for index in picked])


def _extremes(model: Model, tensors: Sequence[str], context: StepContext) -> tuple[Floats, Floats]:
    """Let the engine itself reduce each tensor, so that only two numbers of it come out."""
    import onnx

    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    del augmented.graph.output[:]
    for index, name in enumerate(tensors):
        for op in ("ReduceMin", "ReduceMax"):
            output = f"ferryman_{op}_{index}"
            augmented.graph.node.append(onnx.helper.make_node(op, [name], [output], name=output, keepdims=0))
            augmented.graph.output.append(onnx.ValueInfoProto(name=output))
    low, high = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    engine = open_engine(serialize(augmented, "int8"), context.threads)
    for outputs in _run(engine, [output.name for output in augmented.graph.output], context, "find ranges"):
        values = np.array([float(value) for value in outputs]).reshape(-1, 2)
        low, high = np.minimum(low, values[:, 0]), np.maximum(high, values[:, 1])
    return low, high


def _histogram(content: bytes, tensors: Sequence[str], low: Floats, high: Floats, context: StepContext) -> Counts:
    """Count values between the extremes, of each tensor and sample evenly spaced ones."""
    import onnx

    augmented = onnx.ModelProto.FromString(content)
    inputs = {entry.name for entry in augmented.graph.input}
    present = {output.name for output in augmented.graph.output}
    shown = [name for name in tensors if name not in inputs]
    augmented.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown if name not in present)
    engine = open_engine(serialize(augmented, "int8"), context.threads)
    counts = np.zeros((len(tensors), BINS), dtype=np.int64)
    rows = {name: row for row, name in enumerate(tensors)}
    for part in _parts(augmented, shown):
        for sample, outputs in zip(context.calibration, _run(engine, part, context, "count values"), strict=True):
            given = [(name, sample[name]) for name in rows if name in inputs and part[0] == shown[0]]
            for name, value in (*given, *zip(part, outputs, strict=True)):
                row = rows[name]
                counts[row] += _count(np.asarray(value), low[row], high[row])
    return counts


def _count(values: NDArray[Any], low: float, high: float) -> Counts:  # float16, 32 or 64
    flat = values.reshape(-1)[:: max(1, values.size // _VALUES_PER_SAMPLE)]
    if not high > low or not flat.size:
        return np.zeros(BINS, dtype=np.int64)
    bins = ((flat.astype(np.float64) - low) * (BINS / (high - low))).astype(np.int64)
    return np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)


def _parts(model: Model, names: Sequence[str]) -> Iterator[list[str]]:
    """Split tensors so that those fetched in one run fit in memory."""
    sizes = {
        info.name: int(np.prod([max(dim.dim_value, 1) for dim in info.type.tensor_type.shape.dim]))
        for info in model.graph.value_info
    }
    part: list[str] = []
    elements = 0
    for name in names:
        if part and elements + sizes.get(name, 1) > _ELEMENTS_AT_ONCE:
            yield part
            part, elements = [], 0
        part.append(name)
        elements += sizes.get(name, 1)
    yield part


def _run(engine: Any, outputs: list[str], context: StepContext, stage: str) -> Iterator[list[Any]]:
    """Yield the arrays that `engine`, an onnxruntime.InferenceSession, answers to each sample."""
    total = len(context.calibration)
    for index, sample in enumerate(context.calibration):
        bad = [name for name, value in sample.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        if bad:
            raise DataError(
                f"calibration sample {index} holds values in '{bad[0]}' that are infinite or not a number",
                hint="remove it from [data] calibration",
            )
        try:
            yield engine.run(outputs, dict(sample))
        except Exception as error:
            raise DataError(f"calibration sample {index} does not fit the model: {reason_of(error)}") from error
        context.progress(stage, done=index + 1, total=total)


def _digest(calibration: Sequence[Tensors]) -> str:
    total = hashlib.sha256()
    for sample in calibration:
        for name in sorted(sample):
            value = np.ascontiguousarray(sample[name])
            total.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    return total.hexdigest()


def _save(ranges: Ranges, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.stem}.{os.getpid()}.partial.npz")
    histogram = ranges.histogram if ranges.histogram is not None else np.zeros((0, BINS), dtype=np.int64)
    np.savez(partial, names=np.array(ranges.names), low=ranges.low, high=ranges.high, histogram=histogram)
    partial.replace(file)


def _read(file: Path) -> Ranges:
    with np.load(file, allow_pickle=False) as stored:
        histogram = stored["histogram"]
        return Ranges(
            names=tuple(str(name) for name in stored["names"]),
            low=stored["low"],
            high=stored["high"],
            histogram=histogram if len(histogram) else None,
        )
