"""Read a LiteRT file: its tensors by the names that users know, and its engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.errors import SourceError
from ferryman.core.signature import Array, Signature, TensorSpec

Interpreter = Any  # ai_edge_litert.interpreter.Interpreter: not imported at module level

IDENTIFIER = b"TFL3"


@dataclass(frozen=True, slots=True)
class Port:
    """Hold one input or output: its name, its place in the file, and how whole numbers stand for real ones."""

    name: str
    index: int
    dtype: str
    shape: tuple[int, ...]  # -1: any size
    scale: float = 0.0
    zero_point: int = 0

    @property
    def is_quantized(self) -> bool:
        """Tell whether its whole numbers stand for real ones."""
        return self.scale != 0.0

    def dequantize(self, value: Array) -> Array:
        """Give the float32 numbers that quantized ones stand for; anything else as it is."""
        if not self.is_quantized:
            return value
        return np.asarray((value.astype(np.float32) - self.zero_point) * np.float32(self.scale), np.float32)

    def quantize(self, value: Array) -> Array:
        """Give the whole numbers that stand for real ones, as near as they go."""
        limits = np.iinfo(self.dtype)
        whole = np.rint(value.astype(np.float32) / np.float32(self.scale)) + self.zero_point
        return np.asarray(np.clip(whole, limits.min, limits.max), self.dtype)

    @property
    def spec(self) -> TensorSpec:
        """Describe it as it lies in the file."""
        names = ("batch", *(f"dim{axis}" for axis in range(1, len(self.shape))))
        sizes = tuple(size if size >= 0 else name for size, name in zip(self.shape, names, strict=False))
        return TensorSpec(name=self.name, dtype=self.dtype, shape=sizes)


@dataclass(frozen=True, slots=True)
class Ports:
    """Hold all inputs and outputs, in the file's order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def signature(self) -> Signature:
        """Describe the model: inputs as they lie in the file, outputs as the numbers that they stand for."""
        real = [
            port.spec.model_copy(update={"dtype": "float32"}) if port.is_quantized else port.spec
            for port in self.outputs
        ]
        return Signature(inputs=tuple(port.spec for port in self.inputs), outputs=tuple(real))


def check_file(path: Path) -> None:
    """Raise SourceError unless there is a file with the format's mark."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}", hint="the artifact was moved or removed") from None
    if head[4:8] != IDENTIFIER:
        raise SourceError(f"{path} is not a LiteRT model: it doesn't have the mark TFL3", hint="convert it again")


def start_engine(path: Path, *, threads: int, traces: bool = False) -> Interpreter:
    """Make an interpreter with its memory allocated; raises SourceError in LiteRT's words.

    With `traces` every tensor keeps its value, and no delegate hides any. LiteRT writes a note to stderr when it makes
    its first delegate: turning stderr away would turn it away from every other thread, too.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if traces else OpResolverType.AUTO
    try:
        engine = Interpreter(
            str(path),
            num_threads=max(1, threads),
            experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=traces,
        )
        engine.allocate_tensors()
    except (ValueError, RuntimeError, MemoryError) as error:
        raise SourceError(f"LiteRT refuses {path.name}: {line_of(error)}", hint=_hint(str(error))) from error
    return engine


def ports_of(engine: Interpreter, path: Path) -> Ports:
    """Give inputs and outputs by the names of the file's signature, or of its tensors where it has none."""
    keys = engine._get_full_signature_list()
    inputs, outputs = engine.get_input_details(), engine.get_output_details()
    named: dict[str, dict[str, int]] = next(iter(keys.values())) if len(keys) == 1 else {}
    try:
        return Ports(
            _ports(inputs, named.get("inputs", {}), path),
            _ports(outputs, named.get("outputs", {}), path),
        )
    except ValueError as error:
        raise SourceError(f"{path} has a signature that can't be read: {error}", hint="convert it again") from error


def line_of(error: BaseException) -> str:
    """Give the message of an error of LiteRT on one line, without its own source files."""
    text = str(error).replace("Node number", "; node number")
    words = [word for word in text.split() if "/kernels/" not in word and not word.startswith("tflite/")]
    return " ".join(words)[:400] or type(error).__name__


def _ports(details: Sequence[dict[str, Any]], names: dict[str, int], path: Path) -> tuple[Port, ...]:  # LiteRT's own
    by_index = {index: name for name, index in names.items()}
    ports: list[Port] = []
    for detail in details:
        name = by_index.get(detail["index"], detail["name"]) or f"tensor{detail['index']}"
        if name in {port.name for port in ports}:
            name = f"{name}_{detail['index']}"
        dtype = np.dtype(detail["dtype"])
        if dtype.kind not in "fiub":
            raise SourceError(f"{path}: tensor '{name}' is text, which can't be served", hint="export it without")
        shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
        ports.append(Port(name, detail["index"], dtype.name, tuple(int(size) for size in shape), *scaling(detail)))
    return tuple(ports)


def scaling(detail: dict[str, Any]) -> tuple[float, int]:  # LiteRT's own
    """Give scale and zero point of a tensor; (0, 0) where it isn't quantized, or not as a whole."""
    found = detail["quantization_parameters"]
    if len(found["scales"]) != 1 or np.dtype(detail["dtype"]).kind not in "iu":
        return 0.0, 0
    return float(found["scales"][0]), int(found["zero_points"][0])


def _hint(words: str) -> str:
    if "unresolved custom op" in words or "Flex" in words:
        return "it uses operators that LiteRT itself doesn't have: convert it with built-in operators only"
    return "is it a whole, valid .tflite file?"
