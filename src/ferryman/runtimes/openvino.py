"""Run OpenVINO models on the CPU."""

import io
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.engine import EngineRequest
from ferryman.core.errors import ConfigError, InputError, SourceError, StepError
from ferryman.core.privacy import forbid_telemetry
from ferryman.core.runtime import Stage
from ferryman.core.signature import Array, Signature, Tensors
from ferryman.runtimes._openvino_graph import add_stages, list_stages

_BLOB = "model.blob"


class OpenVINORuntime:
    """Run OpenVINO models on the CPU; compile ONNX models for this machine's."""

    name: ClassVar[str] = "openvino"
    formats: ClassVar[frozenset[str]] = frozenset({"openvino"})
    needs: ClassVar[tuple[str, ...]] = ("openvino",)
    extra: ClassVar[str] = "openvino"
    serves: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = ("server", "edge")
    builds_from: ClassVar[frozenset[str]] = frozenset({"onnx"})
    is_accelerator: ClassVar[bool] = False
    recipe: ClassVar[int] = 1

    def identity(self) -> dict[str, str]:
        """Name the processor and OpenVINO's version: another one of either reads no compiled model."""
        engine = _engine()
        return {
            "device": str(engine.get_property("CPU", "FULL_DEVICE_NAME")),
            "capabilities": " ".join(sorted(engine.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))),
            "machine": platform.machine(),
            "openvino": _version(),
        }

    def build(self, source: Artifact, folder: Path, request: EngineRequest) -> None:
        """Write an ONNX model as this machine's processor runs it, computed in float32."""
        if request.options:
            raise ConfigError(f"openvino engines have no option '{min(request.options)}'", hint="remove it")
        engine = _engine()
        try:
            compiled = engine.compile_model(engine.read_model(source.path), "CPU", _settings(request.threads))
            exported = compiled.export_model()
        except (RuntimeError, ValueError) as error:
            raise StepError(
                f"OpenVINO can't compile {source.path.name}: {_line(error)}", hint="ONNX Runtime serves it"
            ) from error
        (folder / _BLOB).write_bytes(exported.getvalue() if isinstance(exported, io.BytesIO) else exported)

    def load(self, artifact: Artifact, *, threads: int) -> "OpenVINOSession":
        """Load a folder with model.xml and model.bin, or what `build` wrote; raises SourceError for what is refused."""
        if (artifact.path / _BLOB).is_file():
            return OpenVINOSession(_import(artifact.path / _BLOB, threads), artifact.signature)
        engine, model = _read(artifact.path)
        return OpenVINOSession(_compile(engine, model, artifact.path, threads), artifact.signature)

    def stages(self, artifact: Artifact) -> list[Stage]:
        """List the float tensors that kept their name from the source graph, in topological order."""
        return list_stages(_read(artifact.path)[1])

    def trace(
        self, artifact: Artifact, inputs: Sequence[Tensors], tensors: Sequence[str]
    ) -> Iterator[dict[str, Array]]:
        """Give those of `tensors` that the model still has, as float32, for each of `inputs`.

        One answer holds all of `tensors` for one input. Of a quantized tensor it is the value after dequantization.
        """
        engine, model = _read(artifact.path)
        shown = add_stages(model, tensors)
        request = _compile(engine, model, artifact.path, threads=0).create_infer_request()
        for item in inputs:
            try:
                results = request.infer(dict(item), share_inputs=False)
            except (RuntimeError, TypeError, ValueError) as error:
                raise InputError(f"the model can't take an input of the trace: {_line(error)}") from error
            yield {name: np.array(results[index], dtype=np.float32) for name, index in shown.items()}


class OpenVINOSession:
    """Answer with one OpenVINO model; safe to call from several threads, each call has a request of its own."""

    releases_gil: ClassVar[bool] = True

    def __init__(self, compiled: Any, signature: Signature) -> None:  # openvino.CompiledModel
        self.signature = signature
        self._compiled = compiled
        self._idle: list[Any] = []  # openvino.InferRequest; append and pop of a list are atomic
        inputs = {name for port in compiled.inputs for name in port.get_names()}
        outputs = {name: index for index, port in enumerate(compiled.outputs) for name in port.get_names()}
        lost = [spec.name for spec in signature.inputs if spec.name not in inputs]
        lost += [spec.name for spec in signature.outputs if spec.name not in outputs]
        if lost:
            raise SourceError(f"the OpenVINO model has no tensor '{lost[0]}'", hint="convert it again from its source")
        self._ports = [(spec.name, compiled.outputs[outputs[spec.name]]) for spec in signature.outputs]

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give every output; raises InputError for what the model can't take."""
        self.signature.check(inputs)
        feeds = {name: _native(value) for name, value in inputs.items()}
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            results = request.infer(feeds, share_inputs=True, share_outputs=False)
            return {name: results[port] for name, port in self._ports}
        except (RuntimeError, TypeError, ValueError) as error:
            shapes = {name: list(value.shape) for name, value in inputs.items()}
            raise InputError(
                f"the model can't take these inputs ({shapes}): {_line(error)}",
                hint="some sizes of this model depend on each other",
            ) from error
        finally:
            self._idle.append(request)

    def close(self) -> None:
        """Free the model."""
        self._idle.clear()
        self._compiled = None


def _engine() -> Any:  # openvino.Core
    forbid_telemetry()
    import openvino

    return openvino.Core()


def _version() -> str:
    import openvino

    return str(openvino.get_version())


def _read(path: Path) -> tuple[Any, Any]:  # openvino.Core, openvino.Model
    file = path / "model.xml"
    missing = [name for name in ("model.xml", "model.bin") if not (path / name).is_file()]
    if missing:
        raise SourceError(f"{path} has no {missing[0]}", hint="an OpenVINO artifact is a folder with both files")
    engine = _engine()
    try:
        return engine, engine.read_model(file)
    except (RuntimeError, ValueError) as error:
        raise SourceError(f"OpenVINO can't read {file}: {_line(error)}", hint="convert it again") from error


def _import(file: Path, threads: int) -> Any:  # openvino.CompiledModel
    try:
        return _engine().import_model(io.BytesIO(file.read_bytes()), "CPU", _settings(threads))
    except (RuntimeError, ValueError) as error:
        raise SourceError(f"OpenVINO can't read {file}: {_line(error)}", hint="remove it: it is built anew") from error


def _compile(engine: Any, model: Any, path: Path, threads: int) -> Any:  # openvino's Core, Model, CompiledModel
    try:
        return engine.compile_model(model, "CPU", _settings(threads))
    except RuntimeError as error:
        raise SourceError(f"OpenVINO refuses {path}: {_line(error)}", hint="convert it again") from error


def _settings(threads: int) -> dict[str, Any]:  # OpenVINO's properties
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Processors with bfloat16 would otherwise use it unasked, with other answers than those that were verified.
        "INFERENCE_PRECISION_HINT": "f32",
        # Two models of a server would be pinned to the same cores.
        "ENABLE_CPU_PINNING": False,
    }


def _native(value: Array) -> Array:
    """Give an array in the form that the engine reads without a copy of its own: contiguous, native byte order."""
    native = value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
    return np.ascontiguousarray(native) if native.ndim else native


def _line(error: BaseException) -> str:
    """Give the last line that says something: OpenVINO's messages begin with its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:400]
