"""Make, save and load torch's exported programs: sizes that vary stay so, and nothing tells of the machine."""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ferryman.core.errors import FerrymanError, SourceError, StepError
from ferryman.core.signature import Array, Signature, TensorSpec

Module = Any  # torch.nn.Module: torch's types are skipped by mypy
Program = Any  # torch.export.ExportedProgram
_BATCH, _SIZE, _SIZE_STEP = 2, 64, 64
_WRITTEN_ANYWAY = ("version", ".data/version", ".data/serialization_id")
_NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


def example_inputs(signature: Signature, *, batch: int = _BATCH) -> list[Array]:
    """Make inputs: seeded noise for floats, zeros else; `batch` for what varies in front, multiples of 64 elsewhere."""
    sizes: dict[str, int] = {}
    for spec in signature.inputs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str):
                sizes.setdefault(size, batch if axis == 0 else _SIZE + _SIZE_STEP * len(sizes))
    return [_example(spec, sizes) for spec in signature.inputs]


def _example(spec: TensorSpec, sizes: Mapping[str, int]) -> Array:
    shape = [size if isinstance(size, int) else sizes[size] for size in spec.shape]
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        raise StepError(f"the input '{spec.name}' is {spec.dtype}, which torch has no tensors for") from None
    if dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)


def export(module: Module, signature: Signature, *, step: str) -> Program:
    """Trace a module with the signature's sizes; raises StepError where it fixes one that is said to vary."""
    examples = tuple(torch.from_numpy(array) for array in example_inputs(signature))
    names = {size: torch.export.Dim(_plain(size), min=1) for size in _varying(signature)}
    shapes = tuple(
        {axis: names[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in signature.inputs
    )
    # Of heights and widths often only multiples of 32 fit: that is then asked when the program runs.
    asks = any(isinstance(size, str) for spec in signature.inputs for size in spec.shape[1:])
    with failures_told(step, "torch can't export the model"):
        return torch.export.export(
            module, examples, dynamic_shapes=shapes, strict=False, prefer_deferred_runtime_asserts_over_guards=asks
        )


def _varying(signature: Signature) -> list[str]:
    return sorted({size for spec in signature.inputs for size in spec.shape if isinstance(size, str)})


def _plain(name: str) -> str:
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain.isidentifier() else f"size_{plain}"


def save(program: Program, path: Path) -> None:
    """Write a program as equal bytes each time, whole or not at all: without traces of where it was made."""
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for note in _NOTES:
                node.meta.pop(note, None)
    program._example_inputs = None  # as large as what the model is asked, and of no use to who runs it
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content)
    write_whole(path, content.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StepError(f"{path} can't be written: {error.strerror}", hint="make room on that disk") from error


def repacked(content: bytes, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> bytes:
    """Write an archive of torch anew; `change` gives each record's new name and bytes, or None to leave it out."""
    written = io.BytesIO()
    reader, writer = torch._C.PyTorchFileReader(io.BytesIO(content)), torch._C.PyTorchFileWriter(written)
    for name in reader.get_all_records():
        if name not in _WRITTEN_ANYWAY and (record := change(name, reader.get_record(name))) is not None:
            writer.write_record(*record, len(record[1]))
    writer.write_end_of_file()
    return written.getvalue()


def load(path: Path) -> Program:
    """Load a program; raises SourceError for a damaged one."""
    try:
        with quiet(), path.open("rb") as stream:  # of a path, torch wants the name to end in .pt2
            return torch.export.load(stream)
    except Exception as error:  # torch raises anything for a damaged archive, RuntimeError to KeyError
        raise SourceError(
            f"{path} can't be loaded by torch.export: {first_words(error)}", hint="open the source again"
        ) from error


def give_examples(program: Program, signature: Signature) -> None:
    """Give a program the inputs that compilers ask for, where it has none with it."""
    if program.example_inputs is None:
        tensors = [torch.from_numpy(array) for array in example_inputs(signature)]
        program.example_inputs = pytree.tree_unflatten(tensors, program.call_spec.in_spec)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's notices about its own parts away from the user, who can't act on them."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category)
        yield


@contextmanager
def failures_told(step: str, what: str) -> Iterator[None]:
    """Turn whatever torch raises into a StepError."""
    try:
        with quiet(), torch.no_grad():
            yield
    except FerrymanError:
        raise
    except Exception as error:  # torch's exporters raise anything
        raise StepError(f"{step}: {what}: {first_words(error)}", hint=_hint(error)) from error


def first_words(error: BaseException) -> str:
    """Give the kind and the first lines of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:400]}"


def _hint(error: BaseException) -> str:
    if "onstraint" in str(error) or "specialized" in str(error):
        return "the model fixes a size that its inputs call dynamic: export it with that size as a number"
    return "serve the model in its own format"
