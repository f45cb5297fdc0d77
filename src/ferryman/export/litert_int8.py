"""Quantize LiteRT (TensorFlow Lite) files: 16 bit weights, INT8 weights, INT8 throughout."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import ConfigError, DataError, InputError, NotApplicable
from ferryman.core.isolated import Worker, isolated
from ferryman.core.signature import Tensors
from ferryman.core.step import StepContext

_PROGRAM = Path(__file__).parent / "programs" / "litert_quantize.py"
_CHUNK_BYTES = 64_000_000


@dataclass(frozen=True)
class _Quantizes:
    """Say what stays in float: operators by their kind ("SOFTMAX") or by a part of their output tensor's name.

    `exclude_tail` keeps what follows the last weighted operator of each branch in float, `exclude_head` those too.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"litert"})
    produces: ClassVar[str] = "litert"
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "litert"

    per_channel: bool = True
    exclude_ops: tuple[str, ...] = ()
    exclude_nodes: tuple[str, ...] = ()
    exclude_tail: bool = False
    exclude_head: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), list):  # as TOML and JSON have it
                object.__setattr__(self, field.name, tuple(value))


@dataclass(frozen=True)
class LiteRTHalf:
    """Keep the weights of a LiteRT model in 16 bits: half the size, computed in float32."""

    name: ClassVar[str] = "litert-fp16"
    accepts: ClassVar[frozenset[str]] = frozenset({"litert"})
    produces: ClassVar[str] = "litert"
    precision: ClassVar[str | None] = "fp16"
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    toolchain: ClassVar[str] = "litert"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .tflite file; raises NotApplicable where there are no weights in float32."""
        return _quantized(source, context, kind="fp16", step=self.name, options={})


@dataclass(frozen=True)
class LiteRTDynamicInt8(_Quantizes):
    """Quantize the weights of a LiteRT model to INT8; activations are quantized at each call, without calibration."""

    name: ClassVar[str] = "litert-int8-dynamic"
    precision: ClassVar[str | None] = "int8-dynamic"
    calibrates: ClassVar[bool] = False

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .tflite file; raises NotApplicable where nothing can be quantized."""
        return _quantized(source, context, kind="int8-dynamic", step=self.name, options=asdict(self))


@dataclass(frozen=True)
class LiteRTInt8(_Quantizes):
    """Quantize weights and activations of a LiteRT model to INT8, with ranges from calibration data.

    `calibrator` "minmax" takes the extremes of all samples, "average" a running mean of each sample's extremes.
    Inputs and outputs stay float32, unless `quantized_io`: then the file has INT8 ones for devices that have no
    floats, and Ferryman's runtime still takes and gives float32.
    """

    name: ClassVar[str] = "litert-int8"
    precision: ClassVar[str | None] = "int8"
    calibrates: ClassVar[bool] = True
    calibrators: ClassVar[tuple[str, ...]] = ("minmax", "average")

    calibrator: str = "minmax"
    quantized_io: bool = False
    min_samples: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibrator not in self.calibrators:
            raise ConfigError(f"calibrator = '{self.calibrator}'", hint=f"known: {', '.join(self.calibrators)}")
        if self.min_samples < 1:
            raise ConfigError(f"min_samples = {self.min_samples}", hint="calibration needs at least one sample")

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the .tflite file; raises DataError for too few samples, NotApplicable where nothing is quantized."""
        _check_samples(source, context, self.min_samples, self.name)
        return _quantized(source, context, kind="int8", step=self.name, options=asdict(self))


def _quantized(source: Artifact, context: StepContext, *, kind: str, step: str, options: dict[str, Any]) -> Artifact:
    options = {**asdict(_Quantizes()), "quantized_io": False, **options}
    context.workspace.mkdir(parents=True, exist_ok=True)
    partial, path = context.workspace / "model.partial", context.workspace / "model.tflite"
    with isolated("litert", _PROGRAM, limits=context.limits, progress=context.progress) as worker:
        begun = worker.ask(
            "begin", source=str(source.path.resolve()), kind=kind, options=options, threads=context.threads
        )
        _refuse_useless(begun, step)
        if kind == "int8":
            _calibrate(worker, context)
        context.progress("quantize", note=f"{begun['chosen']} of {begun['weighted']} layers with weights")
        worker.ask("quantize", target=str(partial.resolve()))
    os.replace(partial, path)
    precision = "int8" if kind == "int8" else kind
    made_by = (*source.made_by, step)
    return replace(source, path=path, digest=digest_file(path), precision=precision, made_by=made_by, loader={})


def _refuse_useless(begun: dict[str, Any], step: str) -> None:  # JSON
    if begun["is_quantized"]:
        raise NotApplicable(f"{step}: the model is quantized already", hint="start from the float model")
    if not begun["chosen"]:
        raise NotApplicable(
            f"{step}: nothing to quantize: of {begun['operators']} operators, none with weights is left",
            hint="it pays for convolutions and matrix products",
        )


def _calibrate(worker: Worker, context: StepContext) -> None:
    total = len(context.calibration)
    done = 0
    for chunk in _chunks(context):
        worker.ask("calibrate", samples=chunk)
        done += len(chunk)
        context.progress("find ranges", done=done, total=total)


def _chunks(context: StepContext) -> Iterator[list[dict[str, Any]]]:  # arrays by name
    """Give the samples in parts that fit into shared memory; decoding them takes turns with the program's work."""
    chunk: list[dict[str, Any]] = []
    held = 0
    for sample in context.calibration:
        chunk.append(dict(sample))
        held += sum(array.nbytes for array in sample.values())
        if held >= _CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _check_samples(source: Artifact, context: StepContext, least: int, step: str) -> None:
    count = len(context.calibration)
    if count < least:
        raise DataError(
            f"{step} needs at least {least} calibration samples; there are {count}",
            hint="add unlabelled inputs to [data] calibration, or lower min_samples and expect worse answers",
        )
    first: Tensors = context.calibration[0]
    try:
        source.signature.check(first)
    except InputError as error:
        raise DataError(f"calibration sample 0 does not fit the model: {error}", hint=error.hint) from error
