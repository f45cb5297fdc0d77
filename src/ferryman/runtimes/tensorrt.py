"""Run models with TensorRT, on NVIDIA GPUs."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.engine import EngineRequest, GpuOptions, fingerprint_of
from ferryman.core.engine_cache import EngineCache, engines_folder
from ferryman.core.errors import ConfigError, FerrymanError, InputError, MissingExtra, SourceError
from ferryman.core.signature import Array, Signature, Tensors, TensorSpec
from ferryman.runtimes._cuda import Memory, describe_device
from ferryman.runtimes._tensorrt_build import check_model, make_logger, timings_file, write_plan

_PLAN = "engine.plan"
_VERIFYING_MB = 8192


class TensorRTRuntime:
    """Run models with TensorRT on an NVIDIA GPU, with engines that are built on it."""

    name: ClassVar[str] = "tensorrt"
    formats: ClassVar[frozenset[str]] = frozenset({"tensorrt"})
    needs: ClassVar[tuple[str, ...]] = ("tensorrt", "cuda")
    extra: ClassVar[str] = "tensorrt"
    serves: ClassVar[bool] = False  # as a bundle's format: a server takes it beside the bundle's ONNX model
    targets: ClassVar[tuple[str, ...]] = ()
    builds_from: ClassVar[frozenset[str]] = frozenset({"onnx"})
    is_accelerator: ClassVar[bool] = True
    on_device: ClassVar[bool] = True
    recipe: ClassVar[int] = 1

    def identity(self) -> dict[str, str]:
        """Name the GPU, what its driver knows and TensorRT's version; raises MissingExtra where there is no GPU."""
        return {**describe_device(), "tensorrt": str(_tensorrt().__version__)}

    def build(self, source: Artifact, folder: Path, request: EngineRequest) -> None:
        """Write the engine of an ONNX model: minutes for a large one."""
        try:
            options = GpuOptions(**request.options)
        except TypeError as error:
            raise ConfigError(f"build.options.tensorrt: {error}", hint="docs/tensorrt.md lists them") from None
        check_model(source)
        about = self.identity()
        timings = timings_file(request.shared, about)
        write_plan(_tensorrt(), source, folder / _PLAN, timings, options, rows=options.rows(request.max_batch))

    def load(self, artifact: Artifact, *, threads: int) -> "TensorRTSession":
        """Load what `build` wrote, or build it (once) from the model and the options that the step `tensorrt` kept.

        Raises SourceError for an engine of another device or version, and what `build` raises.
        """
        self.identity()
        folder = artifact.path if (artifact.path / _PLAN).is_file() else self._built(artifact)
        return TensorRTSession(folder / _PLAN, artifact.signature)

    def _built(self, artifact: Artifact) -> Path:
        model = artifact.path / "model.onnx"
        try:
            options = json.loads((artifact.path / "engine.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SourceError(f"{artifact.path} holds no TensorRT model: {error}", hint="build it again") from error
        cache = EngineCache(engines_folder(), limit_mb=_VERIFYING_MB)
        request = EngineRequest(cache.shared, options)
        source = replace(artifact, path=model, format="onnx")
        return cache.build(fingerprint_of(self, artifact, request), lambda empty: self.build(source, empty, request))


class TensorRTSession:
    """Answer with one engine, one call after the other; a call with more rows than it takes is cut into several."""

    def __init__(self, file: Path, signature: Signature) -> None:
        trt = _tensorrt()
        self.signature = signature
        self._lock = threading.Lock()
        self._logger = make_logger(trt)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        if self._engine is None:
            raise SourceError(
                f"TensorRT can't read {file.name}: {self._logger.last or 'no reason was given'}",
                hint="it was built by another version, or on another device: remove it, and it is built anew",
            )
        for spec in (*signature.inputs, *signature.outputs):
            _check_tensor(trt, self._engine, spec)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise SourceError(
                f"TensorRT can't prepare {file.name}: {self._logger.last}", hint="is the device's memory free?"
            )
        self._memory = Memory()
        self._most_rows = self._find_most_rows()

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give every output; raises InputError for what the engine can't take."""
        self.signature.check(inputs)
        given = {spec.name: np.ascontiguousarray(inputs[spec.name], spec.dtype) for spec in self.signature.inputs}
        with self._lock:
            return run_in_parts(self._run, self.signature, given, self._most_rows)

    def close(self) -> None:
        """Free the device's memory."""
        with self._lock:
            self._memory.close()
            self._context = self._engine = self._runtime = None

    def _run(self, inputs: Tensors) -> dict[str, Array]:
        context, memory = self._context, self._memory
        if context is None:
            raise InputError("this session is closed", hint="load the model again")
        for name, values in inputs.items():
            if not context.set_input_shape(name, values.shape):
                raise InputError(f"the engine takes no '{name}' of shape {list(values.shape)}: {self._logger.last}")
            context.set_tensor_address(name, memory.write(name, values))
        shapes = {spec.name: tuple(context.get_tensor_shape(spec.name)) for spec in self.signature.outputs}
        for spec in self.signature.outputs:
            if min(shapes[spec.name], default=0) < 0:
                raise InputError(
                    f"output '{spec.name}' has a size that is known only after the run", hint="ONNX Runtime serves it"
                )
            size_bytes = int(np.prod(shapes[spec.name], dtype=np.int64)) * np.dtype(spec.dtype).itemsize
            context.set_tensor_address(spec.name, memory.address(spec.name, size_bytes))
        if not context.execute_async_v3(memory.stream):
            raise FerrymanError(f"TensorRT failed: {self._logger.last or 'no reason was given'}")
        outputs = {
            spec.name: memory.read(spec.name, shapes[spec.name], np.dtype(spec.dtype))
            for spec in self.signature.outputs
        }
        memory.wait()
        return outputs

    def _find_most_rows(self) -> int:
        """Give the rows of the largest call; 0 where the model fixes them."""
        free = [spec.name for spec in self.signature.inputs if _has_rows(spec)]
        return min((int(self._engine.get_tensor_profile_shape(name, 0)[2][0]) for name in free), default=0)


def run_in_parts(
    run: Callable[[Tensors], dict[str, Array]], signature: Signature, inputs: Tensors, most_rows: int
) -> dict[str, Array]:
    """Answer a call of any number of rows with calls of at most `most_rows`; what has no rows goes into each, whole.

    Raises InputError for a call without rows, and for one too large to answer where an output isn't made of rows.
    """
    cut = [spec.name for spec in signature.inputs if _has_rows(spec)]
    sizes = {inputs[name].shape[0] for name in cut}
    if 0 in sizes:
        raise InputError("there are no rows in this call", hint="send one or more")
    if max(sizes, default=0) <= most_rows:
        return run(inputs)
    if len(sizes) > 1:
        raise _uncut(max(sizes), most_rows, "its inputs differ in how many they have")
    (rows,) = sizes
    parts = []
    for start in range(0, rows, most_rows):
        part = {name: values[start : start + most_rows] if name in cut else values for name, values in inputs.items()}
        parts.append(run(part))
        for spec in signature.outputs:
            if not _has_rows(spec) or parts[-1][spec.name].shape[0] != part[cut[0]].shape[0]:
                raise _uncut(rows, most_rows, f"output '{spec.name}' has other rows than that")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _uncut(rows: int, most_rows: int, why: str) -> InputError:
    return InputError(
        f"a call of {rows} rows, of which this engine takes {most_rows} at once, can't be cut: {why}",
        hint="send fewer rows, or raise max_batch in [build.options.tensorrt]",
    )


def _has_rows(spec: TensorSpec) -> bool:
    """Tell whether a tensor's first size is free: it is the batch."""
    return bool(spec.shape) and isinstance(spec.shape[0], str)


def _check_tensor(trt: Any, engine: Any, spec: TensorSpec) -> None:  # tensorrt's module and ICudaEngine
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    if spec.name not in names:
        raise SourceError(f"the engine has no tensor '{spec.name}'", hint="remove it, and it is built anew")
    there = np.dtype(trt.nptype(engine.get_tensor_dtype(spec.name)))
    if there != np.dtype(spec.dtype):
        raise SourceError(
            f"the engine's '{spec.name}' is {there}, the model's {spec.dtype}: TensorRT has no such tensors",
            hint="ONNX Runtime serves it",
        )


def _tensorrt() -> Any:  # the module
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise MissingExtra(f"TensorRT can't be imported: {error}", hint='pip install "ferryman[tensorrt]"') from error
    return tensorrt
