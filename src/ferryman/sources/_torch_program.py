"""Read the signature of a torch exported program."""

from typing import Any

from ferryman.core.errors import SourceError
from ferryman.core.signature import Dimension, Signature, TensorSpec
from ferryman.sources._onnx_graph import dynamic_name
from ferryman.sources._torch_shapes import dtype_name, output_name

Program = Any  # torch.export.ExportedProgram: torch's types are skipped by mypy


def program_signature(program: Program) -> Signature:
    """Give a program's inputs by their parameter names and its outputs by position or key."""
    symbols: dict[str, str] = {}
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = tuple(_spec(name, values.get(name), symbols) for name in program.graph_signature.user_inputs)
    names = [name for name in program.graph_signature.user_outputs if name is not None]
    titles = _output_titles(program, len(names))
    outputs = tuple(_spec(title, values.get(name), symbols) for title, name in zip(titles, names, strict=True))
    if not inputs or not outputs:
        raise SourceError(
            f"the exported program has {len(inputs)} inputs and {len(outputs)} outputs",
            hint="export a module that takes and returns tensors",
        )
    return Signature(inputs=inputs, outputs=outputs)


def _output_titles(program: Program, count: int) -> list[str]:
    from torch.utils import _pytree as pytree

    spec = program.call_spec.out_spec
    positions = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    leaves, _ = pytree.tree_flatten_with_path(positions)
    titles = [output_name(path) for path, _ in leaves]
    return titles if len(titles) == count else [f"output_{index}" for index in range(count)]


def _spec(name: str, value: Any, symbols: dict[str, str]) -> TensorSpec:  # a fake tensor of torch.export
    if not hasattr(value, "shape"):
        raise SourceError(
            f"'{name}' of the exported program is {value!r}, not a tensor",
            hint="export a module whose inputs and outputs are all tensors",
        )
    shape = tuple(_dimension(size, name, axis, symbols) for axis, size in enumerate(value.shape))
    return TensorSpec(name=name, dtype=dtype_name(value.dtype), shape=shape)


def _dimension(size: Any, name: str, axis: int, symbols: dict[str, str]) -> Dimension:  # int or torch.SymInt
    if isinstance(size, int):
        return size
    known = symbols.setdefault(str(size), dynamic_name(name, axis))
    return known
