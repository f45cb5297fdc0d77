"""Find the outputs of a torch module, and which dimensions vary, from its inputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ferryman.core.errors import ConfigError, SourceError
from ferryman.core.signature import Array, Dimension, Signature, TensorSpec
from ferryman.sources._onnx_graph import dynamic_name

Module = Any  # torch.nn.Module or torch.jit.ScriptModule: torch's types are skipped by mypy
_BATCHES = (2, 3)
_SIZES, _SIZE_STEP = (64, 96), 64  # multiples of 32, which most vision networks need


def example_of(spec: TensorSpec, sizes: Mapping[str, int]) -> Array:
    """Make an input with the given sizes of named dimensions: seeded noise for floats, zeros for the rest."""
    shape = [dimension if isinstance(dimension, int) else sizes[dimension] for dimension in spec.shape]
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        raise ConfigError(
            f"[model] inputs: '{spec.name}' has dtype '{spec.dtype}', which torch modules don't take",
            hint="use a numpy dtype such as float32 or int64",
        ) from None
    if dtype.kind == "f":
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)


def dynamic_sizes(inputs: Sequence[TensorSpec], variant: int) -> dict[str, int]:
    """Choose a size for each dimension that varies: over 1, so that no exporter takes it for a constant."""
    sizes: dict[str, int] = {}
    for spec in inputs:
        for axis, dimension in enumerate(spec.shape):
            if isinstance(dimension, str):
                free = _SIZES[variant] + _SIZE_STEP * len(sizes)
                sizes.setdefault(dimension, _BATCHES[variant] if axis == 0 else free)
    return sizes


def probe_signature(module: Module, inputs: tuple[TensorSpec, ...]) -> Signature:
    """Call `module` with two sets of sizes and read its outputs; raises SourceError where it fails."""
    first_sizes, second_sizes = dynamic_sizes(inputs, 0), dynamic_sizes(inputs, 1)
    first = _call(module, inputs, first_sizes)
    second = _call(module, inputs, second_sizes) if first_sizes else first
    outputs = tuple(
        _output(name, one, second[name], {first_sizes[key]: key for key in reversed(first_sizes)})
        for name, one in first.items()
    )
    return Signature(inputs=inputs, outputs=outputs)


def _output(name: str, first: Any, second: Any, names: Mapping[int, str]) -> TensorSpec:  # torch.Tensor
    shape: list[Dimension] = []
    if len(first.shape) != len(second.shape):
        raise SourceError(f"output '{name}' changes its number of dimensions with the size of the inputs")
    for axis, (one, other) in enumerate(zip(first.shape, second.shape, strict=True)):
        shape.append(int(one) if one == other else names.get(int(one), dynamic_name(name, axis)))
    return TensorSpec(name=name, dtype=dtype_name(first.dtype), shape=tuple(shape))


def dtype_name(dtype: Any) -> str:  # torch.dtype
    """Give numpy's name of a torch dtype."""
    return str(dtype).removeprefix("torch.")


def _call(module: Module, inputs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> dict[str, Any]:  # torch.Tensor
    import torch

    arrays = [example_of(spec, sizes) for spec in inputs]
    try:
        with torch.no_grad():
            answer = module(*(torch.from_numpy(array) for array in arrays))
    except Exception as error:  # the user's own code
        shapes = ", ".join(f"{spec.name} {list(array.shape)}" for spec, array in zip(inputs, arrays, strict=True))
        words = (str(error).strip().splitlines() or [""])[-1]
        raise SourceError(
            f"the module fails on {shapes}: {type(error).__name__}: {words}",
            hint="check [model] inputs: a name in a shape stands for a size that may vary, a number for a fixed one",
        ) from error
    return named_outputs(answer)


def named_outputs(answer: Any) -> dict[str, Any]:  # what the module returns -> torch.Tensor
    """Name the tensors of a module's answer: "output", "output_0"..., or the keys of a dictionary."""
    import torch
    from torch.utils import _pytree as pytree

    leaves, _ = pytree.tree_flatten_with_path(answer)
    named: dict[str, Any] = {}  # torch.Tensor
    for path, leaf in leaves:
        if leaf is None:
            continue
        if not isinstance(leaf, torch.Tensor):
            raise SourceError(
                f"the module returns a {type(leaf).__name__}, not only tensors",
                hint="return a tensor, or a tuple or dictionary of tensors",
            )
        named[output_name(path)] = leaf
    if not named:
        raise SourceError("the module returns nothing", hint="return a tensor, or a tuple or dictionary of tensors")
    return named


def output_name(path: Sequence[Any]) -> str:  # keys of torch's pytree
    """Name a leaf of a module's answer by the way to it."""
    parts = [str(getattr(key, "idx", getattr(key, "key", getattr(key, "name", key)))) for key in path]
    if not parts:
        return "output"
    return "_".join(parts) if not parts[0].isdigit() else "_".join(["output", *parts])
