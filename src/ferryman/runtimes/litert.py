"""Run LiteRT (TensorFlow Lite) models."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError, SourceError
from ferryman.core.runtime import Stage
from ferryman.core.signature import Array, Signature, Tensors
from ferryman.runtimes._litert_file import Interpreter, Port, Ports, check_file, line_of, ports_of, start_engine
from ferryman.runtimes._litert_graph import feed, list_stages, precision_of, trace_stages


class LiteRTRuntime:
    """Run LiteRT (TensorFlow Lite) models on the CPU, with XNNPACK where it has the operators."""

    name: ClassVar[str] = "litert"
    formats: ClassVar[frozenset[str]] = frozenset({"litert"})
    needs: ClassVar[tuple[str, ...]] = ("ai_edge_litert",)
    extra: ClassVar[str] = "litert"
    serves: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = ("server", "edge", "phone")

    def load(self, artifact: Artifact, *, threads: int) -> "LiteRTSession":
        """Load a .tflite file; raises SourceError where LiteRT refuses it.

        An artifact whose signature is empty gets the file's own. One that says float32 of an input that the file has
        quantized gets its inputs quantized here.
        """
        check_file(artifact.path)
        return LiteRTSession(artifact.path, artifact.signature, threads=threads)

    def stages(self, artifact: Artifact) -> list[Stage]:
        """List the tensors of real numbers that the operators compute, in topological order."""
        check_file(artifact.path)
        return list_stages(artifact.path)

    def precision(self, artifact: Artifact) -> str:
        """Name what the operators compute with: "fp32", "int8", or "int8-dynamic" where only weights are."""
        check_file(artifact.path)
        return precision_of(artifact.path)

    def trace(
        self, artifact: Artifact, inputs: Sequence[Tensors], tensors: Sequence[str]
    ) -> Iterator[dict[str, Array]]:
        """Give those of `tensors` that the file still has, as float32, for each of `inputs`.

        Of a quantized tensor it is the value after dequantization. Runs without XNNPACK, which hides tensors.
        """
        check_file(artifact.path)
        yield from trace_stages(artifact.path, inputs, tensors)


class LiteRTSession:
    """Answer with one LiteRT model; safe to call from several threads, each call has an interpreter of its own.

    Quantized outputs are answered as the float32 numbers that they stand for; inputs are taken as the file has them,
    and `scaling` tells scale and zero point of the quantized ones.
    """

    releases_gil: ClassVar[bool] = True

    def __init__(self, path: Path, signature: Signature, *, threads: int) -> None:
        engine = start_engine(path, threads=threads)
        ports = ports_of(engine, path)
        self.signature = _agreed(ports, signature, path)
        self._path = path
        self._threads = threads
        self._inputs = {port.name: port for port in ports.inputs}
        outputs = {port.name: port for port in ports.outputs}
        self._outputs = [outputs[spec.name] for spec in self.signature.outputs]
        self.scaling = {port.name: (port.scale, port.zero_point) for port in ports.inputs if port.is_quantized}
        self._idle: list[Interpreter] = [engine]  # append and pop of a list are atomic

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give every output; raises InputError for what the model can't take."""
        self.signature.check(inputs)
        values = {self._inputs[name].index: _asked(value, self._inputs[name]) for name, value in inputs.items()}
        try:
            engine = self._idle.pop()
        except IndexError:
            engine = start_engine(self._path, threads=self._threads)
        try:
            feed(engine, values)
            engine.invoke()
            answer = {port.name: _answer(engine, port) for port in self._outputs}
        except (ValueError, RuntimeError) as error:
            # A failed call may leave an interpreter without its memory: it isn't used again.
            shapes = {name: list(value.shape) for name, value in inputs.items()}
            raise InputError(
                f"the model can't take these inputs ({shapes}): {line_of(error)}",
                hint="some sizes of this model depend on each other",
            ) from error
        self._idle.append(engine)
        return answer

    def close(self) -> None:
        """Free the model."""
        self._idle.clear()


def _agreed(ports: Ports, wanted: Signature, path: Path) -> Signature:
    """Give the artifact's signature where the file has all of it, or the file's own where the artifact has none."""
    own = ports.signature
    if not wanted.inputs:
        return own
    quantized = {port.name for port in ports.inputs if port.is_quantized}
    for mine, theirs in ((own.inputs, wanted.inputs), (own.outputs, wanted.outputs)):
        there = {spec.name: spec for spec in mine}
        for spec in theirs:
            found = there.get(spec.name)
            takes = {found.dtype, "float32"} if found and found.name in quantized else {found.dtype if found else ""}
            if found is None or spec.dtype not in takes or len(found.shape) != len(spec.shape):
                has = ", ".join(f"{one.name} {one.dtype} {list(one.shape)}" for one in mine)
                raise SourceError(
                    f"{path.name} has no tensor '{spec.name}' of {spec.dtype} {list(spec.shape)}; it has {has}",
                    hint="convert it again from its source",
                )
    return wanted


def _answer(engine: Interpreter, port: Port) -> Array:
    return port.dequantize(engine.get_tensor(port.index))


def _asked(value: Array, port: Port) -> Array:
    native = _native(value)
    return port.quantize(native) if port.is_quantized and native.dtype != port.dtype else native


def _native(value: Array) -> Array:
    """Give an array in the form that the engine reads: contiguous, native byte order."""
    native = value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))
    return np.ascontiguousarray(native) if native.ndim else native
