"""Run ONNX models with ONNX Runtime."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import FerrymanError, InputError, SourceError
from ferryman.core.privacy import forbid_telemetry
from ferryman.core.runtime import Stage
from ferryman.core.signature import Array, Signature, Tensors, TensorSpec
from ferryman.runtimes._onnx_graph import ask_for_exact_products, list_stages, trace_stages

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


class OnnxRuntime:
    """Run ONNX models with ONNX Runtime on the CPU."""

    name: ClassVar[str] = "onnx"
    formats: ClassVar[frozenset[str]] = frozenset({"onnx"})
    needs: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = ("server", "edge")

    def load(self, artifact: Artifact, *, threads: int) -> "OnnxSession":
        """Load an ONNX file; raises SourceError where ONNX Runtime refuses it."""
        return OnnxSession(artifact.path, threads=threads)

    def stages(self, artifact: Artifact) -> list[Stage]:
        """List the float tensors that the graph computes, in topological order."""
        return list_stages(artifact.path)

    def trace(
        self, artifact: Artifact, inputs: Sequence[Tensors], tensors: Sequence[str]
    ) -> Iterator[dict[str, Array]]:
        """Give those of `tensors` that the graph still has, as float32, for each of `inputs`.

        One answer holds all of `tensors` for one input: ask for them in parts where that is too much memory. Of a
        quantized tensor it is the value after dequantization.
        """
        yield from trace_stages(artifact.path, inputs, tensors)


class OnnxSession:
    """Answer with one ONNX model; safe to call from several threads."""

    releases_gil: ClassVar[bool] = True

    def __init__(self, path: Path, *, threads: int) -> None:
        forbid_telemetry()
        import onnxruntime

        self._refusals = _errors_of(onnxruntime)
        self._path, self._threads = path, threads
        if not path.is_file():
            raise SourceError(f"there is no ONNX file {path}", hint="the artifact was moved or removed")
        self._engine: Any  # onnxruntime.InferenceSession
        self._open(is_exact=True)
        self.signature = Signature(
            inputs=tuple(_spec(node) for node in self._engine.get_inputs()),
            outputs=tuple(_spec(node) for node in self._engine.get_outputs()),
        )
        self._outputs = [spec.name for spec in self.signature.outputs]
        self._is_dynamic = any(isinstance(size, str) for spec in self.signature.inputs for size in spec.shape)

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give every output; raises InputError for what the model can't take."""
        self.signature.check(inputs)
        feeds = {name: _native(value) for name, value in inputs.items()}
        try:
            return dict(zip(self._outputs, self._engine.run(self._outputs, feeds), strict=True))
        except self._refusals as error:
            if self._is_exact and "zero_point" in str(error):
                # ONNX Runtime 1.31 gives 8-bit weights of one scale a channel a single zero point where they had none.
                self._open(is_exact=False)
                return self.infer(inputs)
            # Where sizes are free, a node that fails has met a size that the graph can't take.
            if self._is_dynamic or "INVALID_ARGUMENT" in str(error):
                shapes = {name: list(value.shape) for name, value in inputs.items()}
                raise InputError(
                    f"the model can't take these inputs ({shapes}): {reason_of(error)}",
                    hint="some sizes of this model depend on each other",
                ) from error
            raise FerrymanError(f"ONNX Runtime failed: {reason_of(error)}") from error

    def close(self) -> None:
        """Free the model."""
        self._engine = None

    def _open(self, *, is_exact: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # A plan of a call's whole memory makes it no faster, and keeps up to twice as much (25 MB of YOLOv8n's 43 MB).
        options.enable_mem_pattern = False
        options.log_severity_level = 4  # what goes wrong comes as an exception; the log would say it twice
        # Threads that spin between calls take the cores from the other models of a server.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._is_exact = is_exact and ask_for_exact_products(options, self._path)
        try:
            self._engine = onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except self._refusals as error:
            if self._is_exact:  # the pass that makes products exact can't do with weights that layers share
                self._open(is_exact=False)
                return
            raise SourceError(
                f"ONNX Runtime refuses {self._path.name}: {reason_of(error)}", hint="is it a whole, valid ONNX file?"
            ) from error


def reason_of(error: BaseException) -> str:
    """Give the message of an ONNX Runtime error without its code, on one line."""
    return " ".join(str(error).rsplit(" : ", 1)[-1].split())[:400]


def _errors_of(onnxruntime: Any) -> tuple[type[Exception], ...]:  # the module
    """Collect what ONNX Runtime raises: each status code is an exception of its own, without a common base."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, TypeError)


def _spec(node: Any) -> TensorSpec:  # onnxruntime.NodeArg
    if node.type not in _DTYPES:
        raise SourceError(
            f"'{node.name}' is a {node.type}; only plain tensors can be served",
            hint="export without it (sklearn: zipmap=False)",
        )
    shape = tuple(
        size if isinstance(size, int) and size >= 0 else size if isinstance(size, str) and size else f"dim{axis}"
        for axis, size in enumerate(node.shape)
    )
    return TensorSpec(name=node.name, dtype=_DTYPES[node.type], shape=shape)


def _native(value: Array) -> Array:
    """Give an array in the form that the engine reads: native byte order, text as str objects."""
    if value.dtype.kind == "S":
        return np.char.decode(value.astype(np.bytes_), "utf-8").astype(object)
    if value.dtype.kind == "U":
        return value.astype(object)
    return value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
