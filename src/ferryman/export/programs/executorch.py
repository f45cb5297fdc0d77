"""Write an exported program of torch as an ExecuTorch program whose operators XNNPACK computes."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch.utils import _pytree as pytree

_WEIGHTED = ("conv", "linear", "addmm", "matmul", "aten.mm.", "bmm")


def convert(request: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """Write `target`; with `samples` (lists of arrays) convolutions and products are quantized to 8 bits."""
    flat = _Flat(torch.export.load(request["source"]))
    examples = tuple(torch.zeros(part["shape"], dtype=getattr(torch, part["dtype"])) for part in request["inputs"])
    program = torch.export.export(flat, examples, strict=False)
    if request["samples"]:
        program = torch.export.export(_quantized(program.module(), request, tell), examples, strict=False)
    tell("executorch", note="lowering")
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    left = _left(edge.exported_program().graph)
    try:
        made = edge.to_executorch()
    except RuntimeError as error:
        raise Refused(_reason(error, left), hint="export the model without these operators") from error
    shapes = [list(node.meta["val"].shape) for node in edge.exported_program().graph.output_node().args[0]]
    Path(request["target"]).write_bytes(made.buffer)
    return {"shapes": shapes, "left": left}


def _quantized(module: Any, request: dict[str, Any], tell: Callable[..., None]) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    _unshare(module)
    how = get_symmetric_quantization_config(is_per_channel=bool(request["per_channel"]))
    quantizer = XNNPACKQuantizer().set_global(how)
    if request["exclude_tail"] or request["exclude_head"]:
        quantizer.set_filter_function(lambda node: node.name not in _last(node.graph, request["exclude_head"]))
    watched = prepare_pt2e(module, quantizer)
    samples = request["samples"]
    with torch.no_grad():
        for done, sample in enumerate(samples, 1):
            watched(*(torch.from_numpy(array.copy()) for array in sample))
            tell("executorch", done=done, total=len(samples), note="calibrating")
    return convert_pt2e(watched)


def _unshare(module: Any) -> None:
    """Give each layer weights of its own: of those that share some, the quantizer leaves all but one half in float."""
    graph = module.graph
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        for user in list(node.users)[1:]:
            owner, _, name = node.target.rpartition(".")
            held = module.get_submodule(owner)
            own = next(free for number in itertools.count(1) if not hasattr(held, free := f"{name}_{number}"))
            value = getattr(held, name)
            if isinstance(value, torch.nn.Parameter):
                held.register_parameter(own, torch.nn.Parameter(value.detach().clone(), requires_grad=False))
            else:
                held.register_buffer(own, value.detach().clone())
            with graph.inserting_before(user):
                copied = graph.get_attr(f"{owner}.{own}" if owner else own)
            copied.meta = dict(node.meta)
            user.replace_input_with(node, copied)
    module.recompile()


def _last(graph: Any, with_weights: bool) -> set[str]:
    """Name the operators with no weighted one behind them: decoding; `with_weights` the last weighted ones, too."""
    feeds_weights: set[Any] = set()
    found = set()
    for node in reversed(graph.nodes):
        reaches = node in feeds_weights
        is_weighted = any(name in str(node.target) for name in _WEIGHTED) and node.op == "call_function"
        if not reaches and (with_weights or not is_weighted):
            found.add(node.name)
        if reaches or is_weighted:
            feeds_weights.update(node.all_input_nodes)
    return found


class _Flat(torch.nn.Module):
    """Take and give tensors in a row, whatever the program's own arguments are."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.module = program.module()
        self.spec = program.call_spec.in_spec

    def forward(self, *tensors: Any) -> Any:
        positional, named = pytree.tree_unflatten(list(tensors), self.spec)
        return tuple(leaf for leaf in pytree.tree_leaves(self.module(*positional, **named)) if leaf is not None)


def _left(graph: Any) -> list[str]:
    """Name the operators that XNNPACK doesn't take: the portable kernels compute them."""
    return sorted(
        {
            str(node.target).removeprefix("<EdgeOpOverload: ").split(">")[0]
            for node in graph.nodes
            if node.op == "call_function" and "EdgeOpOverload" in type(node.target).__name__
        }
    )


def _reason(error: BaseException, left: list[str]) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"ExecuTorch can't write this model ({' '.join(lines)[:300]}); outside XNNPACK: {', '.join(left)[:200]}"
