"""Write an exported program as TorchScript source: every operator as it is, sizes read from the tensors."""

import hashlib
import io
import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ferryman.core.errors import StepError
from ferryman.export._torch.node import Tensor
from ferryman.export._torch.program import Program, failures_told, repacked, write_whole

Script = Any  # torch.jit.ScriptModule: torch's types are skipped by mypy
FxNode = Any  # torch.fx.Node

_SIGNS = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//", operator.truediv: "/",
    operator.mod: "%", operator.pow: "**", operator.eq: "==", operator.ne: "!=", operator.lt: "<", operator.le: "<=",
    operator.gt: ">", operator.ge: ">=",
}  # fmt: skip
_CALLS = {torch.sym_max: "max", torch.sym_min: "min", torch.sym_float: "float", torch.sym_int: "int", math.floor: "int"}
_SAID = ("_assert", "sym_constrain_range", "_check")
"""Parts of names of operators that only state what the tracer found."""
_OTHERWISE: dict[str, Callable[[list[str]], str]] = {
    "aten::sym_size.int": lambda words: f"{words[0]}.size({words[1]})",
    "aten::sym_numel": lambda words: f"{words[0]}.numel()",
    "aten::lift_fresh_copy": lambda words: f"{words[0]}.clone()",
    "aten::alias": lambda words: words[0],
}


def script(program: Program, *, step: str) -> Script:
    """Compile a program to a script module that takes its inputs by position and gives a tensor or a tuple of them."""
    source = _Source(program, step)
    text = source.text()
    with failures_told(step, "TorchScript refuses the program"):
        module = _holder_of(hashlib.sha256(text.encode()).hexdigest()[:16])(source.state)
        if not module._c._has_method("forward"):
            module.define(text)
    return module.eval()


def save(module: Script, path: Path, *, freeze: bool, step: str) -> None:
    """Write a script module as equal bytes each time, whole or not at all."""
    with failures_told(step, "TorchScript can't write the module"):
        written = io.BytesIO()
        torch.jit.save(torch.jit.freeze(module) if freeze else module, written)
        content = repacked(written.getvalue(), _without_numbers)
    write_whole(path, content)


def _without_numbers(name: str, record: bytes) -> tuple[str, bytes] | None:
    """Take out what differs between runs: torch's count of frozen classes, and where each line came from."""
    if name.endswith(".debug_pkl"):
        return None
    if name.startswith("code/") or name == "data.pkl":
        record = re.sub(rb"___torch_mangle_\d+", b"frozen", record)
    return re.sub(r"___torch_mangle_\d+", "frozen", name), record


class _Holder(torch.jit.ScriptModule):  # type: ignore[misc]  # torch's types are skipped by mypy
    """Hold the tensors that a source names."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            if isinstance(tensor, torch.nn.Parameter):
                self.register_parameter(name, torch.nn.Parameter(tensor.detach(), requires_grad=False))
            else:
                self.register_buffer(name, tensor.detach())


@cache
def _holder_of(digest: str) -> Any:  # type[_Holder]
    """Give one class for each source: torch numbers classes of equal names, and writes the number into the file."""
    return type(f"Model_{digest}", (_Holder,), {"__module__": "ferryman", "__doc__": "Hold one program's tensors."})


@dataclass
class _Source:
    """Gather the lines of one program's `forward`, and the tensors that it names."""

    program: Program
    step: str
    state: dict[str, Tensor] = field(default_factory=dict)

    def text(self) -> str:
        signature = self.program.graph_signature
        if signature.buffers_to_mutate or getattr(signature, "user_inputs_to_mutate", None):
            raise StepError(
                f"{self.step}: the program changes its own buffers or inputs",
                hint="call model.eval() before torch.export.export",
            )
        nodes = list(self.program.graph.nodes)
        inputs = [node.name for node in nodes if node.op == "placeholder" and node.name in signature.user_inputs]
        lines = [line for node in nodes for line in self._lines(node)]
        arguments = "".join(f", {name}: Tensor" for name in inputs)
        return "\n    ".join([f"def forward(self{arguments}):", *lines]) + "\n"

    def _lines(self, node: FxNode) -> Iterator[str]:
        if node.op == "placeholder":
            yield from self._state_of(node.name)
        elif node.op == "output":
            leaves = [self._word(leaf) for leaf in node.args[0] if leaf is not None]
            yield f"return {leaves[0]}" if len(leaves) == 1 else f"return ({', '.join(leaves)})"
        elif node.op == "call_function" and not any(part in str(node.target) for part in _SAID):
            yield f"{node.name} = {self._call(node)}"
        # What is left are names of graphs within this one: who calls one of them is refused.

    def _state_of(self, name: str) -> Iterator[str]:
        """Read a parameter, buffer or constant where the program has it for an input of its graph."""
        signature = self.program.graph_signature
        if name in signature.user_inputs:
            return
        if name in signature.inputs_to_parameters:
            self.state[name] = self.program.state_dict[signature.inputs_to_parameters[name]]
        elif name in signature.inputs_to_buffers:
            full = signature.inputs_to_buffers[name]
            self.state[name] = self.program.state_dict.get(full, self.program.constants.get(full))
        else:
            self.state[name] = self.program.constants[signature.inputs_to_lifted_tensor_constants[name]]
        yield f"{name} = self.{name}"

    def _call(self, node: FxNode) -> str:
        words = [self._word(argument) for argument in node.args]
        if node.target is operator.getitem:
            return f"{words[0]}[{words[1]}]"
        if node.target is operator.neg:
            return f"-{words[0]}"
        if node.target in _SIGNS:
            return f"{words[0]} {_SIGNS[node.target]} {words[1]}"
        if node.target in _CALLS:
            return f"{_CALLS[node.target]}({', '.join(words)})"
        if not isinstance(node.target, torch._ops.OpOverload):
            raise self._refused(node)
        if other := _OTHERWISE.get(node.target.name().removesuffix(".default")):
            return other(words)
        words += [f"{key}={self._word(value)}" for key, value in node.kwargs.items()]
        space, name = node.target._schema.name.split("::")
        return f"torch.ops.{space}.{name}({', '.join(words)})"

    def _word(self, value: Any) -> str:  # what torch.fx holds as an argument
        if isinstance(value, torch.fx.Node):
            return str(value.name)
        if isinstance(value, list | tuple):
            return f"[{', '.join(self._word(part) for part in value)}]"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, torch.device):
            return f'torch.device("{value}")'
        return repr(value)  # numbers, booleans, None, text; torch's dtypes and layouts, which write themselves so

    def _refused(self, node: FxNode) -> StepError:
        return StepError(
            f"{self.step}: '{node.name}' calls {node.target}, which TorchScript does not have",
            hint="export it in another format; control flow and custom Python operators have no way to TorchScript",
        )
